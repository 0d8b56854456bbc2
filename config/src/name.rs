//! What things of the configuration can be called.

/// Bytes of a name, which is a label of the agent's own metrics.
const LONGEST_NAME: usize = 64;

/// What [`is_name`] asks for, in words.
pub(crate) const NAME_RULE: &str = "1 to 64 letters, digits, \"-\" and \"_\"";

/// Whether something of the configuration can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(allowed)
}
