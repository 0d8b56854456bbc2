//! The tests in virtual machines: every kernel of a table, every row that must be right on it.
//!
//! Kernels and the emulator are Debian packages, fetched and unpacked into a cache and never installed. The machine
//! is emulated (TCG), so it needs no rights and no hardware support. Its whole disk is an initial RAM disk with a
//! shell, the agent, the tests' `guest` program, and what single rows need besides.

mod boot;
pub(crate) mod counted;
mod debian;
mod initramfs;
mod kernels;

use crate::oldest::Compiler;
use crate::{Outcome, say};
use kernels::{Kernel, Row};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The folder with servers that are newer than this machine's own, fetched as kernels are.
///
/// # Errors
/// There is no apt, no mirror, or no such package.
pub(crate) fn receivers() -> Outcome<PathBuf> {
    debian::Debian::new(cache()?)?.receivers()
}

/// The folder with a systemd and all that it needs.
///
/// # Errors
/// As [`receivers`].
pub(crate) fn systemd() -> Outcome<PathBuf> {
    debian::Debian::new(cache()?)?.systemd()
}

/// A compiler as old as strangers may have.
///
/// # Errors
/// As [`receivers`].
pub(crate) fn oldest_rust() -> Outcome<Compiler> {
    Ok(Compiler { root: debian::Debian::new(cache()?)?.oldest_rust()? })
}

/// What the rows need beyond the image: a stacked file system.
const OVERLAY: &str = "fs/overlayfs/overlay";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// `cargo xtask vm [--kernel VERSION]... [--all] [--row MODE]... [--boot-only | --build-only]`.
///
/// # Errors
/// A wrong option, something that cannot be fetched or built, a machine that does not boot, a row wrong or missing.
pub(crate) fn run(options: &[&str]) -> Outcome {
    let mut chosen: Vec<&'static Kernel> = Vec::new();
    let (mut boot_only, mut build_only, mut all) = (false, false, false);
    let mut modes: Vec<&str> = Vec::new();
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        match *option {
            "--boot-only" => boot_only = true,
            "--build-only" => build_only = true,
            "--all" => all = true,
            "--row" => modes.push(rest.next().copied().unwrap_or_default()),
            "--kernel" => chosen.push(Kernel::named(rest.next().copied().unwrap_or_default())?),
            other => return Err(format!("vm: unknown option {other:?}\n{}", crate::USAGE).into()),
        }
    }
    if chosen.is_empty() {
        chosen.extend(Kernel::all());
    }

    let cache = cache()?;
    let debian = debian::Debian::new(cache.clone())?;
    let emulator = debian.emulator()?;
    let busybox = debian.busybox()?;
    let programs = build(boot_only)?;

    let mut prepared = Vec::new();
    for kernel in chosen {
        let image = debian.kernel(kernel.suite, kernel.package)?;
        let mut files = programs.clone();
        let mut wanted = if boot_only { vec![("workload", "alone")] } else { kernel.rows(all) };
        wanted.retain(|(_, mode)| modes.is_empty() || modes.contains(mode));
        if wanted.is_empty() {
            continue;
        }
        if wanted.iter().any(|(_, what)| *what == "operations") {
            files.push(("modules/overlay.ko".to_owned(), debian.module(kernel.suite, &image, OVERLAY)?));
        }
        if wanted.contains(&("beside", "perf")) {
            files.extend(debian.perf()?);
        }
        let arguments = if boot_only { String::new() } else { guest_arguments(&wanted) };
        let disk = initramfs::build(&busybox, &files, &arguments)?;
        prepared.push(Prepared { kernel, wanted, image, disk });
    }
    if build_only {
        return Ok(());
    }
    if prepared.is_empty() {
        return Err(format!("vm: no kernel has a row of {}", modes.join(" or ")).into());
    }
    match boot_all(&prepared, &emulator, &cache)?.as_slice() {
        [] => Ok(()),
        // Once more, at the end: whoever reads a log from there sees which.
        wrong => Err(format!("{} rows are wrong or missing:\n{}", wrong.len(), wrong.join("\n")).into()),
    }
}

/// Machines at a time. Each waits for its agent's ticks more than it computes: one alone leaves half of one processor
/// idle.
const AT_ONCE: usize = 3;

/// A machine that can be switched on.
struct Prepared {
    kernel: &'static Kernel,
    wanted: Vec<Row>,
    image: PathBuf,
    disk: Vec<u8>,
}

