//! `cargo xtask package`: the crates as packages, as a registry would have them, and what strangers write, built from nothing
//! else: an agent of somebody's, and copies of the templates.
//!
//! A package has only what is below its crate's folder, and says of its dependencies no more than a version. Whatever of it
//! reaches out of the folder, or is not packed, is missing here and nowhere else. `cargo package` can build what it packs
//! as well, but each crate on its own, which takes many times as long.

use crate::packages::target_directory;
use crate::{Outcome, output, run, say};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// An agent with a sink of somebody else's; with it every crate that is packed is linked.
const STRANGERS_SINK: &str = "tests/out-of-tree-sink";

/// What it consists of.
const PARTS: [&str; 4] = ["Cargo.toml", "Cargo.lock", "src", "tests"];

/// What a sink of one's own can begin with, in Rust and in any language: `docs/write-a-sink.md`.
const RUST_TEMPLATE: &str = "docs/templates/rust-sink";
const PROGRAM_TEMPLATE: &str = "docs/templates/python-sink";

/// A crate that is packed.
struct Package {
    name: String,
    version: String,
}

impl Package {
    /// The name of its file, and of the folder in it.
    fn stem(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

/// Packs every crate that may be published, builds a stranger's agent and its tests from the packages, and has both templates
/// do what a sink promises, each in a folder outside this one.
///
/// # Errors
/// A crate cannot be packed, an agent does not build from the packages, or a template does not do what it promises.
pub(crate) fn package(options: &[&str]) -> Outcome {
    if !options.is_empty() {
        return Err(crate::USAGE.into());
    }
    // A task runs in the checkout it was built in.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let packages = packages(&root)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(&root).args(["package", "--quiet", "--locked", "--no-verify", "--allow-dirty"]);
    for package in &packages {
        cargo.args(["--package", &package.name]);
    }
    run(&mut cargo)?;

    let target = target_directory()?;
    let packed = target.join("package");
    let folder = packed.join("stranger");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for package in &packages {
        let file = packed.join(format!("{}.crate", package.stem()));
        // The time that cargo gives to packed files is always the same one: what has changed would pass for built.
        run(Command::new("tar").args(["--extract", "--touch", "--file"]).arg(file).arg("--directory").arg(&folder))?;
    }
    let agent = folder.join("my-agent");
    fs::create_dir(&agent)?;
    let parts = PARTS.map(|part| root.join(STRANGERS_SINK).join(part));
    run(Command::new("cp").arg("-r").args(parts).arg(&agent))?;
    let manifest = agent.join("Cargo.toml");
    let text = from_packages(&fs::read_to_string(&manifest)?, &packages, &folder)?;
    fs::write(&manifest, text)?;
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--all-targets", "--manifest-path"]).arg(&manifest);
    // What it has in common with others need not be built twice.
    run(build.env("CARGO_TARGET_DIR", &target))?;
    say(format!("{} packages, and {STRANGERS_SINK} is built from them", packages.len()));
    templates(&root, &target, |manifest| from_packages(manifest, &packages, &folder))
}

/// Copies the templates to a folder outside the checkout, builds what is to be built with the manifest that `from_packages`
/// makes of its own, and has the agent test both sinks.
fn templates(root: &Path, target: &Path, from_packages: impl Fn(&str) -> Outcome<String>) -> Outcome {
    let place = tempfile::tempdir()?;
    let copy = |template: &str| {
        run(Command::new("cp").arg("-r").arg(root.join(template)).arg(place.path()))?;
        Ok::<_, Box<dyn Error>>(place.path().join(Path::new(template).file_name().unwrap_or_default()))
    };
    let rust = copy(RUST_TEMPLATE)?;
    let manifest = rust.join("Cargo.toml");
    fs::write(&manifest, from_packages(&fs::read_to_string(&manifest)?)?)?;
    // Whoever copies a template gets what is newest; here it is what was tried.
    fs::copy(root.join(STRANGERS_SINK).join("Cargo.lock"), rust.join("Cargo.lock"))?;
    let mut build = Command::new(env!("CARGO"));
    run(build.args(["build", "--quiet"]).current_dir(&rust).env("CARGO_TARGET_DIR", target))?;

    let agent = target.join("debug/my-agent");
    let path = rust.join("conformance.txt");
    fs::write(&path, "")?;
    let mut test = Command::new(&agent);
    test.args(["sink-test", "lines", "--verify", "./stored", "--seed", "1", "--set"]);
    run(test.arg(format!("path={}", path.display())).current_dir(&rust))?;
    let program = copy(PROGRAM_TEMPLATE)?;
    let mut test = Command::new(&agent);
    test.args(["sink-test", "exec", "--verify", "./stored.py", "--seed", "1", "--set"]);
    test.arg(format!("program=['{}']", program.join("store.py").display())).arg("--set");
    test.arg(format!("config.database={}", program.join("conformance.db").display()));
    run(test.current_dir(&program))?;
    say(format!("copies of {RUST_TEMPLATE} and {PROGRAM_TEMPLATE} do what a sink promises"));
    Ok(())
}

/// The crates of the workspace that may be published.
fn packages(root: &Path) -> Outcome<Vec<Package>> {
    let metadata = ["metadata", "--format-version=1", "--no-deps"];
    let metadata: serde_json::Value =
        serde_json::from_str(&output(Command::new(env!("CARGO")).current_dir(root).args(metadata))?)?;
    let members = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).ok_or("cargo metadata names no crate");
    members
        .iter()
        // `publish = false` is an empty list of registries.
        .filter(|member| member["publish"].as_array().is_none_or(|registries| !registries.is_empty()))
        .map(|member| Ok(Package { name: text(&member["name"])?, version: text(&member["version"])? }))
        .collect()
}

/// A manifest with versions where it has paths out of its folder, and the packages that are unpacked in `folder` as those
/// versions.
fn from_packages(manifest: &str, packages: &[Package], folder: &Path) -> Outcome<String> {
    let mut text = String::new();
    for line in manifest.lines() {
        let path = line.split_once("path = \"../").and_then(|(before, rest)| Some((before, rest.split_once('"')?.1)));
        let Some((before, after)) = path else {
            writeln!(text, "{line}")?;
            continue;
        };
        let name = line.split(' ').next().unwrap_or_default();
        let package = packages.iter().find(|package| package.name == name);
        let package = package.ok_or_else(|| format!("{STRANGERS_SINK} needs {name}, which is not packed"))?;
        writeln!(text, "{before}version = \"{}\"{after}", package.version)?;
    }
    writeln!(text, "\n[patch.crates-io]")?;
    for package in packages {
        writeln!(text, "{} = {{ path = \"{}\" }}", package.name, folder.join(package.stem()).display())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_packages_in_place_of_paths() {
        let packages = [Package { name: "ebpf-process-core".into(), version: "0.1.0".into() }];
        let manifest =
            "[dependencies]\nserde = \"1\"\nebpf-process-core = { path = \"../../core\", features = [\"testkit\"] }\n";
        assert_eq!(
            from_packages(manifest, &packages, Path::new("/packed")).unwrap(),
            "[dependencies]\nserde = \"1\"\nebpf-process-core = { version = \"0.1.0\", features = [\"testkit\"] }\n\n\
             [patch.crates-io]\nebpf-process-core = { path = \"/packed/ebpf-process-core-0.1.0\" }\n"
        );
        let manifest = "ebpf-process = { path = \"../../bin\" }";
        let error = from_packages(manifest, &packages, Path::new("/packed")).unwrap_err().to_string();
        assert_eq!(error, "tests/out-of-tree-sink needs ebpf-process, which is not packed");
    }

    #[test]
    fn what_a_stranger_needs_is_packed_and_nothing_else() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let names: Vec<String> = packages(&root).unwrap().into_iter().map(|package| package.name).collect();
        for name in
            ["ebpf-process", "ebpf-process-core", "ebpf-process-delivery", "ebpf-process-http", "ebpf-process-probes"]
        {
            assert!(names.iter().any(|packed| packed == name), "{name} is not in {names:?}");
        }
        for name in ["xtask", "ebpf-process-tests", "ebpf-process-load"] {
            assert!(names.iter().all(|packed| packed != name), "{name} is in {names:?}");
        }
    }
}
