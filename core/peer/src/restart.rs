//! How long to wait before a program is started again.

use std::time::Duration;

/// Waits that double from the shortest to the longest, until the program has answered.
#[derive(Debug)]
pub struct Restart {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Restart {
    /// Waits from the shortest to the longest.
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, next: shortest }
    }

    /// It has ended: how long to wait before it is started again.
    pub fn failed(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.longest);
        wait
    }

    /// It has answered: the next wait is the shortest.
    pub const fn works(&mut self) {
        self.next = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_an_answer_begins_anew() {
        let mut restart = Restart::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<u64> = (0..8).map(|_| restart.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        restart.works();
        assert_eq!(restart.failed(), Duration::from_secs(1));
    }
}
