//! What `/proc` says of a process, as long as it is the one that is meant.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::param::clock_ticks_per_second;

/// The longest command line, and the longest line of numbers, that is read.
const LINE: u64 = 4096;

/// The longest list of them: a process may be in very many groups of users.
const STATUS: u64 = 1 << 20;

/// What the kernel puts behind the path of a file that has been removed.
const REMOVED: &str = " (deleted)";

/// A process's directory in `/proc`. It is never another process's: when its number is given away, nothing can be read by
/// this one any more.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// The directory of whoever has this number now; none where nobody has it, or where it is hidden.
    pub(super) fn open(proc: &Path, tgid: u32) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, proc.join(tgid.to_string()), flags, Mode::empty()).ok().map(Self)
    }

    /// The path of the program's file, also of one that was removed or replaced since it was started. None without the
    /// right to look, and for a process that is over.
    pub(super) fn exe(&self) -> Option<String> {
        let path = readlinkat(&self.0, "exe", Vec::new()).ok()?;
        let path = path.to_string_lossy().into_owned();
        match path.strip_suffix(REMOVED) {
            // Anybody may call a file so.
            Some(plain) if !self.runs(&path) => Some(plain.to_owned()),
            _ => Some(path),
        }
    }

    /// Whether this is the file of the program.
    fn runs(&self, path: &str) -> bool {
        let file = |stat: Stat| (stat.st_dev, stat.st_ino);
        let own = statat(&self.0, "exe", AtFlags::empty()).ok().map(file);
        own.is_some() && own == statat(CWD, path, AtFlags::empty()).ok().map(file)
    }

    /// The command line, with blanks between the arguments; none where there is none.
    pub(super) fn command_line(&self) -> Option<String> {
        let mut bytes = self.read("cmdline", LINE)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        (!line.is_empty()).then_some(line)
    }

    /// Its number in the innermost PID namespace that it is in.
    pub(super) fn innermost_number(&self) -> Option<u32> {
        let status = self.read("status", STATUS)?;
        let status = String::from_utf8_lossy(&status);
        // The name stands in the first line, where a newline is written as `\n`.
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        numbers.split_whitespace().next_back()?.parse().ok()
    }

    /// Whether it is the process that started so many nanoseconds after the boot, and is still called so: what was read
    /// before is then that process's, and of the program that it has under this name.
    pub(super) fn is(&self, started: u64, comm: &str) -> bool {
        let stat = self.read("stat", LINE).unwrap_or_default();
        let name_and_start = || {
            // Anything may stand between the parentheses, others among it.
            let (begin, end) =
                (stat.iter().position(|byte| *byte == b'(')?, stat.iter().rposition(|byte| *byte == b')')?);
            let rest = String::from_utf8_lossy(stat.get(end + 1..)?);
            // The start is the 22nd field, and the name the second.
            let since: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
            Some((String::from_utf8_lossy(stat.get(begin + 1..end)?).into_owned(), since))
        };
        name_and_start().is_some_and(|(name, since)| name == comm && since == ticks(started))
    }

    fn read(&self, name: &str, longest: u64) -> Option<Vec<u8>> {
        let file = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(longest).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Nanoseconds as the kernel writes them into `stat`.
fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / (1_000_000_000 / clock_ticks_per_second().max(1))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that sleeps, and is over with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(program: &Path) -> Self {
            let mut command = Command::new(program);
            // Some systems have one program under many names, and it does what it is called.
            command.arg0("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null());
            Self(command.spawn().expect("a process"))
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            // One that is over has been asked for already.
            let _ = self.0.kill().and_then(|()| self.0.wait());
        }
    }

    /// When a process started, in nanoseconds, to the tick.
    pub(in crate::who) fn started(tgid: u32) -> u64 {
        let start = crate::owner::start_time(Path::new(&format!("/proc/{tgid}"))).expect("a start");
        start * (1_000_000_000 / clock_ticks_per_second())
    }

    #[test]
    fn a_living_process_is_known_by_its_start_and_name_and_one_that_is_over_by_nothing() {
        let proc = Path::new("/proc");
        let sleeper = Sleeper::start(Path::new("sleep"));
        let pid = sleeper.0.id();
        let directory = Directory::open(proc, pid).expect("a directory");
        let (started, name) = (started(pid), "sleep");
        // It has its new name before it has its arguments.
        while directory.command_line().is_none() {
            std::thread::yield_now();
        }
        assert!(directory.is(started, name) && directory.is(started + 9_999_999, name));
        // Somebody else has the number, or it has run another program.
        assert!(!directory.is(started + 10_000_000, name) && !directory.is(started, "sh"));
        assert!(directory.exe().is_some_and(|exe| exe.starts_with('/')), "{:?}", directory.exe());
        assert_eq!(directory.command_line().as_deref(), Some("sleep 1000"));
        assert_eq!(directory.innermost_number(), Some(pid));
        drop(sleeper);
        assert_eq!((directory.exe(), directory.innermost_number()), (None, None));
        assert!(!directory.is(started, name));
        assert!(Directory::open(proc, u32::MAX).is_none());
    }

    #[test]
    fn a_program_that_was_removed_has_the_path_that_it_had() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = fs::canonicalize(folder.path()).expect("a path");
        for (name, is_removed, shown) in [
            ("program", true, "program"),
            ("program", false, "program"),
            ("hidden (deleted)", false, "hidden (deleted)"),
            ("hidden (deleted)", true, "hidden (deleted)"),
        ] {
            let copy = folder.join(name);
            // Copied by another process: a descriptor of ours that may write would be inherited by other tests' children.
            let sleep = Command::new("sh").args(["-c", "cp \"$(command -v sleep)\" \"$0\""]).arg(&copy).status();
            assert!(sleep.expect("sh").success());
            let sleeper = Sleeper::start(&copy);
            if is_removed {
                fs::remove_file(&copy).expect("removed");
            }
            let exe = Directory::open(Path::new("/proc"), sleeper.0.id()).and_then(|directory| directory.exe());
            drop(sleeper);
            assert_eq!(exe, Some(folder.join(shown).to_string_lossy().into_owned()), "{name} {is_removed}");
            let _ = fs::remove_file(&copy);
        }
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn files_that_are_not_as_they_should_be_say_nothing() {
        let proc = tempfile::tempdir().expect("a folder");
        let process = proc.path().join("7");
        fs::create_dir(&process).expect("a directory");
        let directory = || Directory::open(proc.path(), 7).expect("a directory");
        let nothing = (None, None, None);
        let all = |of: &Directory| (of.exe(), of.command_line(), of.innermost_number());
        assert_eq!(all(&directory()), nothing);
        for text in ["", "\0\0", "7", "7 (", "7 )(", "7 (x) S", "NSpid:\n", "NSpid:\tx\n", "Name:\tNSpid: 5\n"] {
            for file in ["cmdline", "status", "stat"] {
                fs::write(process.join(file), text).expect("written");
            }
            assert!(!directory().is(0, "x") && directory().innermost_number().is_none(), "{text:?}");
        }
        fs::write(process.join("stat"), format!("7 (a) (b) c)) S {} 12 0", ["1"; 18].join(" "))).expect("written");
        assert!(directory().is(12 * 1_000_000_000 / clock_ticks_per_second(), "a) (b) c)"));
        fs::write(process.join("status"), "Name:\tx\nNSpid:\t7\t41\t1\nThreads:\t1\n").expect("written");
        fs::write(process.join("cmdline"), "a\0".repeat(1 << 20)).expect("written");
        symlink("/nowhere/program (deleted)", process.join("exe")).expect("a link");
        let (exe, line, number) = all(&directory());
        assert_eq!((exe.as_deref(), number), (Some("/nowhere/program"), Some(1)));
        assert_eq!(line.map(|line| line.len() as u64), Some(LINE - 1));
    }
}
