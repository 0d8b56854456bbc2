//! What every command understands.

use std::path::PathBuf;

use clap::Args;
use ebpf_process_config::Sources;
use ebpf_process_core::identity;

use crate::log::Verbosity;

const LOG_HELP: &str =
    "How much is logged; environment: EBPF_PROCESS_LOG; default: info, or warn beside output for people";

/// What every command understands, before or after its name.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Common {
    /// Read this configuration in place of the system's
    #[arg(long, value_name = "FILE")]
    #[arg(help = identity().adapt("Read this configuration in place of /etc/ebpf-process/ebpf-process.toml"))]
    pub(crate) config: Option<PathBuf>,
    /// Set one key, for example probes.mode=return; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// How much is logged
    #[arg(long, value_name = "LEVEL", value_enum, ignore_case = true)]
    #[arg(help = identity().adapt(LOG_HELP))]
    pub(crate) log: Option<Verbosity>,
}

impl Common {
    /// What was typed before the command's name and after it.
    pub(crate) fn and(self, later: Self) -> Self {
        Self {
            config: later.config.or(self.config),
            set: self.set.into_iter().chain(later.set).collect(),
            log: later.log.or(self.log),
        }
    }

    /// The layers of the configuration.
    pub(crate) fn sources(&self, elevated: bool) -> Sources {
        let sources = Sources::command_line(self.config.as_deref());
        if elevated { sources.trusted_only() } else { sources.environment(std::env::vars_os()).set(self.set.clone()) }
    }
}
