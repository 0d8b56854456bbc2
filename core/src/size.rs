//! Sizes in configuration: `"512KiB"`, `"8MiB"`, `"1.5 GB"`.

use std::fmt;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// Reads a number of bytes as a person writes it; the error says what was expected.
pub fn parse(text: &str) -> Result<u64, String> {
    let size: ByteSize =
        text.trim().parse().map_err(|_| format!("\"{text}\" is no size such as \"512KiB\" or \"8MiB\""))?;
    Ok(size.as_u64())
}

/// Reads a field; for `#[serde(with = "ebpf_process_core::size")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Quoted;

    impl Visitor<'_> for Quoted {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size in quotes such as \"512KiB\" or \"8MiB\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            parse(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Quoted)
}

/// Writes a field as a person would; for `#[serde(with = "ebpf_process_core::size")]`.
pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show(*bytes))
}

/// What is written for a field that is read so; for `#[schemars(with = "ebpf_process_core::size::Text")]`.
#[derive(Clone, Copy, Debug)]
pub struct Text;

impl JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "size" })
    }
}

/// As a person would write it, rounded.
pub fn show(bytes: u64) -> String {
    ByteSize::b(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_of_1000_or_of_1024() {
        for (text, bytes) in [("512KiB", 512 << 10), ("8MiB", 8 << 20), (" 1.5 GB ", 1_500_000_000), ("100", 100)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MiB", "-1MiB", "8 apples", "NaN"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(show(8 << 20), "8.0 MiB");
    }
}
