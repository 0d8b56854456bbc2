//! Units in the words of UCUM, which OpenTelemetry takes.

use std::borrow::Cow;

use ebpf_process_core::Unit;

/// What a receiver is told of a unit. What is counted stands in braces, in the singular. A number without a unit has
/// none here: with `1` Prometheus takes it for a ratio and calls it so.
pub(crate) fn ucum(unit: &Unit) -> Cow<'_, str> {
    let own = unit.as_str();
    match own {
        "1" => Cow::Borrowed(""),
        "bytes" => Cow::Borrowed("By"),
        "seconds" => Cow::Borrowed("s"),
        "milliseconds" => Cow::Borrowed("ms"),
        "microseconds" => Cow::Borrowed("us"),
        "nanoseconds" => Cow::Borrowed("ns"),
        "s" | "ms" | "us" | "ns" | "%" | "By" => Cow::Borrowed(own),
        // The word is its own plural.
        "series" => Cow::Borrowed("{series}"),
        counted => Cow::Owned(format!("{{{}}}", counted.strip_suffix('s').unwrap_or(counted))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_its_word() {
        for (unit, word) in [
            (Unit::CALLS, "{call}"),
            (Unit::BYTES, "By"),
            (Unit::TASKS, "{task}"),
            (Unit::EVENTS, "{event}"),
            (Unit::SAMPLES, "{sample}"),
            (Unit::TICKS, "{tick}"),
            (Unit::SERIES, "{series}"),
            (Unit::SECONDS, "s"),
            (Unit::ONE, ""),
            (Unit::new("ns"), "ns"),
            (Unit::new("pages"), "{page}"),
        ] {
            assert_eq!(ucum(&unit), word);
        }
    }
}