/// Boots all, says what became of each row, and returns those that are not right.
fn boot_all(prepared: &[Prepared], emulator: &Path, cache: &Path) -> Outcome<Vec<String>> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(machine) = prepared.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (lines, failures) = boot_one(machine, emulator, cache);
            say(lines.join("\n"));
            wrong.lock().unwrap_or_else(PoisonError::into_inner).extend(failures);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(prepared.len()) {
            thread::Builder::new().name("machine".into()).spawn_scoped(scope, work)?;
        }
        Outcome::Ok(())
    })?;
    Ok(wrong.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What to say of one machine's rows, and of those that are not right.
fn boot_one(machine: &Prepared, emulator: &Path, cache: &Path) -> (Vec<String>, Vec<String>) {
    let Prepared { kernel, wanted, image, disk } = machine;
    let kind = boot::Machine { parameters: kernel.parameters, ..boot::PARALLEL };
    let boot = || boot::boot(&kind, emulator, image, disk, cache);
    let seen = boot().and_then(|seen| {
        if !seen.has_died() {
            return Ok(seen);
        }
        // A row that fails does not end a machine: its kernel or the emulator has. What it said is here, and if it was
        // for our programs it dies again.
        say(format!(
            "{}: the machine died, and is switched on once more; its console:\n{}",
            kernel.version,
            seen.tail()
        ));
        boot()
    });
    let seen = match seen {
        Ok(seen) => seen,
        Err(reason) => {
            let failure = format!("{}, all rows: {reason}", kernel.version);
            return (vec![failure.clone()], vec![failure]);
        }
    };
    let (mut lines, mut failures) = compare(kernel.version, wanted, &seen.lines);
    // A row can be right and the guest still end badly: that is a failure of its own. So is a machine that died twice.
    if seen.has_died() || (failures.is_empty() && seen.status != Some(0)) {
        let end = format!("{}: the guest ended with {:?}", kernel.version, seen.status);
        lines.push(format!("{end}; its console:\n{}", seen.tail()));
        failures.push(end);
    }
    (lines, failures)
}

fn guest_arguments(rows: &[Row]) -> String {
    let rows: Vec<String> = rows.iter().map(|(tier, mode)| format!("{tier}:{mode}")).collect();
    rows.join(" ")
}

/// `$XDG_CACHE_HOME/ebpf-process/vm`, or the same below `~/.cache`.
fn cache() -> Outcome<PathBuf> {
    Ok(crate::packages::cache()?.join("vm"))
}

/// Builds the guest, and the agent unless only a boot is wanted, statically: the machine has no libraries.
/// Returns the paths to put on its disk, with their names there.
fn build(boot_only: bool) -> Outcome<Vec<(String, PathBuf)>> {
    // A folder of its own: it can be built while the tests are, which have others.
    let target = crate::packages::target_directory()?.join("vm");
    let built = target.join(TARGET).join("release");

    let mut cargo = release(&target);
    cargo.args(["-p", "ebpf-process-tests", "--bin", "guest"]);
    let mut programs = vec![("guest".to_owned(), built.join("guest"))];
    if !boot_only {
        cargo.args(["-p", "ebpf-process", "--bin", "ebpf-process"]);
        programs.push(("agent".to_owned(), built.join("ebpf-process")));
    }
    crate::run(&mut cargo)?;
    if !boot_only {
        let stranger = ["--locked", "--manifest-path", crate::packages::STRANGERS_PROBES];
        crate::run(release(&target).args(stranger))?;
        programs.push(("strangers-agent".to_owned(), built.join("my-probes")));
        crate::run(release(&target).args(["-p", "ebpf-process-tests", "--example", "assisted"]))?;
        programs.push(("assisted".to_owned(), built.join("examples/assisted")));
    }
    Ok(programs)
}

/// A command that builds something for the machine into a folder.
fn release(target: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.env("CARGO_TARGET_DIR", target);
    cargo.args(["build", "--release", "--target", TARGET]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    // An emulator hides what it gains, and it takes as long as the rest of the build.
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off");
    // The machine unpacks its whole disk at each boot.
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    cargo
}

/// Compares the console's `row` lines with the table: one line per row wanted, and those that are not exact.
fn compare(version: &str, wanted: &[Row], console: &[String]) -> (Vec<String>, Vec<String>) {
    let rows: BTreeMap<(&str, &str), &str> = console.iter().filter_map(|line| row(line)).collect();
    let mut failures = Vec::new();
    let mut lines = Vec::new();
    for &(tier, mode) in wanted {
        let result = rows.get(&(tier, mode)).copied().unwrap_or("MISSING: the row did not run");
        let line = format!("{version} {tier} {mode} {result}");
        if result.split(' ').next() != Some("exact") {
            failures.push(line.clone());
        }
        lines.push(line);
    }
    (lines, failures)
}

/// `row KERNEL TIER MODE VERDICT details` as tier, mode and the rest.
fn row(line: &str) -> Option<((&str, &str), &str)> {
    let mut words = line.splitn(5, ' ');
    if words.next()? != "row" {
        return None;
    }
    let (_, tier, mode) = (words.next()?, words.next()?, words.next()?);
    Some(((tier, mode), words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &[Row] = &[("fentry", "entry"), ("kprobe", "return")];

    fn failures(console: &[&str]) -> usize {
        let console: Vec<String> = console.iter().map(ToString::to_string).collect();
        compare("6.1", WANTED, &console).1.len()
    }

    #[test]
    fn a_missing_row_fails_like_a_wrong_one() {
        let fentry = "row 6.1.0-56 fentry entry exact tiers=fentry";
        let kprobe = "row 6.1.0-56 kprobe return exact tiers=kprobe";
        assert_eq!(failures(&[fentry, kprobe]), 0);
        assert_eq!(failures(&[fentry]), 1);
        assert_eq!(failures(&[fentry, "row 6.1.0-56 kprobe return WRONG vfs.calls is 1"]), 1);
        assert_eq!(failures(&[]), 2);
    }

    #[test]
    fn lines_of_the_console_that_are_no_rows_are_passed_over() {
        assert_eq!(row("[    1.2] random: crng init done"), None);
        assert_eq!(row("row"), None);
    }
}
