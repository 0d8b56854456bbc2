//! What is opened for an unprivileged user, and what is not: both ends in one process, the client's threads without rights.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ebpf_process_core::{Access, Opener, SocketKind};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;

use super::allowed::Allowed;
use super::client::Client;
use super::open;
use super::serve::Server;
use super::user::User;
use super::wire;

const NOBODY: u32 = 65_534;

/// A folder of root's, in which only root may do anything.
struct Scene {
    folder: TempDir,
}

impl Scene {
    /// `None`, with the reason on the terminal, for who is not root.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            // Not eprintln: the test harness would keep it to itself as long as the test passes.
            let _ =
                writeln!(io::stderr(), "SKIPPED a test of the broker: it takes root to have rights that others lack");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("a mode");
        Some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of somebody's.
    fn file(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, name).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        chown(&path, Some(owner), Some(owner)).expect("an owner");
        path
    }

    fn directory(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        chown(&path, Some(owner), Some(owner)).expect("an owner");
        path
    }
}

/// Calls the client from a thread of somebody without rights, served by a thread that has them.
fn ask<T: Send>(accesses: Vec<Access>, ask: impl FnOnce(&Client) -> T + Send) -> T {
    let (ours, its) = wire::pair().expect("sockets");
    let user = User { uid: NOBODY, gid: NOBODY, groups: Vec::new() };
    let server = Server::new(its, Allowed::from(accesses), user, || Err("it is not read".to_owned()));
    thread::scope(|scope| {
        let serve = thread::Builder::new().spawn_scoped(scope, || server.run()).expect("a thread");
        let asked = thread::Builder::new().spawn_scoped(scope, move || {
            let client = Client::new(ours);
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_groups(&[]).and_then(|()| set_thread_res_gid(gid, gid, gid)).expect("a group");
            set_thread_res_uid(uid, uid, uid).expect("a user");
            ask(&client)
        });
        let answer = asked.expect("a thread").join().expect("no panic");
        serve.join().expect("it ends with its client");
        answer
    })
}

fn text(file: io::Result<File>) -> String {
    let mut text = String::new();
    file.and_then(|mut file| file.read_to_string(&mut text)).expect("text");
    text
}

/// Whether it was refused in words that contain these.
fn refused<T: std::fmt::Debug>(outcome: io::Result<T>, words: &str) {
    let error = outcome.expect_err(words).to_string();
    assert!(error.contains(words), "{error}");
}

const NOT_CONFIGURED: &str = "not what the broker was started for";

#[test]
fn what_is_configured_is_opened_for_one_who_may_not() {
    let Some(scene) = Scene::new() else { return };
    let (token, lines, new) = (scene.file("token", 0, 0o600), scene.file("lines", 0, 0o640), scene.path("new"));
    let (stream, datagrams) = (scene.path("stream"), scene.path("datagrams"));
    let listener = UnixListener::bind(&stream).expect("a listener");
    let receiver = UnixDatagram::bind(&datagrams).expect("a receiver");
    let below = scene.path("made/new");
    let accesses = vec![
        Access::Read(token.clone()),
        Access::Write(lines.clone()),
        Access::Write(new.clone()),
        Access::Write(below.clone()),
        Access::Connect(stream.clone()),
        Access::Connect(datagrams.clone()),
    ];
    ask(accesses, |client| {
        assert_eq!(text(client.read(&token)), "token");
        client.append(&lines).and_then(|mut file| file.write_all(b"+")).expect("a line");
        client.append(&new).and_then(|mut file| file.write_all(b"new")).expect("a line");
        assert_eq!(client.append(&below).expect_err("no directory").kind(), io::ErrorKind::NotFound);
        let socket = client.connect(&stream, SocketKind::Stream, None).expect("a connection");
        File::from(socket).write_all(b"x").expect("a byte");
        let socket = client.connect(&datagrams, SocketKind::Datagram, Some(Duration::ZERO)).expect("a connection");
        UnixDatagram::from(socket).send(b"y").expect("a datagram");
        let wrong = client.connect(&datagrams, SocketKind::Stream, None).expect_err("another kind");
        assert_eq!(wrong.raw_os_error(), Some(rustix::io::Errno::PROTOTYPE.raw_os_error()));
    });
    assert_eq!(fs::read_to_string(&lines).expect("text"), "lines+");
    assert_eq!(fs::metadata(&new).expect("made").uid(), NOBODY);
    let mut byte = [0];
    listener.accept().expect("a client").0.read_exact(&mut byte).expect("a byte");
    receiver.recv(&mut byte).expect("a datagram");
    assert_eq!(byte, *b"y");
}

