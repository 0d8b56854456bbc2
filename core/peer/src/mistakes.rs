//! Answers that cannot be right: a few are told, many are too many.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::owner::Owner;

/// In a minute, at most.
const MOST: u32 = 100;

const MINUTE: Duration = Duration::from_mins(1);

/// What a program has got wrong lately.
#[derive(Debug)]
pub struct Mistakes {
    owner: Owner,
    since: Option<Instant>,
    count: u32,
}

/// There were more than a program may make.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Mistakes {
    /// Of a program that works for this one.
    pub const fn new(owner: Owner) -> Self {
        Self { owner, since: None, count: 0 }
    }

    /// Counts one; the first of a minute is logged.
    pub fn note(&mut self, what: &str, now: Instant) -> Result<(), TooMany> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= MINUTE) {
            (self.since, self.count) = (Some(now), 0);
            let (sink, probe) = (self.owner.sink(), self.owner.probe());
            warn!(sink, probe, "{what}; more of this within a minute is counted, not logged");
        }
        self.count += 1;
        if self.count > MOST { Err(TooMany) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_a_minute_are_let_pass() {
        let (mut mistakes, start) = (Mistakes::new(Owner::Sink("x".to_owned())), Instant::now());
        for _ in 0..3 {
            assert!((0..MOST).all(|_| mistakes.note("wrong", start).is_ok()));
            assert_eq!(mistakes.note("wrong", start), Err(TooMany));
            mistakes.since = start.checked_sub(MINUTE);
        }
    }
}
