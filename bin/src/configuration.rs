//! The configuration, loaded and checked.

use ebpf_process_config::{ConfigError, Plan, Sources, Texts, confine};
use ebpf_process_core::{Registry, identity};
use tracing::warn;

use crate::exit::Refusal;

/// What to do about a configuration without any sink.
pub(crate) fn to_configure() -> String {
    identity().adapt(
        "configure one in /etc/ebpf-process/ebpf-process.toml or with --config or --set ([sinks.NAME] with type = ...; \
         `ebpf-process config default` shows how) and start the agent again",
    )
}

/// Loads and checks the configuration.
pub(crate) fn plan(registry: &Registry, sources: &Sources) -> Result<Plan, Refusal> {
    let loaded = sources.load(registry)?;
    for warning in loaded.warnings() {
        warn!("{warning}");
    }
    Ok(Plan::new(&loaded, registry)?)
}

/// The same for a process that may have more rights than its caller. `texts` are the files, where somebody else has read
/// them.
pub(crate) fn careful_plan(
    registry: &Registry,
    sources: &Sources,
    elevated: bool,
    texts: Option<&Texts>,
) -> Result<Plan, Refusal> {
    let careful = |error: ConfigError| if elevated { error.without_content() } else { error };
    let loaded = match texts {
        Some(texts) => sources.load_texts(texts, registry),
        None => sources.load(registry),
    };
    let loaded = loaded.map_err(careful)?;
    for warning in loaded.warnings() {
        warn!("{warning}");
    }
    let plan = Plan::new(&loaded, registry).map_err(careful)?;
    if !elevated {
        return Ok(plan);
    }
    confine(&plan)?;
    // A socket is a way in.
    Ok(Plan { status: None, ..plan })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_more_rights_than_its_caller_it_tells_no_status_though_one_is_configured() {
        let registry = crate::registry();
        let sources = Sources::built_in().set(["status.socket=/run/status.sock".to_owned()]);
        let status = |elevated| careful_plan(&registry, &sources, elevated, None).expect("a plan").status;
        assert!(status(false).is_some() && status(true).is_none());
    }
}
