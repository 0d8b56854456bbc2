//! Agents with one destination exclude each other: a receiver would count everything twice.
//!
//! A destination is a file in the runtime directory, locked as long as the agent runs. The lock is one of
//! record locks (`F_SETLK`): the kernel says who holds it, and to ask takes none. A file that stayed behind
//! after SIGKILL is locked by nobody and serves the next agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ebpf_process_config::{Plan, PlannedSink};
use ebpf_process_core::{BuildError, identity};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk, geteuid};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::confinement::user::User;
use crate::exit::Refusal;
use crate::meeting_place::MeetingPlace;

/// What an agent takes to end beyond its grace period.
const BEYOND_GRACE: Duration = Duration::from_secs(1);

/// Between two attempts to get a lock.
const PAUSE: Duration = Duration::from_millis(100);

/// More than a lock's file ever holds.
const LONGEST: u64 = 8192;

/// The directory of the locks: a person's runtime directory, or the system's for root and for a service. An error says
/// in words why there is none.
pub(crate) fn directory(elevated: bool) -> Result<PathBuf, String> {
    // Whoever starts it that way must not keep the system's agent from its receivers.
    if elevated {
        return Err("it was started with rights that its caller does not have".to_owned());
    }
    if geteuid().is_root() {
        return Ok(identity().runtime_directory().to_owned());
    }
    let named = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty());
    // Systemd names a unit's own directories; of several the first.
    let of_unit = named("RUNTIME_DIRECTORY").and_then(|list| std::env::split_paths(&list).next());
    of_unit.or_else(|| named("XDG_RUNTIME_DIR").map(|path| Path::new(&path).join(identity().name()))).ok_or_else(|| {
        "there is no runtime directory: run it as root, or name a directory in XDG_RUNTIME_DIR".to_owned()
    })
}

/// What a lock's file says about its holder; for whoever waits, and for people.
#[derive(Debug, Deserialize, Serialize)]
struct Note {
    destination: String,
    instance: Option<String>,
    /// How long the holder's end may take, in seconds.
    grace: f64,
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// None for a process that cannot be seen from here.
    pub(crate) pid: Option<u32>,
    grace: Duration,
}

impl Holder {
    /// One that this user cannot ask about.
    fn unknown() -> Self {
        Self { pid: None, grace: Duration::ZERO }
    }
}

/// A lock; let go when dropped.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: whoever has it open and gets the lock afterwards sees that it is no longer there. What cannot be
        // removed serves the next agent.
        let _ = fs::remove_file(&self.path);
    }
}

/// The file of a destination.
fn path_of(directory: &Path, instance: Option<&str>, destination: &str) -> PathBuf {
    // FNV-1a: equal in every version of this program, and short whatever the destination is.
    let key = format!("{}\0{destination}", instance.unwrap_or_default());
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    directory.join(format!("destination-{hash:016x}.lock"))
}

fn opened(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // The directory may belong to somebody with fewer rights: no link is followed.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(flags).open(path)?;
    // The directory may be the agent's user's, whom root need not trust: a second name could be that of any file.
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() <= 1 {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file, or has another name"))
    }
}

fn holder_of(file: &mut File) -> io::Result<Option<Holder>> {
    let whole = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    let Some(held) = fcntl_getlk(&*file, &whole)? else { return Ok(None) };
    let mut text = String::new();
    file.rewind()?;
    // It may be written this moment: then the grace period is the usual one.
    let _ = file.take(LONGEST).read_to_string(&mut text);
    let note: Option<Note> = serde_json::from_str(&text).ok();
    let grace = note.and_then(|note| Duration::try_from_secs_f64(note.grace).ok()).unwrap_or(Duration::from_secs(2));
    let pid = held.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    Ok(Some(Holder { pid, grace }))
}

/// Where `check` looks for agents that run: where this user's meet, and where root's do.
pub(crate) fn directories() -> Vec<PathBuf> {
    let own = directory(false).ok();
    let of_root = Some(identity().runtime_directory()).filter(|of_root| own.as_deref() != Some(*of_root));
    own.iter().map(PathBuf::as_path).chain(of_root).map(Path::to_owned).collect()
}

