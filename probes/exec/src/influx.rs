//! Line protocol.

use influxdb_line_protocol::{FieldValue, parse_lines};

use crate::answer::Value;
use crate::point::{Found, Point, key_of, name_of, unit_of};
use crate::spec::{Numbers, Spec};

/// Reads a text. Each field is a number: an unsigned integer (`1u`) a counter, everything else a gauge, with truth as 1 and
/// 0. An error says which line cannot be read.
pub(crate) fn read(text: &str) -> Result<Found, String> {
    let mut found = Found::default();
    for (index, line) in parse_lines(text).enumerate() {
        let line =
            line.map_err(|error| format!("its {}. line that says something cannot be read: {error}", index + 1))?;
        let measurement = line.series.measurement.as_str();
        let tags = line.series.tag_set.iter().flatten();
        let labels: Vec<_> = tags.map(|(key, value)| (key_of(key.as_str()), value.as_str().to_owned())).collect();
        for (field, value) in &line.field_set {
            let name = name_of(&format!("{measurement}.{}", field.as_str()));
            #[expect(clippy::cast_precision_loss, reason = "a level is a floating-point number")]
            let (numbers, value) = match value {
                FieldValue::U64(total) => (Numbers::Counter, Value::Counter(*total)),
                FieldValue::I64(level) => (Numbers::Gauge, Value::Gauge(*level as f64)),
                FieldValue::F64(level) => (Numbers::Gauge, Value::Gauge(*level)),
                FieldValue::Boolean(is) => (Numbers::Gauge, Value::Gauge(f64::from(u8::from(*is)))),
                FieldValue::String(_) => {
                    found.refuse(&name, "a text is no number");
                    continue;
                }
            };
            // A total that is a whole number is no number of nanoseconds, whatever its name ends in.
            let unit = if numbers == Numbers::Counter { "1" } else { unit_of(&name) };
            let spec = Spec { name, labels: labels.clone(), numbers, unit: unit.to_owned(), help: String::new() };
            found.points.push(Point { spec, value });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_field_is_a_number() {
        let text = "Disk\\ IO,disk=sd\\ a,Way=in reads=18446744073709551615u,busy=-3i,share=0.5,up=true 1600000000\n\
                    # a comment\n\n\
                    mem used=1i,note=\"none\"";
        let found = read(text).expect("right lines");
        let shown: Vec<_> = found.points.iter().map(|point| (point.spec.name.as_str(), point.value.clone())).collect();
        let expected = [
            ("disk_io.reads", Value::Counter(u64::MAX)),
            ("disk_io.busy", Value::Gauge(-3.0)),
            ("disk_io.share", Value::Gauge(0.5)),
            ("disk_io.up", Value::Gauge(1.0)),
            ("mem.used", Value::Gauge(1.0)),
        ];
        assert_eq!(shown, expected);
        let labels = [("disk", "sd a"), ("way", "in")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found.points[0].spec.labels, labels);
        assert_eq!(found.refused, [("mem.note".to_owned(), "a text is no number".to_owned())]);
        assert_eq!(read(""), Ok(Found::default()));
        assert!(read("a b=1\nnonsense\n").expect_err("no line").starts_with("its 2. line"));
    }

    proptest! {
        #[test]
        fn any_text_is_lines_or_an_error(text in "[ -~\n\\\\é]{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn almost_right_lines_are_lines_or_an_error(
            text in "(([a-c\\\\ ,=]{1,5})( )(x=)([0-9]{1,22})([ui]?)([ 0-9]{0,4})\n){0,4}"
        ) {
            let _ = read(&text);
        }
    }
}
