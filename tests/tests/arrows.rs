//! The arrows between the crates are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which of our crates a crate may depend on, tests apart.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ebpf-process-core", &[]),
    ("ebpf-process-probes", &["ebpf-process-core"]),
    ("ebpf-process-sink-netdata", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-sink-statsd", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-delivery", &["ebpf-process-core"]),
    ("ebpf-process-sink-influx", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-sink-json", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-sink-prometheus", &["ebpf-process-core", "ebpf-process-delivery"]),
    (
        "ebpf-process-sinks",
        &[
            "ebpf-process-core",
            "ebpf-process-sink-influx",
            "ebpf-process-sink-json",
            "ebpf-process-sink-netdata",
            "ebpf-process-sink-prometheus",
            "ebpf-process-sink-statsd",
        ],
    ),
    ("ebpf-process-config", &["ebpf-process-core"]),
    (
        "ebpf-process",
        &[
            "ebpf-process-config",
            "ebpf-process-core",
            "ebpf-process-delivery",
            "ebpf-process-probes",
            "ebpf-process-sinks",
        ],
    ),
    ("xtask", &[]),
];

/// Packages that only these crates may know.
const CONFINED: &[(&str, &[&str])] = &[
    ("aya", &["ebpf-process-probes"]),
    ("aya-obj", &["ebpf-process-probes"]),
    ("libc", &["ebpf-process-probes"]),
    ("clap", &["ebpf-process"]),
    ("figment", &["ebpf-process-config", "ebpf-process-core"]),
    ("crossbeam-channel", &["ebpf-process", "ebpf-process-core"]),
];

#[test]
fn no_crate_knows_more_than_it_may() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata");
    let arrows: BTreeMap<&str, BTreeSet<&str>> = metadata
        .packages
        .iter()
        .map(|package| {
            let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
            (package.name.as_str(), normal.map(|dependency| dependency.name.as_str()).collect())
        })
        .collect();
    for (name, dependencies) in &arrows {
        // The whole-agent tests stand outside: they may look at everything.
        if *name == "ebpf-process-tests" {
            continue;
        }
        let (_, allowed) = ALLOWED.iter().find(|(known, _)| known == name).expect("every crate is in the table");
        for dependency in dependencies.iter().filter(|dependency| arrows.contains_key(**dependency)) {
            assert!(allowed.contains(dependency), "{name} must not depend on {dependency}");
        }
        for (package, homes) in CONFINED {
            assert!(!dependencies.contains(package) || homes.contains(name), "{name} must not depend on {package}");
        }
    }
    assert_eq!(arrows.len(), ALLOWED.len() + 1, "a crate of the table is gone");
}
