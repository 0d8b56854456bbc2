//! Durations in configuration: `"500ms"`, `"2s"`, `"1m 30s"`.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// Reads a duration as a person writes it; the error says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("\"{text}\" is no duration such as \"500ms\" or \"2s\": {error}"))
}

/// Reads a field; for `#[serde(with = "ebpf_process_core::duration")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Quoted;

    impl Visitor<'_> for Quoted {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration in quotes such as \"500ms\" or \"2s\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Quoted)
}

/// Writes a field as a person would; for `#[serde(with = "ebpf_process_core::duration")]`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show(*duration))
}

/// What is written for a field that is read so; for `#[schemars(with = "ebpf_process_core::duration::Text")]`.
#[derive(Clone, Copy, Debug)]
pub struct Text;

impl JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

/// As a person would write it: the inverse of [`parse`].
pub fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_parsed() {
        for text in ["500ms", "2s", "1m 30s"] {
            assert_eq!(show(parse(text).expect("a duration")), text);
        }
        for wrong in ["", "2", "-1s", "fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
