//! What can be tried of a path without leaving anything there.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use ebpf_process_core::{Directory, Finding, TrialContext, chain, explain};
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, accessat, flock};
use rustix::io::Errno;

use crate::line_file::LineFile;
use crate::options::DeliveryOptions;
use crate::spool::{LOCK, SpoolError, check};

impl DeliveryOptions {
    /// Tries the spool, if there is one: whether it can be made or written, whether it is nobody else's, and whether what
    /// waits in it is of one of these encodings ([`Submit::encodings`](crate::Submit::encodings)). Leaves nothing behind.
    pub fn try_out(&self, encodings: &[&str], context: &TrialContext) -> Vec<Finding> {
        let directory = self.spool_of(context.instance.as_deref());
        directory.map(|directory| try_spool(&directory, encodings, context)).into_iter().collect()
    }
}

fn try_spool(directory: &Path, encodings: &[&str], context: &TrialContext) -> Finding {
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => {
            return Finding::error(
                format!("the spool {shown} is no directory"),
                "name a directory in delivery.spool; it is made if need be",
            );
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = directory.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"));
            return match may_write_in(above) {
                Ok(()) => Finding::fine(format!("the spool {shown} can be made")),
                Err(error) => Finding::error(
                    format!("the spool {shown} cannot be made in {}: {error}", above.display()),
                    "make it and give it to the agent's user",
                ),
            };
        }
        Err(error) => {
            return Finding::error(format!("cannot look at the spool {shown}: {error}"), "check delivery.spool");
        }
    }
    if let Err(error) = may_write_in(directory) {
        return Finding::error(format!("cannot write in the spool {shown}: {error}"), "give it to the agent's user");
    }
    if holder_of(&directory.join(LOCK)) && context.running.or(context.agent).is_none() {
        let taken = Finding::error(
            format!("the spool {shown} belongs to another sink or agent"),
            "stop the other one, or give this sink a directory of its own",
        );
        return context.unless_the_agents(taken);
    }
    let held = Directory::open(directory).map_err(SpoolError::at(directory));
    match held.and_then(|held| check(&held, encodings)) {
        Ok(()) => Finding::fine(format!("the spool {shown} can be written")),
        Err(error @ SpoolError::Foreign(..)) => Finding::error(
            error.to_string(),
            "have the sink that wrote them send them, or give this sink a directory of its own",
        ),
        Err(error) => Finding::error(chain(&error), "see `spool inspect`"),
    }
}

/// Whether somebody has the lock. Where that cannot be found out, nobody has.
fn holder_of(lock: &Path) -> bool {
    // Shared and only for this moment.
    File::open(lock).is_ok_and(|file| flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

impl LineFile {
    /// What appending to this path would come to; `option` is the full name of the option with the path. Nothing is made
    /// and nothing is changed.
    pub fn try_out(path: &Path, option: &str) -> Finding {
        let shown = path.display();
        let change = |what: &str| format!("{what}, or change {option}");
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                Finding::error(format!("{shown} is a directory"), change("name a file in it"))
            }
            // Opening a FIFO and closing it again would tell its reader that there is nothing more.
            Ok(_) => match may(path, Access::WRITE_OK) {
                Ok(()) => Finding::fine(format!("{shown} can be appended to")),
                Err(error) => {
                    Finding::error(Self::explain_path(path, &error), change("make it writable for this user"))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(path);
                match may_write_in(parent) {
                    Ok(()) => Finding::fine(format!("{shown} can be made")),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        Finding::error(format!("there is no directory {}", parent.display()), change("make it"))
                    }
                    Err(error) => Finding::error(
                        format!("{shown} cannot be made: {}", explain(&error)),
                        change("make its directory writable for this user"),
                    ),
                }
            }
            Err(error) => Finding::error(Self::explain_path(path, &error), change("make it reachable for this user")),
        }
    }

    /// The same for a [`regular`](Self::regular) file alone.
    pub fn try_out_regular(path: &Path, option: &str) -> Finding {
        match fs::metadata(path) {
            Ok(there) if !there.is_file() => {
                let way_out = format!("name another file, or change {option}");
                Finding::error(format!("{} is not a regular file", path.display()), way_out)
            }
            _ => Self::try_out(path, option),
        }
    }
}

fn may(path: &Path, what: Access) -> io::Result<()> {
    Ok(accessat(CWD, path, what, AtFlags::empty())?)
}

