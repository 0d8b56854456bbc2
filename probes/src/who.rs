//! Which process it was: records by process, and the rows that are made of them.
//!
//! ```text
//! elements (mapped) --+
//! ring of ends -------+-> Table -> Inbox of each probe -> Rows: process, app, cgroup, subtree
//! ring of groups -----+
//! ```
//!
//! All numbers of a probe come from one read of one table: what the table gains is what the host gains, and each gain
//! has one doer. So the rows of a kind gain at each tick what the host gains.

mod abi;
mod apps;
mod groups;
mod hooks;
mod identity;
mod inbox;
mod labels;
mod options;
mod places;
mod process;
mod remembered;
mod rows;
mod subtree;
mod table;
mod users;

pub(crate) use hooks::hooks;
pub(crate) use inbox::SharedInbox;
pub(crate) use options::{By, ProcessLabel, WhoOptions};
pub(crate) use rows::{Feeds, Rows, kinds};
pub(crate) use table::{ELEMENTS, Sizes, Table, records, vacate};
