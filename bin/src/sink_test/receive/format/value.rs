//! A number in a line of text.

use ebpf_process_core::testkit::conformance::Number;

/// A number that is one.
pub(super) fn value(text: &str) -> Result<Number, &'static str> {
    match Number::parse(text) {
        Some(Number::Real(real)) if !real.is_finite() => Err("a value that is no number"),
        Some(number) => Ok(number),
        None => Err("a value that is no number"),
    }
}