fn may_write_in(directory: &Path) -> io::Result<()> {
    may(directory, Access::WRITE_OK | Access::EXEC_OK)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use ebpf_process_core::Severity;
    use rustix::fs::{Mode, mkfifoat};

    use super::*;
    use crate::frame::Frame;
    use crate::spool::Spool;

    fn context(agent: Option<u32>) -> TrialContext {
        let mut context = TrialContext::new("db", "host", Duration::from_secs(5));
        context.agent = agent;
        context
    }

    fn severity(spool: PathBuf, agent: Option<u32>) -> Severity {
        let options = DeliveryOptions { spool: Some(spool), ..DeliveryOptions::default() };
        let [finding] = options.try_out(&[""], &context(agent)).try_into().expect("one finding");
        finding.severity
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn a_spool_is_tried_and_nothing_is_left_behind() {
        assert_eq!(DeliveryOptions::default().try_out(&[""], &context(None)), []);
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(severity(folder.path().join("a/b"), None), Severity::Fine);
        assert_eq!(severity(folder.path().to_owned(), None), Severity::Fine);
        assert_eq!(entries(folder.path()), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a write");
        for (spool, words) in [(file.join("spool"), "cannot look at the spool"), (file, "is no directory")] {
            let options = DeliveryOptions { spool: Some(spool), ..DeliveryOptions::default() };
            let [finding] = options.try_out(&[""], &context(None)).try_into().expect("one finding");
            assert_eq!(finding.severity, Severity::Error);
            assert!(finding.what.contains(words), "{finding:?}");
        }
        let spool = folder.path().join("spool");
        let (held, _) = Spool::open(&spool, 1 << 20).expect("a spool");
        let before = entries(&spool);
        assert_eq!(severity(spool.clone(), None), Severity::Error);
        assert_eq!(severity(spool.clone(), Some(7)), Severity::Fine, "the running agent's own");
        let mut blind = context(None);
        blind.unseen = Some("/run/x".into());
        let options = DeliveryOptions { spool: Some(spool.clone()), ..DeliveryOptions::default() };
        assert_eq!(options.try_out(&[""], &blind)[0].severity, Severity::Warning, "it may be the running agent's own");
        drop(held);
        assert_eq!(severity(spool.clone(), None), Severity::Fine);
        assert_eq!(entries(&spool), before);
        let (mut held, _) = Spool::open(&spool, 1 << 20).expect("a spool");
        let mut frame = Frame::default();
        frame.push(b"x", 1);
        held.append(&frame).expect("a frame");
        drop(held);
        assert_eq!(severity(spool.clone(), None), Severity::Fine);
        let options = DeliveryOptions { spool: Some(spool), ..DeliveryOptions::default() };
        let [finding] = options.try_out(&["rows/1"], &context(None)).try_into().expect("one finding");
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.what.contains("a sink that names no encoding"), "{finding:?}");
    }

    #[test]
    fn a_file_is_tried_and_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("there"), "one\n").expect("a file");
        mkfifoat(CWD, folder.path().join("fifo"), Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let (can_be, cannot_be) = ((Severity::Fine, "can be"), (Severity::Error, "not a regular file"));
        for (name, any, regular) in [
            ("there", (Severity::Fine, "can be appended to"), can_be),
            ("fifo", (Severity::Fine, "can be appended to"), cannot_be),
            ("new", (Severity::Fine, "can be made"), can_be),
            ("made/new", (Severity::Error, "there is no directory"), (Severity::Error, "there is no directory")),
            ("no/such/new", (Severity::Error, "there is no directory"), (Severity::Error, "there is no directory")),
            ("there/new", (Severity::Error, "cannot append to"), (Severity::Error, "cannot append to")),
            (".", (Severity::Error, "is a directory"), cannot_be),
        ] {
            let path = folder.path().join(name);
            let key = "sinks.lines.options.path";
            for (finding, (severity, words)) in
                [(LineFile::try_out(&path, key), any), (LineFile::try_out_regular(&path, key), regular)]
            {
                assert_eq!(finding.severity, severity, "{finding:?}");
                assert!(finding.what.contains(words), "{finding:?}");
                let way_out = finding.way_out.as_deref().unwrap_or(key);
                assert!(way_out.contains(key), "{finding:?}");
                assert_eq!(finding.way_out.is_some(), severity == Severity::Error, "{finding:?}");
            }
        }
        assert_eq!(entries(folder.path()), 2);
        assert_eq!(fs::read_to_string(folder.path().join("there")).expect("text"), "one\n");
    }
}
