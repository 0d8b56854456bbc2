//! What batches of all formats begin with.

use ebpf_process_core::View;

use crate::text::{float, list, moment};

/// The beginning of a batch's line; the rest of it has no number.
pub fn head(stream: u128, number: u64, resent: bool) -> Vec<u8> {
    format!("{{\"batch\":{number},\"stream\":\"{stream:032x}\",\"resent\":{resent},").into_bytes()
}

/// The most that the beginning takes.
pub(crate) const HEAD: usize = 96;

/// Appends what follows it: what is said of the view as a whole.
pub(crate) fn of_view(view: View<'_>, line: &mut Vec<u8>) {
    line.extend_from_slice(b"\"time\":");
    moment(view.tick().wall, line);
    line.extend_from_slice(b",\"elapsed\":");
    float(view.elapsed().as_secs_f64(), line);
    if view.left_out().len() > 0 {
        line.extend_from_slice(b",\"left_out\":");
        list(view.left_out(), line);
    }
}
