//! The part of a line that stays the same: measurement, tags and field name.

use std::borrow::Cow;

use ebpf_process_core::{Metric, Sample};
use influxdb_line_protocol::LineProtocolBuilder;

/// Why the second of two series under one key is rejected.
pub(crate) const TWIN: &str = "same name as another series";

/// The name of a field of a metric whose name has one part.
const ONLY_FIELD: &str = "value";

/// The rendered start of a series' lines.
#[derive(Debug)]
pub(crate) struct Key {
    /// `measurement,tag=value field`, escaped.
    pub(crate) text: Box<[u8]>,
    /// Where the field's name starts in it.
    pub(crate) field: usize,
}

impl Key {
    /// Renders the key of a series.
    pub(crate) fn render(metric: &Metric<'_>, sample: &Sample<'_>, host: &str) -> Self {
        let (measurement, rest) = metric.name().split_once('.').unwrap_or((metric.name(), ONLY_FIELD));
        let mut measurement = clean(measurement);
        if measurement.starts_with('#') {
            // The line would be a comment.
            measurement.to_mut().replace_range(..1, "_");
        }
        let field = not_reserved(clean(rest)).replace('.', "_");
        let mut tags: Vec<_> = sample
            .labels()
            .chain(metric.tags())
            .chain([("host", host)])
            .map(|(key, value)| (not_reserved(clean(key)), clean(value)))
            .collect();
        // The server sorts tags by key anyway; of two with one key the first stays.
        tags.sort_by(|a, b| a.0.cmp(&b.0));
        tags.dedup_by(|second, first| second.0 == first.0);

        let mut line = LineProtocolBuilder::new().measurement(&measurement);
        for (key, value) in &tags {
            line = line.tag(key, value);
        }
        let mut text = line.field(&field, 0_i64).close_line().build();
        // The builder writes whole lines: the value is ours to write.
        text.truncate(text.len() - "=0i\n".len());
        let field = text.len() - escaped_len(&field);
        Self { text: text.into_boxed_slice(), field }
    }
}

/// Text that the builder can escape. It doubles backslashes, which no server undoes, and writes
/// line breaks as they are; both are replaced, and so is emptiness.
fn clean(text: &str) -> Cow<'_, str> {
    let unsafe_char = |c: char| c == '\\' || c.is_control();
    if text.is_empty() {
        Cow::Borrowed("_")
    } else if text.contains(unsafe_char) {
        Cow::Owned(text.replace(unsafe_char, "_"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Neither a tag nor a field may be called `time`: the server drops the point, or the field. `VictoriaMetrics` puts the
/// metric's name in the place of a tag `__name__`.
fn not_reserved(key: Cow<'_, str>) -> Cow<'_, str> {
    match &*key {
        "time" => Cow::Borrowed("time_"),
        "__name__" => Cow::Borrowed("__name___"),
        _ => key,
    }
}

/// How long a cleaned field name is once it is escaped.
fn escaped_len(field: &str) -> usize {
    field.len() + field.chars().filter(|c| [',', '=', ' '].contains(c)).count()
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::Bench;
    use ebpf_process_core::{Descriptor, Selection, Unit};

    use super::*;

    fn key(name: &'static str, labels: &[(&'static str, &str)], selection: &Selection) -> (String, String) {
        let keys: Vec<_> = labels.iter().map(|(key, _)| *key).collect();
        let values: Vec<_> = labels.iter().map(|(_, value)| *value).collect();
        let descriptor = Descriptor::counter(name, Unit::CALLS, "Calls").labels(keys).share();
        let mut bench = Bench::new();
        let id = bench.series(&descriptor, &values);
        bench.tick(
            selection,
            |recorder| recorder.counter(id, 1),
            |view| {
                let metric = view.metrics().next().expect("a metric");
                let sample = metric.samples().next().expect("a sample");
                let key = Key::render(&metric, &sample, "h");
                let (head, field) = key.text.split_at(key.field);
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                (text(head), text(field))
            },
        )
    }

    #[test]
    fn a_key_says_nothing_that_the_protocol_cannot() {
        let plain = Selection::default();
        let tagged = |key: &str, value: &str| Selection {
            tags: [(key.to_owned(), value.to_owned())].into(),
            ..Selection::default()
        };
        let prefixed = |prefix: &str| Selection { prefix: prefix.to_owned(), ..Selection::default() };
        let cases = [
            (key("vfs.calls", &[("operation", "read")], &plain), "vfs,host=h,operation=read ", "calls"),
            (key("a.b.c", &[], &plain), "a,host=h ", "b_c"),
            (key("up", &[], &plain), "up,host=h ", "value"),
            (key("x.time", &[("time", "t")], &plain), "x,host=h,time_=t ", "time_"),
            (key("a.b", &[("host", "mine")], &plain), "a,host=mine ", "b"),
            (key("a.b", &[("c", "x, y=z\\")], &plain), "a,c=x\\,\\ y\\=z_,host=h ", "b"),
            (key("a.b", &[], &tagged("k=1", "\\x\"")), "a,host=h,k\\=1=_x\" ", "b"),
            (key("a.b", &[], &tagged("__name__", "x")), "a,__name___=x,host=h ", "b"),
            (key("a.b", &[], &prefixed("# x,")), "_\\ x\\,a,host=h ", "b"),
            (key("a.b", &[], &prefixed(".y z,=")), "_,host=h ", "y\\ z\\,\\=a_b"),
        ];
        for ((head, field), expected_head, expected_field) in cases {
            assert_eq!((head.as_str(), field.as_str()), (expected_head, expected_field));
        }
    }
}
