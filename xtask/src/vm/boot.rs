//! One emulated machine from power-on to power-off, its console read line by line.

use crate::{Outcome, say};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// From one line to the next once the guest runs. A row takes some ten seconds, on an overloaded host a minute.
const SILENCE: Duration = Duration::from_mins(10);
/// An emulator that has not reached the init script by then never will.
const BOOT_LIMIT: Duration = Duration::from_mins(2);
/// Without what the emulator cannot do, which it would warn of.
const CPU: &str = "Haswell-noTSX,-pcid,-tsc-deadline,-invpcid";
const ATTEMPTS: u32 = 3;
/// What the kernel prints when it dies.
const DEATHS: &[&str] = &["Kernel panic", "Oops:", "BUG:", "general protection fault", "double fault"];

/// How a machine is emulated.
pub(super) struct Machine<'a> {
    /// The emulator's options that make its clock.
    pub(super) clock: &'a [&'a str],
    pub(super) processors: u32,
    /// Words for the kernel's command line, beside those that every machine gets.
    pub(super) parameters: &'a str,
}

/// Two processors that really run at once.
pub(super) const PARALLEL: Machine<'static> =
    Machine { clock: &["-accel", "tcg,thread=multi"], processors: 2, parameters: "" };

/// What the machine said.
pub(super) struct Console {
    /// All its lines.
    pub(super) lines: Vec<String>,
    /// The guest's exit status; nothing when it did not get to its end.
    pub(super) status: Option<i32>,
    /// Whether it took too long, and was switched off.
    is_switched_off: bool,
}

impl Console {
    /// Its last lines, for a message.
    pub(super) fn tail(&self) -> String {
        self.lines[self.lines.len().saturating_sub(30)..].join("\n")
    }

    /// Whether it ended while the guest ran: its kernel or the emulator has died. One that was switched off has not.
    pub(super) fn has_died(&self) -> bool {
        self.is_up() && self.status.is_none() && !self.is_switched_off
    }

    fn is_up(&self) -> bool {
        self.lines.iter().any(|line| line.contains("@@up "))
    }
}

/// Boots `image` with `disk` and waits for the machine to switch itself off.
///
/// A machine that dies before the guest starts is booted again, and that is said: the emulator's fault, not ours.
/// What the guest says once it runs is final.
///
/// # Errors
/// The emulator does not start, or the machine does not come up in any attempt.
pub(super) fn boot(
    machine: &Machine<'_>,
    emulator: &Path,
    image: &Path,
    disk: &[u8],
    cache: &Path,
) -> Outcome<Console> {
    let folder = tempfile::tempdir_in(cache)?;
    let disk_path = folder.path().join("initramfs");
    fs::write(&disk_path, disk)?;
    for attempt in 1..=ATTEMPTS {
        let console = once(machine, emulator, image, &disk_path)?;
        if console.is_up() {
            return Ok(console);
        }
        let name = image.display();
        say(format!("{name}: attempt {attempt} of {ATTEMPTS} died before the guest started:\n{}", console.tail()));
    }
    Err(format!("{}: the machine did not come up", image.display()).into())
}

fn once(machine: &Machine<'_>, emulator: &Path, image: &Path, disk: &Path) -> Outcome<Console> {
    let share = emulator.join("usr/share");
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| emulator.join(folder));
    let mut child = Command::new(emulator.join("usr/bin/qemu-system-x86_64"))
        .env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?)
        .arg("-L")
        .arg(share.join("qemu"))
        .arg("-L")
        .arg(share.join("seabios"))
        .args(machine.clock)
        .args(["-cpu", CPU, "-m", "512", "-smp", &machine.processors.to_string()])
        .args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(disk)
        .arg("-append")
        .arg(format!("console=ttyS0 quiet panic=-1 rdinit=/init {}", machine.parameters))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| format!("the emulator: {e}"))?;
    let lines = console(&mut child)?;
    let console = read(&lines);
    // It has switched itself off, or it is out of time: either way it ends here.
    let _ = child.kill();
    child.wait()?;
    Ok(console)
}

fn console(child: &mut Child) -> Outcome<Receiver<String>> {
    let pipe = child.stdout.take().ok_or("the emulator has no console")?;
    let (sender, receiver) = channel();
    let feed = move || {
        // Not `lines`: a broken boot may print bytes that are no text.
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    };
    thread::Builder::new().name("console".into()).spawn(feed)?;
    Ok(receiver)
}

fn read(lines: &Receiver<String>) -> Console {
    let start = Instant::now();
    let mut console = Console { lines: Vec::new(), status: None, is_switched_off: false };
    let mut up = false;
    loop {
        let patience = if up { SILENCE } else { BOOT_LIMIT.saturating_sub(start.elapsed()) };
        match lines.recv_timeout(patience) {
            Ok(line) => {
                if let Some((_, status)) = line.split_once("@@rc ") {
                    console.status = status.trim().parse().ok();
                }
                up |= line.contains("@@up ");
                let dead = !up && DEATHS.iter().any(|death| line.contains(death));
                console.lines.push(line);
                if dead {
                    return console;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return console,
            Err(RecvTimeoutError::Timeout) => {
                let why = if up { "no word for" } else { "not up within" };
                let limit = if up { SILENCE } else { BOOT_LIMIT };
                console.lines.push(format!("({why} {limit:?}: switched off)"));
                console.is_switched_off = true;
                return console;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Console {
        let (sender, receiver) = channel();
        for line in lines {
            sender.send((*line).to_owned()).unwrap();
        }
        drop(sender);
        read(&receiver)
    }

    #[test]
    fn the_status_is_the_guests() {
        let console = console(&["@@up 6.1.0", "row 6.1.0 kprobe entry exact", "@@rc 3"]);
        assert!(console.is_up() && !console.has_died());
        assert_eq!(console.status, Some(3));
    }

    #[test]
    fn a_kernel_that_dies_before_the_guest_is_not_up() {
        let console = console(&["Oops: 0000 [#1]", "never read"]);
        assert!(!console.is_up());
        assert_eq!(console.lines.len(), 1);
    }

    #[test]
    fn a_machine_that_ends_without_a_word_of_the_guests_has_died() {
        let console = console(&["@@up 6.1.0", "Kernel panic"]);
        assert!(console.has_died());
        assert!(!Console { is_switched_off: true, ..console }.has_died());
    }

    #[test]
    fn an_oops_under_the_guest_is_the_guests_business() {
        let console = console(&["@@up 6.1.0", "BUG: something", "@@rc 0"]);
        assert_eq!((console.is_up(), console.status), (true, Some(0)));
    }
}
