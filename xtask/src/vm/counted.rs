//! A machine with one processor whose clock advances by one nanosecond per instruction: what a program in it times
//! are instructions, the same ones on every host.

use super::boot::{self, Machine};
use super::{TARGET, cache, debian::Debian, initramfs};
use crate::Outcome;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mitigations depend on the processor, which here is an emulated one.
const COUNTED: Machine<'static> = Machine {
    clock: &["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"],
    processors: 1,
    parameters: "mitigations=off",
};

/// Runs `guest` with `arguments` and `files` beside it, and returns what it printed.
///
/// # Errors
/// Something cannot be fetched, or the machine does not come up.
pub(crate) fn run(
    (suite, package): (&str, &str),
    guest: &Path,
    files: &[(&'static str, PathBuf)],
    arguments: &str,
) -> Outcome<Vec<String>> {
    let cache = cache()?;
    let debian = Debian::new(cache.clone())?;
    let (emulator, busybox) = (debian.emulator()?, debian.busybox()?);
    let image = debian.kernel(suite, package)?;
    let programs = [&[("guest", guest.to_owned())], files].concat();
    let disk = initramfs::build(&busybox, &programs, arguments)?;
    let console = boot::boot(&COUNTED, &emulator, &image, &disk, &cache)?;
    match console.status {
        Some(_) => Ok(console.lines),
        None => Err(format!("{}: the guest did not get to its end:\n{}", image.display(), console.tail()).into()),
    }
}

/// Builds the measuring program statically: the machine has no libraries.
///
/// # Errors
/// It does not build.
pub(crate) fn build(package: &str, bench: &str) -> Outcome<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["bench", "--no-run", "--message-format=json-render-diagnostics", "--target", TARGET]);
    cargo.args(["-p", package, "--bench", bench]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    // Its name has a hash in it, which cargo tells.
    let built = crate::output(&mut cargo)?;
    let mut messages = built.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable = messages.find_map(|message| {
        let ours = message["target"]["name"] == *bench && message["target"]["kind"][0] == "bench";
        ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    executable.ok_or_else(|| format!("cargo named no executable for the bench {bench}").into())
}
