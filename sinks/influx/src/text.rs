//! Names and tags as they stand in a line: clean, and escaped.

use std::borrow::Cow;

use influxdb_line_protocol::LineProtocolBuilder;

/// The name of a field of a metric whose name has one part.
const ONLY_FIELD: &str = "value";

/// A metric's name in two: what is measured, and the field.
pub(crate) fn parts(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((name, ONLY_FIELD))
}

/// A measurement behind a namespace, if there is one, clean.
pub(crate) fn measurement(name: &str, namespace: &str) -> String {
    let name = clean(name).replace('.', "_");
    let mut name = if namespace.is_empty() { name } else { format!("{namespace}_{name}") };
    if name.starts_with('#') {
        // The line would be a comment.
        name.replace_range(..1, "_");
    }
    name
}

/// A clean measurement as it stands in a line.
pub(crate) fn escaped(measurement: &str) -> Vec<u8> {
    let mut line = LineProtocolBuilder::new().measurement(measurement).field("f", 0_i64).close_line().build();
    line.truncate(line.len() - " f=0i\n".len());
    line
}

/// A tag as it follows a measurement: `,key=value`.
pub(crate) fn tag(key: &str, value: &str) -> Vec<u8> {
    let line = LineProtocolBuilder::new().measurement("m").tag(key, value).field("f", 0_i64).close_line().build();
    line["m".len()..line.len() - " f=0i\n".len()].to_vec()
}

/// The name of a field.
pub(crate) fn field(name: &str) -> Vec<u8> {
    let name = key(name).replace('.', "_");
    let line = LineProtocolBuilder::new().measurement("m").field(&name, 0_i64).close_line().build();
    line["m ".len()..line.len() - "=0i\n".len()].to_vec()
}

/// Text that can be escaped. The builder doubles backslashes, which no server undoes, and writes line breaks as they
/// are; both are replaced, and so is emptiness.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let unsafe_char = |c: char| c == '\\' || c.is_control();
    if text.is_empty() {
        Cow::Borrowed("_")
    } else if text.contains(unsafe_char) {
        Cow::Owned(text.replace(unsafe_char, "_"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The name of a tag or a field. Neither may be called `time`: the server drops the point, or the field.
/// `VictoriaMetrics` puts the metric's name in the place of a tag `__name__`.
pub(crate) fn key(text: &str) -> Cow<'_, str> {
    match clean(text) {
        Cow::Borrowed("time") => Cow::Borrowed("time_"),
        Cow::Borrowed("__name__") => Cow::Borrowed("__name___"),
        key => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_that_the_protocol_cannot_say() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let named = |name| {
            let (measured, field_name) = parts(name);
            (text(escaped(&measurement(measured, ""))), text(field(field_name)))
        };
        for (name, measured, expected) in [
            ("vfs.calls", "vfs", "calls"),
            ("a.b.c", "a_b", "c"),
            ("up", "up", "value"),
            ("x.time", "x", "time_"),
            ("# x,a.b", "_\\ x\\,a", "b"),
            (".b", "_", "b"),
            ("a.", "a", "_"),
            ("a.y z,=", "a", "y\\ z\\,\\="),
        ] {
            assert_eq!(named(name), (measured.to_owned(), expected.to_owned()), "{name}");
        }
        for (name, value, expected) in [
            ("time", "t", ",time_=t"),
            ("__name__", "t", ",__name___=t"),
            ("c", "x, y=z\\", ",c=x\\,\\ y\\=z_"),
            ("k=1", "\\x\"", ",k\\=1=_x\""),
            ("c", "", ",c=_"),
            ("c", "a\nb", ",c=a_b"),
        ] {
            assert_eq!(text(tag(&key(name), &clean(value))), expected);
        }
        assert_eq!(text(escaped(&measurement("# a", "ns"))), "ns_#\\ a");
    }
}