/// The agent that holds this destination, if one does. Takes nothing and leaves nothing behind; where it cannot be told
/// there is none. The error is that this user may not look.
pub(crate) fn holder(
    directory: &Path,
    instance: Option<&str>,
    destination: &str,
) -> Result<Option<Holder>, PermissionDenied> {
    match opened(&path_of(directory, instance, destination), &mut OpenOptions::new()) {
        Ok(mut file) => Ok(holder_of(&mut file).ok().flatten()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(PermissionDenied),
        Err(_) => Ok(None),
    }
}

/// This user may not look into a directory of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PermissionDenied;

/// Tries to get the lock, without waiting.
fn take(directory: &Path, note: &Note, user: Option<&User>) -> io::Result<Result<Lock, Holder>> {
    let path = path_of(directory, note.instance.as_deref(), &note.destination);
    loop {
        let mut file = opened(&path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o600))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => match holder_of(&mut file)? {
                Some(holder) => return Ok(Err(holder)),
                // It has just ended.
                None => continue,
            },
            Err(error) => return Err(error.into()),
        }
        // The one before may have removed the file that was opened here.
        let locked = file.metadata()?;
        let there = path.symlink_metadata();
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino())) {
            if let Some(user) = user.filter(|_| locked.uid() == 0) {
                // An agent that is this user by then asks whose it is, and takes it over.
                let _ = fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()));
            }
            file.set_len(0)?;
            let _ = serde_json::to_writer(&file, note).map_err(io::Error::from).and_then(|()| file.write_all(b"\n"));
            return Ok(Ok(Lock { path, _file: file }));
        }
    }
}

/// The destinations of this agent's sinks.
#[derive(Default)]
pub(crate) struct Claims {
    /// By destination. Sinks that have one in common have one lock, as the kernel sees it.
    locks: Mutex<BTreeMap<String, Weak<Lock>>>,
    /// Goes after the locks in it. None where no lock can be had.
    place: Option<Mutex<MeetingPlace>>,
    instance: Option<String>,
    grace: f64,
    /// Whom the agent becomes: the locks are that user's.
    user: Option<User>,
}