#[test]
fn a_listener_without_room_is_waited_for_and_no_longer_than_the_limit() {
    let Some(scene) = Scene::new() else { return };
    let path = scene.path("socket");
    let listener = UnixListener::bind(&path).expect("a listener");
    ask(vec![Access::Connect(path.clone())], |client| {
        let connect = |limit| client.connect(&path, SocketKind::Stream, Some(limit));
        let clients: Vec<_> = (0..10_000).map_while(|_| connect(Duration::ZERO).ok()).collect();
        assert!(clients.len() < 10_000);
        let full = connect(Duration::from_millis(30)).expect_err("no room");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        listener.accept().expect("a client");
        connect(Duration::from_mins(1)).expect("there is room");
    });
}

#[test]
fn a_privileged_port_is_listened_at_and_no_other() {
    let Some(_scene) = Scene::new() else { return };
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("a setting");
    if first.trim() == "0" {
        let _ = writeln!(io::stderr(), "SKIPPED a privileged port: here everybody may listen at all of them");
        return;
    }
    let address = |port| (ebpf_process_core::testkit::loopback(), port).into();
    let (one, other) = (address(85), address(86));
    ask(vec![Access::Listen(one)], |client| {
        assert_eq!(client.listen(one).and_then(|listener| listener.local_addr()).expect("a listener"), one);
        refused(client.listen(other), NOT_CONFIGURED);
    });
}

#[test]
fn what_is_not_configured_exactly_so_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let (token, other) = (scene.file("token", 0, 0o600), scene.file("other", 0, 0o600));
    let folder = scene.folder.path().display().to_string();
    ask(vec![Access::Read(token.clone()), Access::Directory(other.clone())], |client| {
        refused(client.read(&other), NOT_CONFIGURED);
        refused(client.append(&token), NOT_CONFIGURED);
        refused(client.connect(&token, SocketKind::Stream, None), NOT_CONFIGURED);
        for path in ["/x/../token", "/token/..", "/token/x"] {
            refused(client.read(Path::new(&format!("{folder}{path}"))), NOT_CONFIGURED);
        }
        refused(
            client.start(&ebpf_process_core::Program { path: token.clone(), ..Default::default() }),
            NOT_CONFIGURED,
        );
        refused(client.configuration(), "it is not read");
        assert_eq!(text(client.read(&token)), "token", "it is served all the same");
    });
}

#[test]
fn a_link_is_followed_where_only_root_can_have_put_it() {
    let Some(scene) = Scene::new() else { return };
    let secret = scene.file("secret", 0, 0o600);
    let (of_root, of_user) = (scene.path("of-root"), scene.path("of-user"));
    symlink(&secret, &of_root).expect("a link");
    symlink(&secret, &of_user).expect("a link");
    std::os::unix::fs::lchown(&of_user, Some(NOBODY), Some(NOBODY)).expect("an owner");
    let relative = scene.path("relative");
    symlink("above/../of-root", &relative).expect("a link");
    scene.directory("above", 0, 0o755);
    let around = scene.path("around");
    symlink("around", &around).expect("a link");
    // One of root's in a directory of the user's may have been moved there.
    let theirs = scene.directory("theirs", NOBODY, 0o755).join("link");
    symlink(&secret, &theirs).expect("a link");
    let shared = scene.directory("shared", 0, 0o1777).join("link");
    symlink(&secret, &shared).expect("a link");
    let through = scene.path("through");
    symlink(scene.path("theirs"), &through).expect("a link");
    let through = through.join("link");
    let all = [&of_root, &of_user, &relative, &around, &theirs, &shared, &through];
    ask(all.map(|path| Access::Read(path.clone())).to_vec(), |client| {
        assert_eq!(text(client.read(&of_root)), "secret");
        assert_eq!(text(client.read(&relative)), "secret");
        for path in [&of_user, &theirs, &shared, &through] {
            refused(client.read(path), "leads over the link");
        }
        let lost = client.read(&around).expect_err("it leads nowhere");
        assert_eq!(lost.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    });
}

#[test]
fn what_others_may_have_put_there_is_opened_only_as_what_it_should_be() {
    let Some(scene) = Scene::new() else { return };
    let secret = scene.file("secret", 0, 0o600);
    let theirs = scene.directory("theirs", NOBODY, 0o700);
    let (second_name, moved, fifo) = (theirs.join("second"), theirs.join("moved"), scene.path("fifo"));
    fs::hard_link(&secret, &second_name).expect("a second name");
    fs::rename(scene.file("for-root", 0, 0o600), &moved).expect("moved");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).expect("a FIFO");
    let socket = scene.path("socket");
    let _listener = UnixListener::bind(&socket).expect("a listener");
    let disk = scene.directory("disk", 0, 0o700);
    let all = [&second_name, &moved, &fifo, &socket, &disk];
    let read = all.map(|path| Access::Read(path.clone()));
    let written = all.map(|path| Access::Write(path.clone()));
    ask([read, written].concat(), |client| {
        // In a folder that it may not even enter, so that it has to ask.
        refused(client.read(&second_name), "another name");
        refused(client.append(&second_name), "another name");
        refused(client.read(&moved), "chown 65534");
        refused(client.append(&moved), "chown 65534");
        refused(client.read(&fifo), "not a regular file");
        let unread = client.append(&fifo).expect_err("nobody reads it");
        assert_eq!(unread.raw_os_error(), Some(rustix::io::Errno::NXIO.raw_os_error()));
        refused(client.append(&socket), "no file to append to");
        assert_eq!(client.append(&disk).expect_err("a directory").kind(), io::ErrorKind::IsADirectory);
        // Root's directory: a second name is root's doing.
        assert!(client.read(&disk.join("none")).is_err());
    });
    assert_eq!(fs::read_to_string(&secret).expect("text"), "secret");
}

