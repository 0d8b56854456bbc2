//! The sink with real programs: what they get, what becomes of it, and how they end.

#![expect(clippy::expect_used, reason = "what a test sets up itself should stop it when it fails")]

mod answers;
mod encoding;
mod ends;
mod lines;
mod rig;
mod socket;
