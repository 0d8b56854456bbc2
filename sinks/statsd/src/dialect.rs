//! The dialects of the protocol: how a line carries labels, and what may stand in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the receiver is, as it is written in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// The original; label values become parts of the name.
    #[default]
    Etsy,
    /// Datadog's, with tags `|#key:value`.
    Dogstatsd,
    /// Telegraf's, with tags `,key=value`.
    Telegraf,
    /// netdata's own server; label values become parts of the name.
    Netdata,
}

/// How a line is written. In each, whatever has a meaning to the receiver is replaced by `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// No tags, label values are parts of the name: `area.value.what:1|c`.
    Plain,
    /// Graphite's tags: `area.what;key=value:1|c`.
    Graphite,
    /// DogStatsD's tags: `area.what:1|c|#key:value`. A gauge with a sign is a level like any other.
    Dogstatsd,
    /// Telegraf's tags: `area.what,key=value:1|c`.
    Telegraf,
}

impl Syntax {
    /// Whether a gauge with a sign is a change, not a level.
    pub(crate) const fn adds_signed_gauges(self) -> bool {
        !matches!(self, Self::Dogstatsd)
    }

    /// Whether a counter may have decimals. Telegraf cuts them off.
    pub(crate) const fn has_fractions(self) -> bool {
        !matches!(self, Self::Telegraf)
    }

    /// Whether a part of a name may hold this. The dot between parts is not asked for.
    pub(crate) const fn name_holds(self, c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_' || (c == '-' && !matches!(self, Self::Dogstatsd))
    }

    /// Whether a tag's value may hold this.
    pub(crate) fn value_holds(self, c: char) -> bool {
        match self {
            // What the Node server keeps: it deletes all else, and two values could become one.
            Self::Plain | Self::Graphite => key_holds(c),
            // What Datadog keeps: all else becomes `_` there, too.
            Self::Dogstatsd => c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':'),
            // Telegraf keeps everything that it does not split at; a backslash troubles what it writes to.
            Self::Telegraf => {
                c.is_alphanumeric() || (c.is_ascii_graphic() && !matches!(c, ':' | '|' | ',' | '=' | '#' | '\\'))
            }
        }
    }

    /// A tag's key that the receiver overwrites with its own.
    pub(crate) const fn reserved_key(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Dogstatsd => None,
            Self::Graphite => Some("name"),
            Self::Telegraf => Some("metric_type"),
        }
    }
}

/// Whether a tag's key may hold this, in any dialect.
pub(crate) const fn key_holds(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}