#[test]
fn what_is_swapped_while_it_is_opened_is_never_somebody_elses() {
    let Some(scene) = Scene::new() else { return };
    let secret = scene.file("secret", 0, 0o600);
    let theirs = scene.directory("theirs", NOBODY, 0o777);
    let (path, link, plain) = (theirs.join("lines"), theirs.join("link"), theirs.join("plain"));
    symlink(&secret, &link).expect("a link");
    let forbidden = fs::metadata(&secret).expect("a file").ino();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let swap = || {
            // A link, a second name, nothing, and a file of the user's, as fast as it goes.
            while !done.load(Ordering::Acquire) {
                let _ = fs::remove_file(&path);
                let _ = symlink(&secret, &path);
                let _ = fs::remove_file(&path);
                let _ = fs::hard_link(&secret, &path);
                let _ = fs::write(&plain, "plain").and_then(|()| chown(&plain, Some(NOBODY), None));
                let _ = fs::rename(&plain, &path);
            }
        };
        thread::Builder::new().spawn_scoped(scope, swap).expect("a thread");
        let opened = ask(vec![Access::Write(path.clone()), Access::Read(path.clone())], |client| {
            let mut opened = 0;
            for _ in 0..2000 {
                for file in [client.append(&path), client.read(&path)].into_iter().flatten() {
                    assert_ne!(file.metadata().expect("a file").ino(), forbidden);
                    opened += 1;
                }
            }
            opened
        });
        done.store(true, Ordering::Release);
        assert!(opened > 0, "sometimes it is the user's own");
    });
}

