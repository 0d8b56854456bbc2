//! What the configuration lets the agent ask for.

use std::path::{Path, absolute};

use ebpf_process_config::{Plan, PlannedProbe};
use ebpf_process_core::Access;

use super::language::Request;

/// What the sinks and probes of a plan open, and the probes themselves.
#[derive(Default)]
pub(crate) struct Allowed {
    accesses: Vec<Access>,
    probes: Vec<PlannedProbe>,
}

impl Allowed {
    /// Of a plan that this process has made itself.
    pub(crate) fn of(plan: &Plan) -> Self {
        let instance = plan.instance.as_deref();
        let of_sinks = plan.sinks.iter().flat_map(|sink| sink.plugin.opens(&sink.options));
        let of_probes = plan.probes.iter().flat_map(|probe| probe.plugin.opens(&probe.options));
        let accesses = of_sinks.chain(of_probes).map(|access| whole(access.of_instance(instance))).collect();
        Self { accesses, probes: plan.probes.clone() }
    }

    /// Whether something is to be opened exactly so. What is asked of programs that run, of the configuration and of
    /// probes is not opened.
    pub(crate) fn has(&self, request: &Request) -> bool {
        self.accesses.iter().any(|access| match (request, access) {
            (Request::Read(asked), Access::Read(path))
            | (Request::Append(asked), Access::Write(path))
            | (Request::Directory(asked), Access::Directory(path))
            | (Request::Stream(asked) | Request::Datagrams(asked), Access::Connect(path)) => {
                // Byte for byte: paths compare equal that only a walk can tell apart.
                asked.as_os_str() == path.as_os_str()
            }
            (Request::Listen(asked), Access::Listen(address)) => asked == address,
            (Request::Start(asked), Access::Program(program)) => asked == program,
            _ => false,
        })
    }

    /// The probe of this name, if it is switched on.
    pub(crate) fn probe(&self, name: &str) -> Option<&PlannedProbe> {
        self.probes.iter().find(|probe| probe.name == name)
    }
}

/// The path as it is asked for.
pub(crate) fn whole_path(path: &Path) -> std::path::PathBuf {
    // It fails for an empty path alone, which nothing opens.
    absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn whole(access: Access) -> Access {
    match access {
        Access::Read(path) => Access::Read(whole_path(&path)),
        Access::Write(path) => Access::Write(whole_path(&path)),
        Access::Directory(path) => Access::Directory(whole_path(&path)),
        Access::Connect(path) => Access::Connect(whole_path(&path)),
        other => other,
    }
}

#[cfg(test)]
impl From<Vec<Access>> for Allowed {
    fn from(accesses: Vec<Access>) -> Self {
        Self { accesses, probes: Vec::new() }
    }
}
