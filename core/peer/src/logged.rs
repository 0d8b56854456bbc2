//! What the log hears in a test.

use ebpf_process_core::testkit;

/// The lines that are logged on this thread meanwhile: each its level, what it says and of whom.
pub(crate) fn logged(act: impl FnOnce()) -> Vec<String> {
    testkit::logged(act).iter().map(ToString::to_string).collect()
}
