//! Labels as attributes, under the names that OpenTelemetry has for them.

use crate::wire;

/// The attribute of a label of our rows, and whether its value is a number there. What has no name in the semantic
/// conventions keeps its own.
const CONVENTIONS: &[(&str, &str, bool)] = &[
    ("pid", "process.pid", true),
    ("ns_pid", "process.vpid", true),
    ("comm", "process.executable.name", false),
    ("exe", "process.executable.path", false),
    ("user", "process.owner", false),
    ("cgroup", "process.linux.cgroup", false),
    ("unit", "systemd.unit.name", false),
    ("container", "container.id", false),
    ("container_name", "container.name", false),
    ("pod", "k8s.pod.name", false),
    ("namespace", "k8s.namespace.name", false),
];

/// The field of the attributes in a data point of a number.
pub(crate) const OF_NUMBERS: u8 = 7;
/// The field of the attributes in a data point of a histogram.
pub(crate) const OF_HISTOGRAMS: u8 = 9;
/// The field of the attributes of a resource.
pub(crate) const OF_RESOURCES: u8 = 1;

/// The fields of a key with its value, and those of a value.
const KEY: u8 = 1;
const VALUE: u8 = 2;
const TEXT: u8 = 1;
const INTEGER: u8 = 3;

/// What a row's label is called.
pub(crate) fn name_of(key: &str) -> &str {
    CONVENTIONS.iter().find(|(label, ..)| *label == key).map_or(key, |(_, name, _)| name)
}

/// A label of a row, as an attribute in this field. A number of a process is a number where it is one: the row of all
/// others has a word.
pub(crate) fn of_row(out: &mut Vec<u8>, field: u8, key: &str, value: &str) {
    let known = CONVENTIONS.iter().find(|(label, ..)| *label == key);
    let is_number = known.is_some_and(|(.., is_number)| *is_number);
    match value.parse::<u32>() {
        // As text it would have been written like this, and no other text becomes this number.
        Ok(number) if is_number && number.to_string() == value => {
            let mut content = vec![wire::of_number(INTEGER)];
            wire::number(&mut content, u64::from(number));
            attribute(out, field, name_of(key), &content);
        }
        _ => text(out, field, name_of(key), value),
    }
}

/// An attribute that is text.
pub(crate) fn text(out: &mut Vec<u8>, field: u8, key: &str, value: &str) {
    let mut content = Vec::new();
    wire::bytes(&mut content, TEXT, value.as_bytes());
    attribute(out, field, key, &content);
}

fn attribute(out: &mut Vec<u8>, field: u8, key: &str, value: &[u8]) {
    wire::head(out, field, wire::framed_size(key.len()) + wire::framed_size(value.len()));
    wire::bytes(out, KEY, key.as_bytes());
    wire::bytes(out, VALUE, value);
}
