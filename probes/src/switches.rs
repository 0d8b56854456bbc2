//! The kernel's switches that silence hooks which stay attached.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

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
