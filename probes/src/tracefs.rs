//! Kprobe events in tracefs: made, counted, removed and swept.
//!
//! The perf interface of kprobes cannot say how many calls of a function may be under way before a
//! kretprobe misses; a tracefs event can (`r4096:`), and counts what it missed. Events outlive
//! their maker, so ours carry its pid and start time, and whoever starts next sweeps those of the
//! dead.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The group of all our events.
const GROUP: &str = "ebpf_process";

/// Calls of one function that may be under way at once before its kretprobe misses one.
pub(crate) const MAX_ACTIVE: u32 = 4096;

/// Where tracefs is usually mounted, first the modern place.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why there is no tracefs: a cause that may pass.
pub(crate) const NOT_MOUNTED: &str = "tracefs is not mounted";

/// Says "0" where somebody has switched all kprobes off: they attach, and never fire.
const ARMED: &str = "/sys/kernel/debug/kprobes/enabled";

/// Why no mounted tracefs can be looked into.
fn no_root() -> String {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mounts = text("/proc/self/mounts");
    if !mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs")) {
        format!("{NOT_MOUNTED}; as root: mount -t tracefs tracefs /sys/kernel/tracing")
    } else if text("/sys/kernel/security/lockdown").contains("[confidentiality]") {
        "the kernel is locked down and hides tracefs; boot with lockdown=integrity, or without Secure Boot".to_owned()
    } else {
        "tracefs is mounted, but not readable by this user; run as root, or grant CAP_DAC_OVERRIDE".to_owned()
    }
}

/// A mounted tracefs.
#[derive(Clone, Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
    /// `PID_STARTTIME`: whose events ours are.
    owner: String,
}

impl Tracefs {
    /// Finds a mounted tracefs.
    pub(crate) fn find() -> Result<Self, String> {
        let root = MOUNTS.iter().map(Path::new).find(|root| root.join("README").exists());
        let root = root.ok_or_else(no_root)?;
        let pid = std::process::id();
        let start = start_time(pid).unwrap_or(0);
        Ok(Self { root: root.to_owned(), owner: format!("{pid}_{start}") })
    }

    /// Why no event can be made on a function.
    pub(crate) fn needs_kprobes(&self) -> Result<(), String> {
        if !self.root.join("kprobe_events").exists() {
            return Err("this kernel has no kprobes (CONFIG_KPROBE_EVENTS is off)".to_owned());
        }
        match std::fs::read_to_string(ARMED) {
            Ok(armed) if armed.trim() == "0" => Err(format!("kprobes are switched off; as root: echo 1 > {ARMED}")),
            _ => Ok(()),
        }
    }

    /// The id of an event that the kernel itself has, as `category/name`.
    pub(crate) fn id_of(&self, event: &str) -> io::Result<u64> {
        read_id(&self.root.join("events").join(event))
    }

    /// Makes an event on the start or the end of a function and returns its name and id.
    pub(crate) fn create(&self, function: &str, at_return: bool) -> io::Result<(Event, u64)> {
        let letter = if at_return { 'r' } else { 'p' };
        let name = format!("{letter}_{function}_{}", self.owner);
        let create = |instances: &str| self.command(&format!("{letter}{instances}:{GROUP}/{name} {function}"));
        if at_return {
            // Linux 4.11 does not know the number yet: 696ced4fb1d7 ("tracing/kprobes: expose
            // maxactive for kretprobe in kprobe_events"), 4.12.
            create(&MAX_ACTIVE.to_string()).or_else(|error| match error.kind() {
                io::ErrorKind::InvalidInput => create(""),
                _ => Err(error),
            })?;
        } else {
            create("")?;
        }
        let event = Event { tracefs: self.clone(), name };
        let id = read_id(&self.root.join("events").join(GROUP).join(&event.name))?;
        Ok((event, id))
    }

