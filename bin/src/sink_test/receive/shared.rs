//! What the threads of a receiver have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebpf_process_core::testkit::conformance::Steering;
use parking_lot::Mutex;

use super::stored::Stored;

/// What all threads of a receiver share.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    pub(super) stored: Arc<Mutex<Stored>>,
    pub(super) steering: Steering,
    /// How often it was told to refuse.
    pub(super) refusals: Arc<AtomicUsize>,
}

impl Shared {
    /// The answer of these by which it refuses now.
    pub(super) fn refusal<'a>(&self, answers: &[&'a str]) -> &'a str {
        let told = self.refusals.load(Ordering::Acquire);
        answers[told.saturating_sub(1) % answers.len()]
    }
}
