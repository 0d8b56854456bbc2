//! Every example configuration is right for the probes and sinks that come with the agent.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ebpf_process_config::{DEFAULT, Plan, Sources};
use ebpf_process_core::{Options, Registry, Scope};
use rustix::process::Signal;

use crate::agent::{Running, command, finish};

fn plan(path: &Path) -> Plan {
    let registry = ebpf_process::registry();
    let loaded = Sources::command_line(Some(path)).load(&registry).unwrap_or_else(|error| panic!("{error}"));
    Plan::new(&loaded, &registry).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_example_loads_and_means_what_its_name_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    let sinks_of = BTreeMap::from([
        ("netdata", vec!["netdata"]),
        ("statsd", vec!["statsd"]),
        ("dogstatsd", vec!["statsd"]),
        ("influx", vec!["influx"]),
        ("json", vec!["json"]),
        ("prometheus", vec!["prometheus"]),
        ("otlp", vec!["otlp"]),
        ("all", vec!["influx", "statsd", "netdata"]),
        ("one-process", vec!["influx"]),
    ]);
    let mut seen = 0;
    for entry in folder.read_dir().expect("the examples") {
        let path = entry.expect("an example").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let plan = plan(&path);
        let types: Vec<&str> = plan.sinks.iter().map(|sink| sink.plugin.name()).collect();
        assert_eq!(Some(&types), sinks_of.get(name.as_str()), "{name}");
        assert_eq!(plan.scope == Scope::Filtered, name == "one-process", "{name}");
        seen += 1;
    }
    assert_eq!(seen, sinks_of.len());
}

#[test]
fn the_commented_default_is_what_the_probes_do_anyway() {
    let registry: Registry = ebpf_process::registry();
    let loaded = Sources::built_in().load(&registry).expect("the default");
    let plan = Plan::new(&loaded, &registry).expect("a plan");
    assert_eq!(plan.probes.len(), registry.probes().filter(|probe| probe.is_default()).count());
    for probe in &plan.probes {
        let configured = probe.plugin.catalog(&probe.options).expect("right options");
        assert_eq!(configured, probe.plugin.catalog(&Options::none()).expect("right options"), "{}", probe.name);
    }
}

#[test]
fn what_the_default_has_in_comments_is_right_for_the_real_plugins() {
    let uncommented: Vec<&str> = DEFAULT
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
            _ => line,
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.toml");
    std::fs::write(&path, uncommented.join("\n")).expect("a file");
    assert_eq!(plan(&path).sinks.len(), 1);
}

/// The configurations that the README shows.
fn readme() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("the README");
    let parts = text.split("```toml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_the_readme_shows_passes_check_and_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("status.sock");
    let store = folder.path().join("store");
    let gpu = folder.path().join("gpu");
    let program = "#!/bin/sh\necho '{\"ebpf_process\": [1], \"format\": \"rows\"}'\nexec cat > /dev/null\n";
    for path in [&store, &gpu] {
        std::fs::write(path, program).expect("a program");
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a program");
    }
    for (index, config) in readme().into_iter().enumerate() {
        // Ports and paths that nobody else has; all else as it stands there.
        let config = config
            .replace("listen = \"127.0.0.1:19435\"", "listen = \"127.0.0.1:0\"")
            .replace("/usr/local/bin/store", &store.display().to_string())
            .replace("/usr/local/bin/gpu", &gpu.display().to_string())
            .replace("/var/log/ebpf-process", &folder.path().display().to_string());
        let path = folder.path().join(format!("{index}.toml"));
        std::fs::write(&path, &config).expect("a file");
        let path = path.display().to_string();
        let socket = format!("status.socket={}", socket.display());
        let instance = format!("instance=readme-{}", std::process::id());
        let settings =
            ["--set", "probes.process.enabled=false", "--set", "probes.file.enabled=false", "--set", &socket];
        let arguments =
            |command: &'static str| [&[command, "--config", &path, "--set", &instance], &settings[..]].concat();

        let checked = finish(command(&arguments("check")).env("XDG_RUNTIME_DIR", folder.path()));
        assert_eq!(checked.code(), 0, "{config}{checked:?}");
        let mut run = command(&arguments("run"));
        let mut agent = Running::start(run.env("XDG_RUNTIME_DIR", folder.path()));
        agent.wait_for_log("counting");
        agent.signal(Signal::TERM);
        let ended = agent.finish();
        assert_eq!(ended.code(), 0, "{config}{ended:?}");
        assert!(!ended.stderr.contains("left out"), "{config}{ended:?}");
    }
}
