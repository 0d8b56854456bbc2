//! `cargo xtask oldest`: whether what strangers build on compiles with as old a Rust as it says.
//!
//! The compiler is Debian's, fetched and unpacked as kernels are. It is driven by the cargo that runs this task, with the
//! dependencies of the lock file.

use crate::packages::target_directory;
use crate::{Outcome, output, run, say};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates whose `rust-version` is lower than that of the others.
const CRATES: [&str; 3] = ["ebpf-process-core", "ebpf-process-delivery", "ebpf-process-http"];

/// What a stranger's tests have of them as well.
const FEATURES: &str = "ebpf-process-core/testkit";

/// A compiler in a folder of its own.
pub(crate) struct Compiler {
    /// Its `/`.
    pub(crate) root: PathBuf,
}

impl Compiler {
    /// Has a command use it.
    fn serve(&self, command: &mut Command) {
        command.env("RUSTC", self.root.join("usr/bin/rustc"));
        command.env("LD_LIBRARY_PATH", self.root.join("usr/lib/x86_64-linux-gnu"));
        // The switches of others are not for a compiler of another age.
        for other in ["RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS"] {
            command.env_remove(other);
        }
    }

    /// How it calls itself.
    fn version(&self) -> Outcome<String> {
        let mut rustc = Command::new(self.root.join("usr/bin/rustc"));
        self.serve(&mut rustc);
        Ok(output(rustc.arg("--version"))?.trim_end().to_owned())
    }
}

/// Checks the crates with the compiler that `fetch` gives. Where it gives none that runs, it is said that they were not.
///
/// # Errors
/// A crate does not compile, or does not say which Rust it needs.
pub(crate) fn oldest(options: &[&str], fetch: fn() -> Outcome<Compiler>) -> Outcome {
    if !options.is_empty() {
        return Err(crate::USAGE.into());
    }
    // A task runs in the checkout it was built in.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let promised = promised(&root)?;
    let fetched = fetch().and_then(|compiler| Ok((compiler.version()?, compiler)));
    let (version, compiler) = match fetched {
        Ok(fetched) => fetched,
        Err(reason) => {
            say(format!("{} were NOT checked with Rust {promised}: Debian's cannot be had here: {reason}", named()));
            return Ok(());
        }
    };
    let mut cargo = Command::new(env!("CARGO"));
    compiler.serve(&mut cargo);
    cargo.current_dir(root).args(["check", "--quiet", "--locked", "--features", FEATURES]);
    for name in CRATES {
        cargo.args(["--package", name]);
    }
    // What another compiler has built is of no use to this one, nor the other way round.
    run(cargo.arg("--target-dir").arg(target_directory()?.join("oldest")))
        .map_err(|reason| format!("{} do not compile with {version}: {reason}", named()))?;
    if !crate::interface::is_release(&version, &promised) {
        say(format!("{} were NOT checked with Rust {promised}: Debian has {version} by now", named()));
    }
    say(format!("{} compile with {version}", named()));
    Ok(())
}

fn named() -> String {
    CRATES.join(", ")
}

/// The one `rust-version` of the crates.
fn promised(root: &Path) -> Outcome<String> {
    let metadata = ["metadata", "--format-version=1", "--no-deps"];
    let metadata: serde_json::Value =
        serde_json::from_str(&output(Command::new(env!("CARGO")).current_dir(root).args(metadata))?)?;
    let members = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let of = |name: &str| members.iter().find(|member| member["name"] == name)?["rust_version"].as_str();
    let versions = CRATES.map(of);
    let [Some(version), ..] = versions else { return Err(format!("{} has no rust-version", CRATES[0]).into()) };
    if versions != [Some(version); CRATES.len()] {
        return Err(format!("{} have not the same rust-version: {versions:?}", named()).into());
    }
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_crates_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let page = std::fs::read_to_string(root.join("docs/compatibility.md")).unwrap();
        let sentence = format!("`core`, `delivery` and `http` need Rust {}", promised(&root).unwrap());
        assert!(page.contains(&sentence), "docs/compatibility.md does not say: {sentence}");
    }
}