/// Keeps a destination until it is dropped. Nothing is in it where no lock can be had.
#[derive(Default)]
pub(crate) struct Claim(#[expect(dead_code, reason = "held for its lock")] Option<Arc<Lock>>);

/// What came of the claim on all destinations of a plan.
#[derive(Default)]
pub(crate) struct Claimed {
    pub(crate) claims: Arc<Claims>,
    /// Those that were free: to be kept until the sinks have theirs.
    pub(crate) held: Vec<Claim>,
    /// Sinks whose destinations another agent has, and why.
    pub(crate) taken: BTreeMap<String, String>,
    /// Somebody asked for the end while this was waiting.
    pub(crate) asked_to_end: bool,
}

/// Who lets sinks send to their destinations.
pub(crate) trait Gate: Send + Sync {
    /// What a sink holds as long as it is there, without waiting. A refusal in passing says who is in its way.
    fn enter(&self, sink: &PlannedSink) -> Result<Claim, BuildError>;
}

impl Gate for Claims {
    fn enter(&self, sink: &PlannedSink) -> Result<Claim, BuildError> {
        let Some(destination) = destination_of(sink) else { return Ok(Claim::default()) };
        match self.lock(&destination) {
            Ok(Ok(lock)) => Ok(Claim(lock)),
            Ok(Err(holder)) => Err(taken(&destination, holder)),
            // What this user may not open is another user's lock.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(taken(&destination, Holder::unknown())),
            // As at the start: without locks it runs all the same.
            Err(error) => {
                warn!(sink = sink.spec.name, "{UNKNOWN} ({error})");
                Ok(Claim::default())
            }
        }
    }
}

impl Claims {
    fn lock(&self, destination: &str) -> io::Result<Result<Option<Arc<Lock>>, Holder>> {
        let Some(place) = &self.place else { return Ok(Ok(None)) };
        let locks = &mut *self.locks.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(destination).and_then(Weak::upgrade) {
            return Ok(Ok(Some(lock)));
        }
        let note = Note { destination: destination.to_owned(), instance: self.instance.clone(), grace: self.grace };
        // Whoever is waited for takes the directory along.
        let lock = place.lock().put(|directory| take(directory, &note, self.user.as_ref()))?;
        Ok(lock.map(|lock| {
            let lock = Arc::new(lock);
            locks.insert(destination.to_owned(), Arc::downgrade(&lock));
            Some(lock)
        }))
    }
}

/// What is said where no lock can be had, before the reason.
const UNKNOWN: &str = "cannot tell whether another agent sends the same numbers to the same places: no lock";

fn taken(destination: &str, holder: Holder) -> BuildError {
    let problem = format!("{} sends to {destination} already, where everything would be counted twice", who(holder));
    let way_out = "stop one of them, or tell them apart by instance = \"NAME\" in one configuration";
    BuildError::taken(problem, way_out)
}

/// Claims each sink's destination. Where another agent holds one, waits until that agent has had the time to end, since a
/// restart may overlap. `asked` says whether to give up; `user` is whom the agent becomes, and who lets the locks go.
///
/// An error is a plan of which nothing is left.
pub(crate) fn claim(
    plan: &Plan,
    directory: Result<PathBuf, String>,
    user: Option<&User>,
    mut asked: impl FnMut() -> bool,
) -> Result<Claimed, Refusal> {
    let unknown = |problem: &str| warn!("{UNKNOWN} ({problem})");
    let destinations: BTreeSet<String> = plan.sinks.iter().filter_map(destination_of).collect();
    let place = directory.and_then(|directory| {
        MeetingPlace::at(&directory, user).map_err(|error| format!("{}: {error}", directory.display()))
    });
    let place = match place {
        Ok(place) => Some(Mutex::new(place)),
        Err(problem) => {
            if !destinations.is_empty() {
                unknown(&problem);
            }
            None
        }
    };
    let (instance, grace) = (plan.instance.clone(), plan.grace.as_secs_f64());
    let claims = Arc::new(Claims { locks: Mutex::default(), place, instance, grace, user: user.cloned() });
    let mut claimed = Claimed { claims: Arc::clone(&claims), ..Claimed::default() };
    let start = Instant::now();
    let mut waiting: Vec<(String, Option<Holder>)> =
        destinations.into_iter().map(|destination| (destination, None)).collect();
    while !waiting.is_empty() {
        let mut still = Vec::new();
        for (destination, known) in waiting {
            match claims.lock(&destination) {
                Ok(Ok(lock)) => claimed.held.push(Claim(lock)),
                Err(error) => unknown(&error.to_string()),
                Ok(Err(holder)) => {
                    let patience = holder.grace + BEYOND_GRACE;
                    if start.elapsed() >= patience {
                        let here = plan.sinks.iter().filter(|sink| destination_of(sink).as_ref() == Some(&destination));
                        let reason = taken(&destination, holder).to_string();
                        claimed.taken.extend(here.map(|sink| (sink.spec.name.clone(), reason.clone())));
                        continue;
                    }
                    if known.is_none() {
                        let who = who(holder);
                        info!("{who} sends to {destination}: waiting up to {patience:?} for its end");
                    }
                    still.push((destination, Some(holder)));
                }
            }
        }
        waiting = still;
        if !waiting.is_empty() {
            // Nobody ever sends: a pause.
            let _ = crossbeam_channel::never::<()>().recv_timeout(PAUSE);
            if asked() {
                claimed.asked_to_end = true;
                return Ok(claimed);
            }
        }
    }
    if !claimed.taken.is_empty() && claimed.taken.len() == plan.sinks.len() {
        let reasons: Vec<String> =
            claimed.taken.iter().map(|(sink, reason)| format!("sinks.{sink}: {reason}")).collect();
        return Err(Refusal::Unable { reason: reasons.join("; "), passing: true });
    }
    Ok(claimed)
}

fn destination_of(sink: &PlannedSink) -> Option<String> {
    sink.plugin.destination(&sink.options)
}

fn who(holder: Holder) -> String {
    holder.pid.map_or_else(|| "another agent".to_owned(), |pid| format!("the agent with process number {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(instance: Option<&str>, destination: &str) -> Note {
        Note { destination: destination.to_owned(), instance: instance.map(str::to_owned), grace: 1.5 }
    }

    #[test]
    fn a_lock_is_a_destination_of_an_instance_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("run");
        let there = || fs::read_dir(&directory).map_or(0, Iterator::count);
        assert_eq!(holder(&directory, None, "udp://a:1"), Ok(None));
        assert!(!directory.exists(), "to ask makes nothing");
        let place = MeetingPlace::at(&directory, None).expect("a directory");
        let first = take(&directory, &note(None, "udp://a:1"), None).expect("a directory").expect("nobody has it");
        let others =
            [(None, "udp://a:2"), (Some("x"), "udp://a:1"), (Some("y"), "udp://a:1")].map(|(instance, place)| {
                take(&directory, &note(instance, place), None).expect("a directory").expect("free")
            });
        assert_eq!(there(), 4);
        drop(others);
        assert_eq!(there(), 1);
        // A process's own locks do not stand in its way; another process's do: tests/it/two_agents.rs.
        assert_eq!(holder(&directory, None, "udp://a:1"), Ok(None));
        drop(first);
        assert_eq!(there(), 0);
        drop(place);
        assert!(!directory.exists());
    }

    #[test]
    fn a_link_is_not_followed_and_what_is_no_file_is_no_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path_of(folder.path(), None, "a");
        std::os::unix::fs::symlink(folder.path().join("target"), &path).expect("a link");
        assert!(take(folder.path(), &note(None, "a"), None).is_err());
        assert!(!folder.path().join("target").exists());
        fs::create_dir(path_of(folder.path(), None, "b")).expect("a directory");
        assert!(take(folder.path(), &note(None, "b"), None).is_err());
    }
}
