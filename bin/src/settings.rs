//! `config`: the default, or what is in effect.

use clap::ValueEnum;
use ebpf_process_config::{Plan, Sources, default_text};
use ebpf_process_core::Registry;
use tracing::warn;

use crate::exit::{Exit, Refusal};
use crate::stdout;

/// Which configuration is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Which {
    /// The built-in one, with all keys and what they mean
    Default,
    /// The one in effect, each value with its origin; secrets are not shown
    Show,
}

/// Prints a configuration; the one in effect only if it is right.
pub(crate) fn main(registry: &Registry, sources: &Sources, which: Which) -> Result<Exit, Refusal> {
    match which {
        Which::Default => stdout::print(&default_text(registry)),
        Which::Show => {
            let loaded = sources.load(registry)?;
            for warning in loaded.warnings() {
                warn!("{warning}");
            }
            Plan::new(&loaded, registry)?;
            stdout::print(&loaded.show())
        }
    }
}
