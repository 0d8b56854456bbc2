//! Waiting for a condition: looked at often, with a deadline, never for a fixed time.

use crate::{Failure, Outcome};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes that happens at all, on an emulated processor of an overloaded host. Nothing is measured
/// by it: what holds is found soon, and only a failure takes so long.
pub const LIMIT: Duration = Duration::from_mins(2);
/// Between the first two looks; each pause is half as long again as the one before.
const SHORTEST: Duration = Duration::from_millis(2);
/// Between two looks at something slow: the processor belongs to it.
const LONGEST: Duration = Duration::from_millis(200);

/// Looks until `look` finds something, at most for `limit`.
///
/// # Errors
/// `look`'s own failure at once; after `limit` a failure that names `what`.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let start = Instant::now();
    let mut pause = SHORTEST;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            return Err(Failure::new(format!("waited {limit:?} in vain for {what}")));
        }
        thread::park_timeout(pause);
        pause = LONGEST.min(pause * 3 / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_find_ends_the_wait() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_mins(1), || {
            looks += 1;
            Ok((looks == 3).then_some("found"))
        });
        assert_eq!(found.unwrap(), "found");
    }

    #[test]
    fn a_wait_in_vain_names_what_it_waited_for() {
        let failure = until::<()>("the moon", Duration::ZERO, || Ok(None)).unwrap_err();
        assert!(failure.to_string().contains("the moon"), "{failure}");
    }
}
