//! `cargo xtask test`: what the tests need beyond Rust, the tests, and the account of the live ones.

use crate::guide::script;
use crate::{Outcome, output, run, say};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that live tests need, and where it comes from.
struct Need {
    program: &'static str,
    package: &'static str,
    /// The live tests that are skipped without it.
    tests: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "bpftrace", package: "bpftrace", tests: "beside-bpftrace, accuracy-load, accuracy-crew" },
    Need {
        program: "/usr/bin/python3",
        package: "python3",
        tests: "accuracy-load, accuracy-taskstats, exec-python, exec-probe-python, exec-probe-reload",
    },
    Need { program: "bpftool", package: "bpftool", tests: "nothing-stays, churn-processes, systemd-*" },
    Need { program: "strace", package: "strace", tests: "expectations-by-strace, first-attach, unit-system-calls" },
    Need { program: "systemd-analyze", package: "systemd", tests: "unit-*" },
    Need { program: "netdata", package: "netdata-core", tests: "three-sinks, statsd-netdata, netdata-*" },
    Need { program: "setcap", package: "libcap2-bin", tests: "file-capabilities, permitted-capabilities" },
    Need { program: "influxd", package: "influxdb", tests: "three-sinks, influx-*, busiest-influx" },
    Need { program: "victoria-metrics", package: "victoria-metrics", tests: "victoria*, busiest-victoria" },
    Need { program: "node", package: "nodejs", tests: "three-sinks, statsd-*, exec-node" },
    Need { program: "npm", package: "npm", tests: "three-sinks, statsd-*" },
    Need { program: "collectd", package: "collectd-core", tests: "statsd-collectd" },
    Need { program: "carbon-cache", package: "graphite-carbon", tests: "statsd-carbon" },
    Need { program: "promtool", package: "prometheus", tests: "prometheus, busiest-prometheus" },
    // No program but a file of Python's, whose path is whole.
    Need {
        program: "/usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py",
        package: "python3-prometheus-client",
        tests: "prometheus",
    },
    Need {
        program: "/usr/lib/python3/dist-packages/jsonschema/__init__.py",
        package: "python3-jsonschema",
        tests: "exec-schema",
    },
];

/// The `StatsD` server, from the npm registry; its scripts build an optional module that no test needs.
const STATSD: &str = "statsd@0.9.0";

/// The variable by which live tests find a folder, and what fetches it.
type Folder = (&'static str, fn() -> Outcome<PathBuf>);

/// Where what we fetch is kept: `$XDG_CACHE_HOME/ebpf-process`, or the same below `~/.cache`.
///
/// # Errors
/// Neither is known.
pub(crate) fn cache() -> Outcome<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = base.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("ebpf-process");
    fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    Ok(cache)
}

