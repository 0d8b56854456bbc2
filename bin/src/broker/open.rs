//! Opening for the agent, with the rights of its start, what its user could not be made to open otherwise than as
//! configured.
//!
//! What is looked at is what is opened: once the [way](super::walk) has led to a file, it is opened by the descriptor that
//! it was looked at with, not by its name again.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use ebpf_process_core::SocketKind;
use ebpf_process_delivery::is_of_a_spool;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchown, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with};
use rustix::process::geteuid;

use super::language::Refusal;
use super::user::{Use, User, is_roots_alone, path_of};
use super::walk::{Found, walk};

/// How often something may be there that was missing the moment before.
const ATTEMPTS: usize = 3;

/// Files that a directory may have which is handed over.
const MOST_FILES: usize = 4096;

/// Opens a regular file for reading.
pub(crate) fn read(path: &Path, user: &User) -> Result<OwnedFd, Refusal> {
    let found = walk(path, user)?;
    let (file, stat) = found.there.as_ref().ok_or(Errno::NOENT)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::of(format!("{} is not a regular file; name one", path.display())));
    }
    check(path, &found, stat, user, Use::Read)?;
    Ok(open(path_of(file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a regular file, a FIFO or a character device for appending; makes a file, of the agent's user, where there is
/// none.
pub(crate) fn append(path: &Path, user: &User) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    for _ in 0..ATTEMPTS {
        let found = walk(path, user)?;
        let Some((file, stat)) = &found.there else {
            let new = flags | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            match openat(&found.directory, &*found.name, new, Mode::from_raw_mode(0o666)) {
                Err(Errno::EXIST) => continue,
                made => {
                    let made = made?;
                    give(&made, user)?;
                    return Ok(made);
                }
            }
        };
        let access = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::CharacterDevice => OFlags::RDWR,
            // Whoever opens it for reading too is its reader.
            FileType::Fifo => OFlags::WRONLY,
            FileType::Directory => return Err(Errno::ISDIR.into()),
            _ => return Err(Refusal::of(format!("{} is no file to append to; name one", path.display()))),
        };
        check(path, &found, stat, user, Use::Write)?;
        return Ok(open(path_of(file), flags | access, Mode::empty())?);
    }
    Err(changes(path))
}

/// Whether this file is the one that the administrator means.
///
/// In a directory where others than root may put things, a file with a second name may be any file of the same file
/// system. Where the agent's user may do so, it may have moved somebody else's file there: then it has to be one that the
/// user may open by its mode.
fn check(path: &Path, found: &Found, stat: &Stat, user: &User, what: Use) -> Result<(), Refusal> {
    let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_regular && stat.st_nlink > 1 && !is_roots_alone(&found.directory_stat) {
        return Err(Refusal::of(format!(
            "{} has another name as well, and others than root may make names in its directory; make it a file of one \
             name",
            path.display()
        )));
    }
    let own = user.is_root() || user.may(stat, what);
    if !own && user.may_put_into(&found.directory, &found.directory_stat) {
        return Err(Refusal::of(format!(
            "{} is of user {} in a directory where the agent's user may put files: chown {} it, or make the directory \
             root's alone",
            path.display(),
            stat.st_uid,
            user.uid
        )));
    }
    Ok(())
}

/// Opens a directory for looking alone, and sees to it that it is there and the agent's user's. One of root's is handed
/// over with what is in it, if that is a spool's or nothing.
pub(crate) fn directory(path: &Path, user: &User) -> Result<OwnedFd, Refusal> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for above in above.into_iter().rev().filter(|above| above.parent().is_some()) {
        let found = walk(above, user)?;
        if found.there.is_none() {
            // Root's, as the directories around it are; the agent's user passes through.
            let made = mkdirat(&found.directory, &*found.name, Mode::from_raw_mode(0o755));
            made.or_else(|error| if error == Errno::EXIST { Ok(()) } else { Err(error) })?;
        }
    }
    let found = walk(path, user)?;
    let Some((directory, stat)) = found.there else { return make(&found, user) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR.into());
    }
    if stat.st_uid == user.uid {
        return Ok(directory);
    }
    let refused = |why: &str| {
        let path = path.display();
        Refusal::of(format!("{path} is the directory of user {}{why}: chown -R {} {path}", stat.st_uid, user.uid))
    };
    if !geteuid().is_root() {
        return Err(refused(", and to give it away takes root"));
    }
    if !is_roots_alone(&stat) {
        return Err(refused(if stat.st_uid == 0 { ", and others may write in it" } else { "" }));
    }
    let list = open(path_of(&directory), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut files = Vec::new();
    for entry in Dir::read_from(&list)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let file = openat(&list, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
        let name = Path::new(std::ffi::OsStr::new(name.to_str().unwrap_or("?")));
        if !plain || (stat.st_uid != 0 && stat.st_uid != user.uid) || !is_of_a_spool(name.as_os_str()) {
            return Err(refused(&format!(", and {} in it is no file of a spool", name.display())));
        }
        if files.len() == MOST_FILES {
            return Err(refused(", and has too many files"));
        }
        files.push(name.to_owned());
    }
    let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    for name in files {
        chownat(&list, &*name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    // At last: until now nobody but root could change what is in it.
    fchown(&list, uid, gid)?;
    Ok(directory)
}

/// Makes the directory that was not there and gives it to the user.
fn make(found: &Found, user: &User) -> Result<OwnedFd, Refusal> {
    mkdirat(&found.directory, &*found.name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(&found.directory, &*found.name, flags, Mode::empty())?;
    // It may have been swapped for another one since; an empty one of the same owner is as good as ours.
    let is_empty =
        Dir::read_from(&directory)?.all(|entry| entry.is_ok_and(|it| [c".", c".."].contains(&it.file_name())));
    if fstat(&directory)?.st_uid != geteuid().as_raw() || !is_empty {
        return Err(Refusal::of(format!("{} changes while it is made", found.name.display())));
    }
    give(&directory, user)?;
    Ok(directory)
}

/// Connects to a socket, without waiting for room.
pub(crate) fn connect(path: &Path, kind: SocketKind, user: &User) -> Result<OwnedFd, Refusal> {
    let found = walk(path, user)?;
    let (socket, stat) = found.there.as_ref().ok_or(Errno::NOENT)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(Errno::CONNREFUSED.into());
    }
    check(path, &found, stat, user, Use::Write)?;
    let kind = match kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Datagram => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connected = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    connect_to(&connected, &SocketAddrUnix::new(path_of(socket))?)?;
    Ok(connected)
}

/// Listens at an address.
pub(crate) fn listen(address: SocketAddr) -> Result<OwnedFd, Refusal> {
    Ok(TcpListener::bind(address)?.into())
}

/// Gives an open file or directory to the user, if it is not the user's already.
fn give(file: &OwnedFd, user: &User) -> Result<(), Refusal> {
    if fstat(file)?.st_uid == user.uid {
        return Ok(());
    }
    Ok(fchown(file, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?)
}

fn changes(path: &Path) -> Refusal {
    Refusal::of(format!("{} comes and goes while it is opened", path.display()))
}
