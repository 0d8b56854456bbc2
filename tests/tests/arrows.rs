//! The arrows between the crates are those of ARCHITECTURE.md, and between the files of a crate none leads back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which of our crates a crate may depend on, tests apart.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ebpf-process-core", &[]),
    ("ebpf-process-probe-exec", &["ebpf-process-core", "ebpf-process-peer"]),
    ("ebpf-process-probes", &["ebpf-process-core", "ebpf-process-names"]),
    ("ebpf-process-names", &[]),
    ("ebpf-process-sink-netdata", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-sink-statsd", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-delivery", &["ebpf-process-core"]),
    ("ebpf-process-http", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-peer", &["ebpf-process-core"]),
    ("ebpf-process-sink-exec", &["ebpf-process-core", "ebpf-process-delivery", "ebpf-process-peer"]),
    ("ebpf-process-sink-influx", &["ebpf-process-core", "ebpf-process-delivery", "ebpf-process-http"]),
    ("ebpf-process-sink-otlp", &["ebpf-process-core", "ebpf-process-delivery", "ebpf-process-http"]),
    ("ebpf-process-sink-json", &["ebpf-process-core", "ebpf-process-delivery"]),
    ("ebpf-process-sink-prometheus", &["ebpf-process-core", "ebpf-process-delivery"]),
    (
        "ebpf-process-sinks",
        &[
            "ebpf-process-core",
            "ebpf-process-sink-exec",
            "ebpf-process-sink-influx",
            "ebpf-process-sink-json",
            "ebpf-process-sink-netdata",
            "ebpf-process-sink-otlp",
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
            "ebpf-process-probe-exec",
            "ebpf-process-probes",
            "ebpf-process-sinks",
        ],
    ),
    ("ebpf-process-load", &["ebpf-process-core", "ebpf-process-sinks", "ebpf-process-tests"]),
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

fn metadata() -> Result<Metadata, cargo_metadata::Error> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec()
}

#[test]
fn no_crate_knows_more_than_it_may() {
    let metadata = metadata().expect("cargo metadata");
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

#[test]
fn no_file_of_a_crate_needs_one_that_needs_it() {
    for package in metadata().expect("cargo metadata").packages {
        let source = package.manifest_path.with_file_name("src");
        let files = Files::read(source.as_std_path()).expect("its sources");
        assert_eq!(files.circle(), None, "a circle of files in {}", package.name);
    }
}

/// The files of a crate by module path, each with what it names by `crate::` and `super::`. The root, which names them
/// all and hands on what they export, is none of them; nor are tests.
struct Files(BTreeMap<Vec<String>, BTreeSet<Vec<String>>>);

impl Files {
    fn read(source: &Path) -> io::Result<Self> {
        let mut texts = BTreeMap::new();
        collect(source, &mut Vec::new(), &mut texts)?;
        let named = |(module, text): (&Vec<String>, &String)| {
            let parts = texts.keys().filter(|file| file.len() == module.len() + 1 && file.starts_with(module));
            let parts = parts.filter(|part| part.last().is_some_and(|part| uses_part(text, part))).cloned();
            let paths = paths(module, text).into_iter().chain(parts);
            let files = paths.filter_map(|path| {
                let lengths = (1..=path.len()).rev();
                lengths.map(|length| path[..length].to_vec()).find(|file| texts.contains_key(file))
            });
            (module.clone(), files.filter(|file| file != module).collect())
        };
        Ok(Self(texts.iter().map(named).collect()))
    }

    /// The files of a circle, if there is one: those that remain when who names none of the others is taken away again
    /// and again, and then who is named by none.
    fn circle(&self) -> Option<Vec<String>> {
        let mut left: BTreeSet<&Vec<String>> = self.0.keys().collect();
        loop {
            let names = |file: &Vec<String>| self.0[file].iter().any(|other| left.contains(other));
            let is_named = |file: &Vec<String>| left.iter().any(|other| self.0[*other].contains(file));
            let both = |file: &&&Vec<String>| names(file) && is_named(file);
            let fewer: BTreeSet<_> = left.iter().filter(both).copied().collect();
            if fewer.len() == left.len() {
                return (!left.is_empty()).then(|| left.into_iter().map(|file| file.join("/")).collect());
            }
            left = fewer;
        }
    }
}

fn collect(folder: &Path, module: &mut Vec<String>, texts: &mut BTreeMap<Vec<String>, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        module.push(name.clone());
        if path.is_dir() {
            collect(&path, module, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !(module.len() == 1 && ["lib", "main"].contains(&name.as_str()))
        {
            let text = fs::read_to_string(&path)?;
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
            let code = lines.map(|line| line.split("//").next().unwrap_or_default());
            texts.insert(module.clone(), code.collect::<Vec<_>>().join("\n"));
        }
        module.pop();
    }
    Ok(())
}

/// Whether a text names something of a part of it, but to hand it on.
fn uses_part(text: &str, part: &str) -> bool {
    let start = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c));
    let handed_on = |at: usize| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim_start();
        line.starts_with("pub") && line.contains(" use ")
    };
    text.match_indices(&format!("{part}::")).any(|(at, _)| {
        let at = text[..at].strip_suffix("self::").map_or(at, str::len);
        start(at) && !handed_on(at)
    })
}

