//! Names of users, as `/etc/passwd` has them.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::debug;

/// It is looked at most so often whether the file has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// More bytes of it are not read: whose line is behind them is known by number.
const LIMIT: u64 = 4 << 20;

/// The users of a file.
#[derive(Debug)]
struct Users {
    file: PathBuf,
    looked: Option<Instant>,
    /// What the file was when it was read.
    version: Option<Version>,
    names: HashMap<u32, Box<str>>,
}

/// By what a changed file is known: device, inode, size, times of the last change of what it says and of itself.
type Version = (u64, u64, u64, [(i64, i64); 2]);

/// One for all rows.
static USERS: Mutex<Option<Users>> = Mutex::new(None);

/// The name of a user of the initial user namespace; the number where the file has none. No other source is asked: a name
/// server may take its time.
pub(super) fn name_of(uid: u32) -> String {
    let mut users = USERS.lock();
    users.get_or_insert_with(|| Users::of("/etc/passwd".into())).name(uid, Instant::now())
}

impl Users {
    fn of(file: PathBuf) -> Self {
        Self { file, looked: None, version: None, names: HashMap::new() }
    }

    fn name(&mut self, uid: u32, now: Instant) -> String {
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_AGAIN) {
            self.looked = Some(now);
            self.look();
        }
        self.names.get(&uid).map_or_else(|| uid.to_string(), ToString::to_string)
    }

    fn look(&mut self) {
        let version = fs::metadata(&self.file).ok().map(|found| version(&found));
        if version == self.version && version.is_some() {
            return;
        }
        (self.version, self.names) = match self.read() {
            Ok((version, names)) => (Some(version), names),
            Err(error) => {
                debug!("users have numbers: {}: {error}", self.file.display());
                (None, HashMap::new())
            }
        };
    }

    fn read(&self) -> io::Result<(Version, HashMap<u32, Box<str>>)> {
        // Opening a FIFO would wait for its writer.
        let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.file)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LIMIT {
            // What is left of the last line may be another one.
            bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0));
        }
        Ok((version(&found), names(&String::from_utf8_lossy(&bytes))))
    }
}

fn version(file: &Metadata) -> Version {
    let times = [(file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec())];
    (file.dev(), file.ino(), file.size(), times)
}

/// The first line with a number names it, as in the C library.
fn names(text: &str) -> HashMap<u32, Box<str>> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(|uid| uid.parse().ok()));
        if let Some(number) = number.filter(|_| !name.is_empty()) {
            names.entry(number).or_insert_with(|| name.into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "root:x:0:0:root:/root:/bin/sh\n\n:x:1::\n+::::::\nlong:x:99999999999:1\nno number:x:y\n\
        second:x:0:0\n-1:x:-1:0\na\u{1b}[2J\"b:x:7:7\nlast:x:4294967295";

    #[test]
    fn users_have_the_name_of_their_first_line_and_others_a_number() {
        let names = names(HOSTILE);
        assert_eq!((names.len(), names.get(&0).map(|name| &**name)), (3, Some("root")));
        assert_eq!(names.get(&u32::MAX).map(|name| &**name), Some("last"));
        // It is cleaned with all other labels.
        assert_eq!(names.get(&7).map(|name| &**name), Some("a\u{1b}[2J\"b"));
        assert_eq!(name_of(4_000_000_000), "4000000000");
    }

    #[test]
    fn a_file_that_comes_changes_and_goes_is_seen_a_second_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("passwd");
        let (mut users, start) = (Users::of(file.clone()), Instant::now());
        let mut name = |second: u64, uid| users.name(uid, start + Duration::from_secs(second));
        assert_eq!(name(0, 5), "5");
        fs::write(&file, "games:x:5:60\n").expect("written");
        assert_eq!((name(0, 5), name(1, 5)), ("5".into(), "games".into()));
        fs::write(&file, "toys:x:5:60::\n").expect("written");
        assert_eq!((name(1, 5), name(2, 5)), ("games".into(), "toys".into()));
        fs::remove_file(&file).expect("removed");
        assert_eq!(name(3, 5), "5");
        // Neither is waited for, nor is one read without end.
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
        assert_eq!(name(4, 5), "5");
    }

    #[test]
    fn of_a_huge_file_the_first_lines_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("passwd");
        let line = |uid: u32| format!("user{uid}:x:{uid}:1::/nonexistent:/bin/false\n");
        let text: String = (0..100_000).map(line).collect();
        assert!(text.len() as u64 > LIMIT);
        fs::write(&file, text).expect("written");
        let mut users = Users::of(file);
        let name = |users: &mut Users, uid: u32| users.name(uid, Instant::now());
        assert_eq!((name(&mut users, 1), name(&mut users, 99_999)), ("user1".into(), "99999".into()));
        let cut = u32::try_from(users.names.len()).expect("a number");
        let last = cut - 1;
        assert_eq!((name(&mut users, last), name(&mut users, cut)), (format!("user{last}"), cut.to_string()));
    }
}
