//! StatsD in all dialects: `name:value|type`, with tags behind it or in the name.

use ebpf_process_core::testkit::conformance::Number;

use super::value::value;
use crate::sink_test::receive::stored::{Point, Says};

/// Counters add up; of times and distributions the number of values does. A gauge with a sign is a change.
pub(super) fn read(line: &str, points: &mut Vec<Point>) -> Result<(), &'static str> {
    let (name, rest) = line.split_once(':').ok_or("no colon")?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("no name");
    }
    let mut parts = rest.split('|');
    let (values, kind) = (parts.next().unwrap_or_default(), parts.next().ok_or("no type")?);
    let (mut tags, mut rate) = (None, 1.0);
    for part in parts {
        match part.split_at_checked(1) {
            Some(("@", text)) => {
                rate = text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0).ok_or("no rate from 0 to 1")?;
            }
            Some(("#", text)) => tags = Some(text),
            // A container, a time.
            Some(("c" | "T", _)) => {}
            _ => return Err("something behind the type that is no rate and no tag"),
        }
    }
    let series = tags.map_or_else(|| name.to_owned(), |tags| format!("{name}{{{tags}}}"));
    for text in values.split(':') {
        let number = value(text)?;
        let says = match kind {
            "c" if text.starts_with('-') => return Err("a counter that falls"),
            "c" => Says::Gains(sampled(number, rate)),
            "g" if text.starts_with(['+', '-']) => Says::Gains(number),
            "g" => Says::Is(None, number),
            "ms" | "h" | "d" => Says::Gains(sampled(Number::Whole(1), rate)),
            _ => return Err("a type that is none of c, g, ms, h and d"),
        };
        points.push(Point::new(&*series, says));
    }
    Ok(())
}

/// What stands for all values of which one in so many was sent.
#[expect(clippy::cast_precision_loss, reason = "who sends some of the values knows none of them exactly")]
fn sampled(number: Number, rate: f64) -> Number {
    match number {
        number if rate >= 1.0 => number,
        Number::Whole(whole) => Number::Real(whole as f64 / rate),
        Number::Real(real) => Number::Real(real / rate),
    }
}