/// What a text names, as paths from the crate's root.
fn paths(module: &[String], text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for word in ["crate::", "super::"] {
        for (at, _) in text.match_indices(word) {
            let is_start = !text[..at].ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c));
            if is_start {
                expand(&[], &text[at..], &mut all);
            }
        }
    }
    let from_root = |path: Vec<String>| {
        let ups = path.iter().take_while(|word| *word == "super").count();
        let base = if ups == 0 { &[][..] } else { &module[..module.len().saturating_sub(ups)] };
        let rest = path.into_iter().skip(ups.max(1));
        base.iter().cloned().chain(rest).collect()
    };
    all.into_iter().map(from_root).collect()
}

/// The paths of a tree such as `a::{b, c::d}` that a text begins with.
fn expand(before: &[String], tree: &str, all: &mut Vec<Vec<String>>) {
    let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tree.len());
    let words = tree[..end].split("::").filter(|word| !word.is_empty()).map(str::to_owned);
    let path: Vec<String> = before.iter().cloned().chain(words).collect();
    if !tree[end..].starts_with('{') {
        all.push(path);
        return;
    }
    let mut depth = 0;
    let mut branches = String::new();
    for c in tree[end..].chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            break;
        }
        // Only what is outside of further braces ends a branch.
        branches.push(if depth == 1 && matches!(c, ',' | '{') { ';' } else { c });
    }
    branches
        .split(';')
        .map(str::trim)
        .filter(|branch| !branch.is_empty())
        .for_each(|branch| expand(&path, branch, all));
}

#[test]
fn a_circle_is_found_whatever_way_it_is_written() {
    let module = |words: &str| words.split('/').map(str::to_owned).collect::<Vec<_>>();
    let named = |text| paths(&module("a/b"), text).iter().map(|path| path.join("/")).collect::<Vec<_>>();
    let text = "use crate::c::{self, D, e::{F, G}};\npub(crate) use super::h::I;\nlet x = crate::k::l();";
    assert_eq!(named(text), ["c/self", "c/D", "c/e/F", "c/e/G", "k/l", "a/h/I"]);
    let text = "mod d;\npub(crate) use d::E;\nlet x = bad::y();";
    assert!(!uses_part(text, "d") && uses_part(&format!("{text}\nuse self::d::F;"), "d"));
    assert!(uses_part("fn f() -> d::G {}", "d"));
    let files = |arrows: &[(&str, &str)]| {
        let mut files = Files(BTreeMap::new());
        for (from, to) in arrows {
            files.0.entry(module(to)).or_default();
            files.0.entry(module(from)).or_default().insert(module(to));
        }
        files.circle()
    };
    assert_eq!(files(&[("a", "b"), ("b", "c"), ("a", "c")]), None);
    assert_eq!(files(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]), Some(vec!["b".to_owned(), "c".to_owned()]));
}
