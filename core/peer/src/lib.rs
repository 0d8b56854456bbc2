//! The connection to a program in any language, or to a Unix socket where one listens: what a sink and a probe have in
//! common that talk to one.
//!
//! A [`Target`] says what is started or connected to; it [opens](Target::open) a [`Peer`], the connection, which gives
//! [`Event`]s. What the program writes to its standard error are its [`Complaints`], what it says wrongly its [`Mistakes`];
//! an [`Ending`] ends it in the order that `docs/exec-protocol.md` promises; [`Why`] a conversation is over says whether another
//! program is started, and [`Restart`] when.
//! A [`Bell`] wakes the one thread that waits for all of that.
//!
//! Nothing here knows what the lines mean.

mod bell;
mod cleaned;
mod complaints;
mod connection;
mod conversation;
mod ending;
mod lines;
#[cfg(test)]
mod logged;
mod mistakes;
mod owner;
mod peer;
mod restart;
mod target;

pub use bell::{Bell, Ears};
pub use cleaned::{TOLD, cleaned, told};
pub use complaints::Complaints;
pub use connection::Connection;
pub use conversation::{After, Why};
pub use ending::{End, Ending, LAST_CHANCE};
pub use mistakes::{Mistakes, TooMany};
pub use owner::Owner;
pub use peer::{Event, Peer};
pub use restart::Restart;
pub use target::{Obstacle, Target};
