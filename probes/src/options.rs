//! The options of the kernel probes, common to all of them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::only::Only;

/// Keys of the table `[probes]` that every kernel probe understands.
pub(crate) const COMMON_KEYS: &[&str] = &["mode", "hooks", "object", "only"];

/// What a kernel probe can be told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProbeOptions {
    /// How much is counted.
    pub(crate) mode: Mode,
    /// Which hooks may be used.
    pub(crate) hooks: Hooks,
    /// Which kernel object is loaded.
    pub(crate) object: ObjectChoice,
    /// Whose events count.
    pub(crate) only: Option<Only>,
}

/// How much is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Calls, by the cheapest hooks.
    #[default]
    Entry,
    /// Calls, errors and bytes.
    Return,
}

/// Which hooks may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hooks {
    /// The cheapest tier that is exact on this kernel.
    #[default]
    Auto,
    /// The cheapest tier; what it misses is counted.
    Cheapest,
    /// This tier alone.
    Fentry,
    /// This tier alone.
    Kprobe,
    /// This tier alone.
    Tracepoint,
}

/// Which kernel object is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ObjectChoice {
    /// What the kernel can do.
    #[default]
    Auto,
    /// For kernels without BTF.
    Floor,
    /// Relocated by the kernel's BTF, Linux 5.5 and later.
    Core,
}

/// A way to hook the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// A trampoline on the function: fentry or fexit.
    Fentry,
    /// A breakpoint on the function: kprobe or kretprobe.
    Kprobe,
    /// A raw tracepoint.
    Tracepoint,
}

impl Tier {
    /// The word in the configuration and in `hook.info`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Hooks {
    /// Whether a tier may be used.
    pub(crate) const fn allows(self, tier: Tier) -> bool {
        match self {
            Self::Auto | Self::Cheapest => true,
            Self::Fentry => matches!(tier, Tier::Fentry),
            Self::Kprobe => matches!(tier, Tier::Kprobe),
            Self::Tracepoint => matches!(tier, Tier::Tracepoint),
        }
    }
}
