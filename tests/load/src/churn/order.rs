//! What is asked for on the command line.

use ebpf_process_tests::{Failure, Outcome};

const USAGE: &str =
    "usage: cargo xtask churn [--processes N] [--groups N] [--seconds SECONDS] [--living N,...]; 0 leaves a part out";

/// How many of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// Short-lived processes.
    pub(super) processes: u32,
    /// Control groups that are made and removed.
    pub(super) groups: u32,
    /// How long each of both takes.
    pub(super) seconds: u32,
    /// Processes that live at the same time, one number after the other.
    pub(super) living: Vec<u32>,
}

impl Order {
    pub(super) fn read(arguments: &[String]) -> Outcome<Self> {
        let mut order = Self { processes: 100_000, groups: 10_000, seconds: 60, living: vec![100, 1000, 10_000] };
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or_else(|| Failure::new(format!("{option} needs a value\n{USAGE}")))?;
            let number = |text: &str| text.parse().map_err(|_| Failure::new(format!("{option} {value}\n{USAGE}")));
            match option {
                "--processes" => order.processes = number(value)?,
                "--groups" => order.groups = number(value)?,
                "--seconds" => order.seconds = number(value)?,
                "--living" => order.living = value.split(',').map(number).collect::<Outcome<_>>()?,
                _ => return Err(Failure::new(format!("unknown option {option}\n{USAGE}"))),
            }
        }
        order.living.retain(|count| *count > 0);
        if order.seconds == 0 { Err(Failure::new(USAGE)) } else { Ok(order) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_none() {
        let read = |text: &str| Order::read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let order = read("--processes 5 --living 0").unwrap();
        assert_eq!((order.processes, order.groups, order.living.len()), (5, 10_000, 0));
        for wrong in ["--processes", "--processes x", "--seconds 0", "--crowd 1", "--living 1,x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
