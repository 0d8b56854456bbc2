//! The front of a queue.

use std::collections::VecDeque;

/// Takes the first one out if it is such a one.
pub(crate) fn pop_if<T>(queue: &mut VecDeque<T>, is_such: impl FnOnce(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(is_such) { queue.pop_front() } else { None }
}
