//! Every example configuration is right for the probes and sinks that come with the agent.

use std::collections::BTreeMap;
use std::path::Path;

use ebpf_process_config::{DEFAULT, Plan, Sources};
use ebpf_process_core::{Options, Registry, Scope};

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
    assert_eq!(plan.probes.len(), registry.probes().count());
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
