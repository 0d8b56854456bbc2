//! The kernel's switches that silence hooks which stay attached.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::mounts;
use crate::options::Tier;

/// Silences every trampoline, and the kprobes at the start and the end of a function, which stand on ftrace. To let go of
/// one of them while it is off breaks ftrace until the next boot (6.1: "Failed to disarm kprobe-ftrace"), so nothing is
/// attached then.
const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";

/// A switch, kept open: the right to open it is given up after the start.
#[derive(Debug)]
pub(crate) struct Switch {
    path: PathBuf,
    file: File,
}

/// Every switch of a tier that can be read here.
pub(crate) fn of(tier: Tier) -> Vec<Switch> {
    let mounts = mounts::own();
    let ftrace = (tier != Tier::Tracepoint).then(|| PathBuf::from(FTRACE));
    let kprobes = mounts::places(&mounts, "debugfs").map(|debugfs| debugfs.join("kprobes/enabled"));
    let kprobes = kprobes.filter(|_| tier == Tier::Kprobe);
    ftrace.into_iter().chain(kprobes).filter_map(Switch::at).collect()
}

/// Whether ftrace is switched off, with the way out.
pub(crate) fn ftrace_off() -> Option<String> {
    Switch::at(PathBuf::from(FTRACE))?.off()
}

/// The switches of all tiers in use, and how each was found last.
#[derive(Debug)]
pub(crate) struct Board(Vec<Position>);

#[derive(Debug)]
struct Position {
    tier: Tier,
    switch: Switch,
    off: bool,
}

impl Board {
    /// Those of these tiers.
    pub(crate) fn of(tiers: impl IntoIterator<Item = Tier>) -> Self {
        let switches = tiers.into_iter().flat_map(|tier| of(tier).into_iter().map(move |switch| (tier, switch)));
        Self(switches.map(|(tier, switch)| Position { tier, switch, off: false }).collect())
    }

    /// Tiers, paths and open files, for another process.
    pub(crate) fn into_files(self) -> impl Iterator<Item = (Tier, PathBuf, File)> {
        self.0.into_iter().map(|Position { tier, switch: Switch { path, file }, .. }| (tier, path, file))
    }

    /// Of files that another process has opened.
    pub(crate) fn of_files(files: impl IntoIterator<Item = (Tier, PathBuf, File)>) -> Self {
        let position = |(tier, path, file)| Position { tier, switch: Switch { path, file }, off: false };
        Self(files.into_iter().map(position).collect())
    }

    /// Looks at all of them, and says for each tier with a switch that was turned whether its hooks fire now, which takes
    /// all of its switches. Allocates nothing while nothing is turned.
    pub(crate) fn look(&mut self) -> Vec<(Tier, bool)> {
        let mut turned = Vec::new();
        for Position { tier, switch, off } in &mut self.0 {
            let found = switch.off();
            if found.is_some() == *off {
                continue;
            }
            *off = found.is_some();
            if let Some(why) = found {
                warn!(%tier, "its hooks do not fire, and what happens meanwhile is in no number: {why}");
            }
            if !turned.contains(tier) {
                turned.push(*tier);
            }
        }
        turned.into_iter().map(|tier| (tier, !self.silences(tier))).collect()
    }

    /// Whether a switch of this tier is known to be off.
    pub(crate) fn silences(&self, tier: Tier) -> bool {
        self.0.iter().any(|position| position.off && position.tier == tier)
    }
}

impl Switch {
    fn at(path: PathBuf) -> Option<Self> {
        Some(Self { file: File::open(&path).ok()?, path })
    }

    /// What is off, with the way out, if it is.
    pub(crate) fn off(&self) -> Option<String> {
        let mut text = [0; 8];
        let length = self.file.read_at(&mut text, 0).ok()?;
        (text[..length].trim_ascii() == b"0").then(|| says(&self.path))
    }
}

fn says(path: &Path) -> String {
    if path == Path::new(FTRACE) {
        "ftrace is switched off; as root: sysctl kernel.ftrace_enabled=1".to_owned()
    } else {
        format!("kprobes are switched off; as root: echo 1 > {}", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hooks_of_a_tier_fire_when_none_of_its_switches_is_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let turn = |name: &str, text: &str| std::fs::write(path(name), text).expect("a switch");
        let position = |tier, name| {
            turn(name, "1\n");
            Position { tier, switch: Switch::at(path(name)).expect("a switch"), off: false }
        };
        let (kprobe, fentry) = (Tier::Kprobe, Tier::Fentry);
        let mut board =
            Board(vec![position(kprobe, "ftrace"), position(kprobe, "kprobes"), position(fentry, "ftrace of fentry")]);
        assert_eq!(board.look(), []);
        turn("ftrace", "0\n");
        assert_eq!(board.look(), [(kprobe, false)]);
        turn("kprobes", "0\n");
        assert_eq!(board.look(), [(kprobe, false)]);
        // One of two is on again.
        turn("ftrace", "1\n");
        assert_eq!(board.look(), [(kprobe, false)]);
        assert!(board.silences(kprobe) && !board.silences(fentry));
        // They change places within one look.
        turn("ftrace", "0\n");
        turn("kprobes", "1\n");
        assert_eq!(board.look(), [(kprobe, false)]);
        turn("ftrace", "1\n");
        assert_eq!(board.look(), [(kprobe, true)]);
        assert_eq!(board.look(), []);
    }

    #[test]
    fn a_switch_that_says_0_is_off_and_one_that_changes_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("enabled");
        let write = |text: &str| std::fs::write(&path, text).expect("a switch");
        write("1\n");
        let switch = Switch { file: File::open(&path).expect("a file"), path: path.clone() };
        assert_eq!(switch.off(), None);
        write("0\n");
        let said = switch.off().expect("off");
        assert!(said.contains("kprobes are switched off") && said.contains(&path.display().to_string()), "{said}");
        write("");
        assert_eq!(switch.off(), None);
        assert!(says(Path::new(FTRACE)).contains("sysctl kernel.ftrace_enabled=1"));
    }
}
