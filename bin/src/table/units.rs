//! Numbers as people read them.

use std::time::Duration;

/// Factors of a thousand, for counts.
const THOUSANDS: [&str; 5] = ["", "k", "M", "G", "T"];
/// Factors of 1024, for bytes.
const KIBI: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// A rate of counts: `0`, `3.5`, `842`, `12.3k`.
pub(super) fn count_rate(rate: f64) -> String {
    scaled(rate, 1000.0, &THOUSANDS, "")
}

/// An amount or a rate of bytes: `0 B`, `512 B`, `1.5 KiB`.
pub(super) fn bytes(amount: f64) -> String {
    scaled(amount, 1024.0, &KIBI, " ")
}

/// A total, to the unit: `1,234,567`.
pub(super) fn total(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time, to a tenth of a second: `0.2 s`, `61.0 s`. One that would be none is shown to the millisecond.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.05 { format!("{seconds:.3} s") } else { format!("{seconds:.1} s") }
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "a rate is a rounded number anyway")]
pub(super) const fn approximate(count: u64) -> f64 {
    count as f64
}

/// A level without a scale of its own.
pub(super) fn level(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn scaled(value: f64, factor: f64, units: &[&str], space: &str) -> String {
    let mut value = value;
    let mut step = 0;
    // What rounds up to the next unit is shown in it.
    while value >= factor - 0.5 && step + 1 < units.len() {
        value /= factor;
        step += 1;
    }
    let whole = value == 0.0 || value >= 99.95 || (step == 0 && value.fract() == 0.0);
    let number = if whole { format!("{value:.0}") } else { format!("{value:.1}") };
    format!("{number}{space}{}", units[step])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let counts = [(0.0, "0"), (3.5, "3.5"), (7.0, "7"), (842.4, "842"), (999.7, "1.0k"), (12_345.0, "12.3k")];
        for (rate, text) in counts {
            assert_eq!(count_rate(rate), text);
        }
        let amounts = [(0.0, "0 B"), (512.0, "512 B"), (1536.0, "1.5 KiB"), (1_073_741_824.0, "1.0 GiB")];
        for (amount, text) in amounts {
            assert_eq!(bytes(amount), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")] {
            assert_eq!(total(count), text);
        }
        for (milliseconds, text) in [(204, "0.2 s"), (50, "0.1 s"), (3, "0.003 s"), (61_000, "61.0 s")] {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), text);
        }
        for (value, text) in [(1.0, "1"), (0.25, "0.25"), (10.0, "10"), (-3.5, "-3.5")] {
            assert_eq!(level(value), text);
        }
    }
}
