//! What can be tried of a path without leaving anything there.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use ebpf_process_core::{Finding, TrialContext};
use rustix::fs::{Access, access};

use crate::options::DeliveryOptions;
use crate::spool::LOCK;

impl DeliveryOptions {
    /// Tries the spool, if there is one: whether it can be made or written, and whether it is nobody else's. Leaves
    /// nothing behind.
    pub fn try_out(&self, context: &TrialContext) -> Vec<Finding> {
        self.spool_of(context.instance.as_deref()).map(|directory| try_spool(&directory, context)).into_iter().collect()
    }
}

fn try_spool(directory: &Path, context: &TrialContext) -> Finding {
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
    Finding::fine(format!("the spool {shown} can be written"))
}

/// Whether somebody has the lock. Where that cannot be found out, nobody has.
fn holder_of(lock: &Path) -> bool {
    // Shared and only for this moment.
    File::open(lock).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Tries a file that lines are appended to: whether it is one, or can be made, and whether it can be written. Leaves
/// nothing behind and does not make it.
pub fn try_file(path: &Path) -> Finding {
    let shown = path.display();
    let way_out = "give it to the agent's user, or name another file";
    let outcome = match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Finding::error(format!("{shown} is not a regular file"), "name another file");
        }
        Ok(_) => access(path, Access::WRITE_OK).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().unwrap_or(Path::new("/"));
            return match may_write_in(above) {
                Ok(()) => Finding::fine(format!("{shown} can be made")),
                Err(error) => {
                    Finding::error(format!("{shown} cannot be made in {}: {error}", above.display()), way_out)
                }
            };
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => Finding::fine(format!("{shown} can be written")),
        Err(error) => Finding::error(format!("cannot write to {shown}: {error}"), way_out),
    }
}

fn may_write_in(directory: &Path) -> io::Result<()> {
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use ebpf_process_core::Severity;

    use super::*;
    use crate::spool::Spool;

    fn context(agent: Option<u32>) -> TrialContext {
        TrialContext {
            name: "db".to_owned(),
            host: "host".to_owned(),
            instance: None,
            limit: Duration::from_secs(5),
            running: None,
            agent,
            unseen: None,
        }
    }

    fn severity(spool: PathBuf, agent: Option<u32>) -> Severity {
        let options = DeliveryOptions { spool: Some(spool), ..DeliveryOptions::default() };
        let [finding] = options.try_out(&context(agent)).try_into().expect("one finding");
        finding.severity
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn a_spool_is_tried_and_nothing_is_left_behind() {
        assert_eq!(DeliveryOptions::default().try_out(&context(None)), []);
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(severity(folder.path().join("a/b"), None), Severity::Fine);
        assert_eq!(severity(folder.path().to_owned(), None), Severity::Fine);
        assert_eq!(entries(folder.path()), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a write");
        assert_eq!(severity(file.join("spool"), None), Severity::Error);
        assert_eq!(severity(file, None), Severity::Error);
        let spool = folder.path().join("spool");
        let (held, _) = Spool::open(&spool, 1 << 20).expect("a spool");
        let before = entries(&spool);
        assert_eq!(severity(spool.clone(), None), Severity::Error);
        assert_eq!(severity(spool.clone(), Some(7)), Severity::Fine, "the running agent's own");
        let blind = TrialContext { unseen: Some("/run/x".into()), ..context(None) };
        let options = DeliveryOptions { spool: Some(spool.clone()), ..DeliveryOptions::default() };
        assert_eq!(options.try_out(&blind)[0].severity, Severity::Warning, "it may be the running agent's own");
        drop(held);
        assert_eq!(severity(spool.clone(), None), Severity::Fine);
        assert_eq!(entries(&spool), before);
    }

    #[test]
    fn a_file_is_tried_and_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        assert_eq!(try_file(&path).severity, Severity::Fine);
        assert_eq!(entries(folder.path()), 0);
        fs::write(&path, "a\n").expect("a write");
        assert_eq!(try_file(&path).severity, Severity::Fine);
        assert_eq!(fs::read(&path).expect("a file"), b"a\n");
        for wrong in [folder.path().to_owned(), folder.path().join("no/lines"), path.join("lines")] {
            assert_eq!(try_file(&wrong).severity, Severity::Error, "{}", wrong.display());
        }
    }
}
