//! How an agent fares, as a line for people: `systemctl status` shows it.

use ebpf_process_core::State;

/// A reason of one sink, and the whole line: in characters.
const LONGEST_REASON: usize = 100;
const LONGEST_LINE: usize = 400;

/// How an agent fares.
#[derive(Debug, Default)]
pub(crate) struct Fares {
    /// Counters with a hook.
    pub(crate) counters: usize,
    /// What the configuration asks for and this machine does not count.
    pub(crate) uncounted: usize,
    /// All sinks of the configuration: the name, the state, and unless it works the reason.
    pub(crate) sinks: Vec<(String, State, Option<String>)>,
    /// Why the last reload was refused, if it was.
    pub(crate) refused: Option<String>,
}

impl Fares {
    /// The same as a line: `counting 14 counters, 2 sinks: 1 working, 1 failing (db: connection refused)`.
    pub(crate) fn line(&self) -> String {
        let mut line = match self.counters {
            // The agent's own numbers, or those of probes that somebody else has written.
            0 => "running".to_owned(),
            counters => format!("counting {}", of(counters, "counter")),
        };
        if self.uncounted > 0 {
            line = format!("{line}, {} uncounted", self.uncounted);
        }
        line = match self.sinks.len() {
            0 => format!("{line}, no sink is configured"),
            sinks => format!("{line}, {}: {}", of(sinks, "sink"), self.states().join(", ")),
        };
        // In front, where it is not cut off.
        if let Some(reason) = &self.refused {
            line = format!("last reload refused ({}), {line}", cut(reason, LONGEST_REASON));
        }
        one_line(&line)
    }

    /// Those that work, then the others, each state with its reasons.
    fn states(&self) -> Vec<String> {
        let states = [State::Working, State::Failing, State::Absent, State::Closed];
        let told = states.into_iter().filter_map(|state| {
            let those: Vec<_> = self.sinks.iter().filter(|(_, of, _)| *of == state).collect();
            let reasons: Vec<String> = those
                .iter()
                .filter_map(|(name, _, reason)| Some(format!("{name}: {}", cut(reason.as_deref()?, LONGEST_REASON))))
                .collect();
            let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
            (!those.is_empty()).then(|| format!("{} {}{reasons}", those.len(), state.as_str()))
        });
        told.collect()
    }
}

fn of(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What can be the line: see [`cut`].
pub(super) fn one_line(text: &str) -> String {
    cut(text, LONGEST_LINE)
}

/// Without control characters, which begin another variable of the message, and not longer than that.
fn cut(text: &str, longest: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = clean.clone().take(longest).collect();
    if clean.count() > longest {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(name: &str, state: State, reason: &str) -> (String, State, Option<String>) {
        (name.to_owned(), state, (state != State::Working).then(|| reason.to_owned()))
    }

    #[test]
    fn the_line_says_what_is_counted_and_which_sinks_do_not_work_and_why() {
        let working = || sink("lan", State::Working, "");
        let failing = || sink("db", State::Failing, "connection refused");
        let absent = || sink("page", State::Absent, "port in use");
        let cases = [
            (0, 0, vec![], "running, no sink is configured"),
            (1, 0, vec![working()], "counting 1 counter, 1 sink: 1 working"),
            (
                14,
                0,
                vec![failing(), working()],
                "counting 14 counters, 2 sinks: 1 working, 1 failing (db: connection refused)",
            ),
            (
                14,
                2,
                vec![absent(), failing(), failing()],
                "counting 14 counters, 2 uncounted, 3 sinks: 2 failing (db: connection refused, db: connection refused), \
              1 absent (page: port in use)",
            ),
        ];
        for (counters, uncounted, sinks, line) in cases {
            assert_eq!(Fares { counters, uncounted, sinks, refused: None }.line(), line);
        }
    }

    #[test]
    fn whatever_a_reason_says_it_is_one_line_and_a_short_one() {
        let sinks = (0..64).map(|_| sink("db", State::Failing, &"\u{e9}\nREADY=1\r".repeat(100))).collect();
        let refused = Some("sinks.a:\nunknown type".to_owned());
        let line = Fares { counters: 1, uncounted: 0, sinks, refused }.line();
        assert!(line.starts_with("last reload refused (sinks.a: unknown type), counting 1 counter, "), "{line}");
        assert!(!line.contains(char::is_control), "{line}");
        assert_eq!(line.chars().count(), LONGEST_LINE + 3, "{line}");
    }
}