    /// Removes what dead agents left behind. Nobody else's events are touched.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let events = match std::fs::read_to_string(self.root.join("kprobe_events")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // no kprobes
            events => events?,
        };
        for name in events.lines().filter_map(event_of_ours) {
            if owner_of(name).is_some_and(|(pid, start)| start_time(pid) != Some(start)) {
                self.command(&format!("-:{GROUP}/{name}"))?;
            }
        }
        Ok(())
    }

    /// Opens the file with what every event missed.
    pub(crate) fn profile(&self) -> io::Result<Profile> {
        Ok(Profile { file: File::open(self.root.join("kprobe_profile"))?, text: Vec::new() })
    }

    fn command(&self, line: &str) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.root.join("kprobe_events"))?.write_all(line.as_bytes())
    }
}

fn read_id(event: &Path) -> io::Result<u64> {
    let id = std::fs::read_to_string(event.join("id"))?;
    id.trim().parse().map_err(|_| io::Error::other("tracefs gave no event id"))
}

/// An event of ours; removed when dropped, which must come after its perf descriptor is closed.
#[derive(Debug)]
pub(crate) struct Event {
    tracefs: Tracefs,
    name: String,
}

impl Event {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Err(error) = self.tracefs.command(&format!("-:{GROUP}/{}", self.name)) {
            tracing::warn!(event = %self.name, "cannot remove a kprobe event: {error}");
        }
    }
}

/// tracefs's `kprobe_profile`: per event its hits and misses.
#[derive(Debug)]
pub(crate) struct Profile {
    file: File,
    /// Reused from tick to tick.
    text: Vec<u8>,
}

impl Profile {
    /// Reads the file anew.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.text.clear();
        self.file.read_to_end(&mut self.text).map(drop)
    }

    /// What an event missed until the last refresh: the third word of its line.
    pub(crate) fn missed(&self, event: &str) -> u64 {
        let lines = self.text.split(|byte| *byte == b'\n');
        let words = lines.map(|line| line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()));
        words
            .filter_map(|mut words| (words.next()? == event.as_bytes()).then(|| words.nth(1))?)
            .find_map(|missed| std::str::from_utf8(missed).ok()?.parse().ok())
            .unwrap_or(0)
    }
}

/// The name of one of our events in a line of `kprobe_events`: `r4096:ebpf_process/NAME function`.
fn event_of_ours(line: &str) -> Option<&str> {
    let (_, event) = line.split_whitespace().next()?.split_once(':')?;
    event.strip_prefix(GROUP)?.strip_prefix('/')
}

/// Pid and start time at the end of an event's name.
fn owner_of(name: &str) -> Option<(u32, u64)> {
    let mut words = name.rsplitn(3, '_');
    let start = words.next()?.parse().ok()?;
    let pid = words.next()?.parse().ok()?;
    Some((pid, start))
}

/// When a process started, in clock ticks since boot (field 22 of /proc/PID/stat).
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, brackets included: count from its end.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_events_are_recognized() {
        let ours = "r4096:ebpf_process/r_vfs_read_123_456 vfs_read";
        assert_eq!(event_of_ours(ours), Some("r_vfs_read_123_456"));
        assert_eq!(owner_of("r_vfs_read_123_456"), Some((123, 456)));
        for other in ["p:kprobes/aya_12_p_vfs_read_0x0_1 vfs_read", "p:ebpf_process2/x_1_2 vfs_read", "", "p"] {
            assert_eq!(event_of_ours(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let own = std::process::id();
        assert!(start_time(own).is_some());
        assert_eq!(start_time(u32::MAX), None);
    }

    #[test]
    fn misses_are_the_third_word() {
        let mut file = tempfile();
        file.write_all(b"  p_open_1_2                 17               0\n  r_open_1_2    5   3\n").expect("write");
        let mut profile = Profile { file, text: Vec::new() };
        profile.refresh().expect("read");
        assert_eq!((profile.missed("p_open_1_2"), profile.missed("r_open_1_2"), profile.missed("r_open")), (0, 3, 0));
    }

    fn tempfile() -> File {
        let fd = rustix::fs::memfd_create("profile", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        File::from(fd)
    }
}
