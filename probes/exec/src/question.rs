//! What a program is asked at each tick.

use std::time::Duration;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Its number: 1 for the first, and one more for each.
    pub(crate) tick: u64,
    /// When it is asked, since the epoch.
    pub(crate) time: Duration,
}

impl Question {
    /// The line, with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        format!("{{\"tick\":{},\"time\":[{},{}]}}\n", self.tick, self.time.as_secs(), self.time.subsec_nanos()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_line() {
        let question = Question { tick: 5, time: Duration::new(1_600_000_000, 250_000_000) };
        assert_eq!(question.line(), b"{\"tick\":5,\"time\":[1600000000,250000000]}\n");
    }
}