#[test]
fn a_directory_of_roots_is_handed_over_if_it_is_a_spools_or_empty() {
    let Some(scene) = Scene::new() else { return };
    let var = scene.directory("var", 0, 0o755);
    fs::set_permissions(scene.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    let at = |name: &str| var.join(name);
    let directory = |name: &str, owner: u32, mode: u32| scene.directory(&format!("var/{name}"), owner, mode);
    let (spool, empty, missing) = (directory("spool", 0, 0o700), directory("empty", 0, 0o755), at("a/b/missing"));
    for name in ["lock", "cursor", "00000000000000000001.segment", "00000000000000000002.repaired"] {
        scene.file(&format!("var/spool/{name}"), 0, 0o600);
    }
    let (foreign, others, open) = (directory("foreign", 0, 0o700), directory("others", 7, 0o700), at("open"));
    scene.file("var/foreign/lock", 0, 0o600);
    scene.file("var/foreign/shadow", 0, 0o600);
    directory("open", 0, 0o777);
    scene.file("var/open/lock", 0, 0o600);
    let linked = directory("linked", 0, 0o700);
    fs::hard_link(foreign.join("shadow"), linked.join("lock")).expect("a second name");
    let all = [&spool, &empty, &missing, &foreign, &others, &open, &linked];
    ask(all.map(|path| Access::Directory(path.clone())).to_vec(), |client| {
        for path in [&spool, &empty, &missing] {
            client.directory(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            fs::write(path.join("lock"), "").expect("it can be used");
        }
        refused(client.directory(&foreign), "shadow in it is no file of a spool: chown -R 65534");
        refused(client.directory(&others), "is the directory of user 7: chown -R 65534");
        refused(client.directory(&open), "others may write in it");
        refused(client.directory(&linked), "no file of a spool");
    });
    for entry in fs::read_dir(&spool).expect("a directory") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.metadata().expect("a file").uid(), NOBODY, "{}", entry.path().display());
    }
    assert_eq!(fs::metadata(foreign.join("shadow")).expect("a file").uid(), 0);
    assert_eq!(fs::metadata(missing.parent().expect("a directory")).expect("made").uid(), 0);
    assert_eq!(fs::metadata(&missing).expect("made").mode() & 0o777, 0o700);
}

