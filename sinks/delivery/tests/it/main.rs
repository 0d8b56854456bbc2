//! What a sink may rely on when it hands its frames to a delivery.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod disk;
mod legacy;
mod numbers;
mod outage;
mod packed;
mod properties;
mod rig;
mod spool;
mod storm;
mod unacknowledged;
mod verdicts;
mod window;