/// The folder that cargo builds into.
///
/// # Errors
/// Cargo cannot read the workspace.
pub(crate) fn target_directory() -> Outcome<PathBuf> {
    let metadata = output(Command::new(env!("CARGO")).args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    Ok(target.into())
}

/// `cargo xtask test [--fast | --no-skip]`; the environment's `CI=true` means `--no-skip`. `folders` are what live tests find
/// unpacked, since it is newer than this machine's own: a variable that says where, and what fetches it.
///
/// # Errors
/// A wrong option, a build or a test that fails, or, with `--no-skip`, a live test that was skipped.
pub(crate) fn test(options: &[&str], folders: [Folder; 2]) -> Outcome {
    let no_skip = match options {
        // On CI nobody reads what was skipped.
        [] => env::var_os("CI").is_some_and(|ci| ci == "true"),
        ["--no-skip"] => true,
        ["--fast"] => return fast(),
        _ => return Err(crate::USAGE.into()),
    };
    install();

    run(Command::new(env!("CARGO")).args(["build", "--release"]))?;
    let folder = tempfile::tempdir()?;
    let book = folder.path().join("live");
    let target = target_directory()?;
    // A workspace of its own, but what it has in common with ours need not be built twice.
    run(Command::new(env!("CARGO"))
        .args(["build", "--locked", "--manifest-path", STRANGERS_PROBES])
        .env("CARGO_TARGET_DIR", &target))?;
    let unpacked = folders.map(|(variable, fetch)| (variable, fetch()));
    for (variable, folder) in &unpacked {
        if let Err(reason) = folder {
            say(format!("nothing is there for {variable}: the tests that need it will be skipped: {reason}"));
        }
    }
    let live = |command: &mut Command| {
        for (variable, folder) in &unpacked {
            if let Ok(folder) = folder {
                command.env(variable, folder);
            }
        }
        command.env("LIVE_TEST_LOG", &book).env("AGENT_UNDER_TEST", target.join("release/ebpf-process"));
        command.env("STRANGERS_AGENT", target.join("debug/my-probes"));
        if no_skip {
            command.env("LIVE_TEST_NO_SKIP", "1");
        }
    };
    // Everything runs, so that the account is complete after a failure too.
    let mut tests = Command::new(env!("CARGO"));
    live(tests.args(["test", "--workspace", "--no-fail-fast"]));
    let workspace = run(&mut tests);
    let guide = || Ok(script(&fs::read_to_string(GUIDE)?));
    let recipes = CHAPTERS.map(recipe).into_iter().chain([guide()]);
    let strangers: Vec<Outcome> = recipes
        .map(|commands| {
            let mut shell = Command::new("sh");
            // An empty folder for each.
            let place = tempfile::tempdir()?;
            shell.args(["-euxc", &commands?]).current_dir(place.path());
            shell.env("CARGO_TARGET_DIR", &target).env("EBPF_PROCESS", env::current_dir()?);
            live(&mut shell);
            run(&mut shell)
        })
        .collect();

    let account = Account::read(&fs::read_to_string(&book).unwrap_or_default());
    say(account.summary());
    workspace?;
    strangers.into_iter().collect::<Outcome>()?;
    account.verdict(no_skip)
}

/// An agent with kernel probes of somebody else.
pub(crate) const STRANGERS_PROBES: &str = "tests/out-of-tree-probe/Cargo.toml";

/// What CONTRIBUTING.md tells whoever is not of this tree.
const CHAPTERS: [&str; 2] = ["A sink of your own", "A kernel probe of your own"];

/// What leads from an empty folder to a sink.
const GUIDE: &str = "docs/write-a-sink.md";

/// The commands by which one of its chapters makes an agent with something of one's own.
fn recipe(chapter: &str) -> Outcome<String> {
    let text = fs::read_to_string("CONTRIBUTING.md")?;
    let section = text.split_once(&format!("## {chapter}\n")).map(|(_, behind)| behind);
    let commands = section.map(|section| script(section.split("\n## ").next().unwrap_or_default()));
    commands
        .filter(|commands| !commands.is_empty())
        .ok_or_else(|| format!("CONTRIBUTING.md has no recipe in {chapter:?} any more").into())
}

/// The tests without a live agent: those of every crate that `cargo test` takes by itself, the dependencies between
/// crates, the generated documentation, and the tasks.
fn fast() -> Outcome {
    run(Command::new(env!("CARGO")).args(["test", "--no-fail-fast"]))?;
    let tests = ["--package", "ebpf-process-tests", "--lib", "--test", "arrows", "--test", "docs"];
    run(Command::new(env!("CARGO")).arg("test").args(tests))?;
    run(Command::new(env!("CARGO")).args(["test", "--package", "xtask"]))
}

/// Installs what is missing where that is allowed; says what is skipped where it is not. Never an error: the account
/// at the end tells what that came to.
fn install() {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| find(need.program).is_none()).collect();
    if !missing.is_empty()
        && let Err(reason) = install_packages(&missing)
    {
        for need in &missing {
            say(format!("{} (package {}) is missing: {} will be skipped", need.program, need.package, need.tests));
        }
        say(format!("not installed, because: {reason}"));
    }
    if let Err(reason) = install_statsd() {
        say(format!("{STATSD} from npm is missing: three-sinks and statsd-* will be skipped: {reason}"));
    }
}

fn install_packages(missing: &[&Need]) -> Outcome {
    if find("apt-get").is_none() {
        return Err("there is no apt-get on this machine".into());
    }
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err("installing packages needs root".into());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    say(format!("installing {}", packages.join(", ")));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=300"]);
        apt
    };
    output(apt().arg("update"))?;
    output(apt().args(["install", "-y", "--no-install-recommends"]).args(packages)).map(drop)
}

fn install_statsd() -> Outcome {
    let prefix = cache()?.join("statsd");
    if prefix.join("node_modules/statsd/stats.js").is_file() {
        return Ok(());
    }
    say(format!("installing {STATSD} from npm into {}", prefix.display()));
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(&prefix)
        .arg(STATSD);
    output(&mut npm).map(drop)
}

/// A program on the PATH or where Debian keeps the system's own.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([Path::new("/usr/sbin").into()]);
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Which live tests ran, and which were skipped and why.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    ran: usize,
    /// Name and reason.
    skipped: Vec<(String, String)>,
}

impl Account {
    /// Reads the book: `ran NAME` and `skipped NAME REASON`, one a line.
    fn read(book: &str) -> Self {
        let mut account = Self::default();
        for line in book.lines() {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next()) {
                (Some("ran"), Some(_)) => account.ran += 1,
                (Some("skipped"), Some(name)) => {
                    let reason = words.next().unwrap_or("no reason given");
                    account.skipped.push((name.into(), reason.into()));
                }
                _ => {}
            }
        }
        account
    }

    fn summary(&self) -> String {
        let mut lines = vec![format!("live tests: {} ran, {} skipped", self.ran, self.skipped.len())];
        lines.extend(self.skipped.iter().map(|(name, reason)| format!("  skipped {name}: {reason}")));
        lines.join("\n")
    }

    fn verdict(&self, no_skip: bool) -> Outcome {
        if no_skip && (self.ran == 0 || !self.skipped.is_empty()) {
            return Err("--no-skip: live tests were skipped".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_names_every_skipped_test_and_its_reason() {
        let account = Account::read("ran a\nskipped b needs root\nran c\n");
        assert_eq!(account.summary(), "live tests: 2 ran, 1 skipped\n  skipped b: needs root");
        assert!(account.verdict(false).is_ok());
        assert!(account.verdict(true).is_err());
    }

    #[test]
    fn without_any_live_test_nothing_was_proven() {
        assert!(Account::read("").verdict(true).is_err());
        assert!(Account::read("ran a\n").verdict(true).is_ok());
    }
}