#[test]
fn a_spool_that_root_has_made_anew_is_used_again() {
    use ebpf_process_delivery::{Frame, Spool};

    let Some(scene) = Scene::new() else { return };
    fs::set_permissions(scene.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    let path = scene.path("spool");
    let made_anew = || {
        fs::remove_dir_all(&path).expect("removed");
        fs::create_dir(&path).expect("made anew");
    };
    let (ours, its) = wire::pair().expect("sockets");
    let user = User { uid: NOBODY, gid: NOBODY, groups: Vec::new() };
    let accesses = Allowed::from(vec![Access::Directory(path.clone())]);
    let server = Server::new(its, accesses, user, || Err(String::new()));
    thread::scope(|scope| {
        let (asks, asked) = std::sync::mpsc::channel();
        let (does, done) = std::sync::mpsc::channel();
        thread::Builder::new().spawn_scoped(scope, || server.run()).expect("a thread");
        let spool = &path;
        let agent = move || {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_groups(&[]).and_then(|()| set_thread_res_gid(gid, gid, gid)).expect("a group");
            set_thread_res_uid(uid, uid, uid).expect("a user");
            let client = std::sync::Arc::new(Client::new(ours));
            let (mut spool, _) = Spool::open_by(client, spool, 1 << 20, &["lines"]).expect("a spool");
            for _ in 0..2 {
                let mut frame = Frame::default();
                frame.push(b"line\n", 1);
                spool.append(&frame).expect("room");
                assert!(spool.take().is_some());
                asks.send(()).expect("somebody hears it");
                done.recv().expect("somebody does it");
            }
        };
        let agent = thread::Builder::new().spawn_scoped(scope, agent).expect("a thread");
        for () in asked {
            made_anew();
            does.send(()).expect("it waits");
        }
        agent.join().expect("no panic");
    });
}

#[test]
fn a_directory_to_which_the_way_is_closed_is_used_through_its_descriptor() {
    let Some(scene) = Scene::new() else { return };
    let (spool, moved) = (scene.path("spool"), scene.path("moved"));
    ask(vec![Access::Directory(spool.clone())], |client| {
        assert_eq!(fs::metadata(&spool).expect_err("closed").kind(), io::ErrorKind::PermissionDenied);
        let directory = client.directory(&spool).expect("a directory");
        fs::write(directory.through().join("lock"), "ours").expect("a file");
        assert!(!directory.is_elsewhere(), "nobody knows");
        assert!(fs::read_dir(directory.through().join("..")).is_err(), "it opens nothing above");
    });
    fs::rename(&spool, &moved).expect("moved");
    assert_eq!(fs::read(moved.join("lock")).expect("the file"), b"ours");
    assert_eq!(fs::metadata(&moved).expect("made").uid(), NOBODY);
}

#[test]
fn a_broker_that_is_not_root_opens_as_its_agents_user_and_can_give_nothing_away() {
    let Some(scene) = Scene::new() else { return };
    fs::set_permissions(scene.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    let (own, roots) = (scene.directory("own", NOBODY, 0o700), scene.directory("roots", 0, 0o755));
    let act = || {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[]).and_then(|()| set_thread_res_gid(gid, gid, gid)).expect("a group");
        set_thread_res_uid(uid, uid, uid).expect("a user");
        let user = User { uid: NOBODY, gid: NOBODY, groups: Vec::new() };
        for _ in 0..2 {
            open::append(&own.join("lines"), &user).expect("a file");
            open::directory(&own.join("spools/a"), &user).expect("a spool");
        }
        let refused = open::directory(&roots, &user).expect_err("root's");
        assert!(io::Error::from(refused).to_string().contains("takes root: chown -R 65534"));
    };
    thread::scope(|scope| thread::Builder::new().spawn_scoped(scope, act).expect("a thread").join().expect("no panic"));
    for name in ["lines", "spools", "spools/a"] {
        assert_eq!(fs::metadata(own.join(name)).expect("it was made").uid(), NOBODY, "{name}");
    }
}

#[test]
fn the_configuration_comes_in_pieces_and_decides_from_then_on() {
    let Some(scene) = Scene::new() else { return };
    let (before, after) = (scene.file("before", 0, 0o600), scene.file("after", 0, 0o600));
    let (ours, its) = wire::pair().expect("sockets");
    let user = User { uid: NOBODY, gid: NOBODY, groups: Vec::new() };
    let long: Vec<u8> = (0..1_000_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    let right = Ok((vec![Access::Read(after.clone())], long.clone()));
    let mut answers = vec![right.clone(), right.clone(), right.clone(), right, Err("a typo".repeat(100_000))];
    let read_again =
        move || answers.pop().expect("asked twice").map(|(accesses, bytes)| (Allowed::from(accesses), bytes));
    let server = Server::new(its, Allowed::from(vec![Access::Read(before.clone())]), user, read_again);
    thread::scope(|scope| {
        thread::Builder::new().spawn_scoped(scope, || server.run()).expect("a thread");
        let client = Client::new(ours);
        let asks = |path: &Path| client.asks_to_read(path);
        refused(client.configuration(), "a typo");
        assert!(asks(&before).is_ok() && asks(&after).is_err(), "what is wrong changes nothing");
        // However many are read that the agent does not take over.
        for _ in 0..2 {
            assert!(client.configuration().expect("a configuration") == long);
            assert!(asks(&before).is_ok() && asks(&after).is_ok(), "the agent may be taking it over");
            client.is_in_effect(false);
            assert!(asks(&before).is_ok() && asks(&after).is_err(), "what is not taken over changes nothing");
        }
        assert!(client.configuration().expect("a configuration") == long);
        client.is_in_effect(true);
        assert!(asks(&before).is_ok() && asks(&after).is_ok(), "sinks of the one before may still be finishing");
        assert!(client.configuration().expect("a configuration") == long);
        client.is_in_effect(true);
        assert!(asks(&before).is_err() && asks(&after).is_ok());
    });
}

#[test]
fn whom_a_list_of_users_may_name_is_found_by_its_mode() {
    let Some(scene) = Scene::new() else { return };
    let user = User { uid: NOBODY, gid: NOBODY, groups: vec![7] };
    for (owner, mode, may) in [
        (0, 0o755, false),
        (NOBODY, 0o500, true),
        (0, 0o757, true),
        (0, 0o1777, true),
        (7, 0o775, true),
        (8, 0o775, false),
    ] {
        let path = scene.directory("directory", owner, mode);
        let directory = File::open(&path).expect("a directory");
        let stat = rustix::fs::fstat(&directory).expect("its state");
        assert_eq!(user.may_put_into(directory.as_fd(), &stat), may, "{owner} {mode:o}");
        fs::remove_dir(&path).expect("removed");
    }
    assert!(ebpf_process_delivery::is_of_a_spool(OsStr::new("lock")));
}

#[test]
fn what_runs_with_rights_is_read_in_ten_minutes() {
    // Comments and tests are not counted.
    let files = [
        include_str!("serve.rs"),
        include_str!("language.rs"),
        include_str!("allowed.rs"),
        include_str!("open.rs"),
        include_str!("walk.rs"),
        include_str!("user.rs"),
        include_str!("programs.rs"),
        include_str!("assist.rs"),
        include_str!("capabilities.rs"),
        include_str!("wire.rs"),
    ];
    let code = files.iter().flat_map(|file| file.lines().take_while(|line| *line != "#[cfg(test)]"));
    let lines = code.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count();
    assert!(lines <= 1000, "{lines} lines");
}
