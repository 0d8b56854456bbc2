//! Every sink opens by its opener what it says that it opens.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, context, loopback, offer};
use ebpf_process_core::{
    Access, Column, Direct, Directory, Opener, Options, Program, Selection, SinkContext, SocketKind, Started, Unit,
};
use serde_json::{Value, json};

/// Opens, and remembers what.
#[derive(Debug, Default)]
struct Remembering {
    direct: Direct,
    opened: Mutex<Vec<Access>>,
}

impl Remembering {
    fn note(&self, access: Access) -> &Direct {
        self.opened.lock().expect("no panic").push(access);
        &self.direct
    }
}

impl Opener for Remembering {
    fn read(&self, path: &Path) -> io::Result<File> {
        self.note(Access::Read(path.to_owned())).read(path)
    }

    fn append(&self, path: &Path) -> io::Result<File> {
        self.note(Access::Write(path.to_owned())).append(path)
    }

    fn directory(&self, path: &Path) -> io::Result<Directory> {
        self.note(Access::Directory(path.to_owned())).directory(path)
    }

    fn connect(&self, path: &Path, kind: SocketKind, limit: Option<Duration>) -> io::Result<OwnedFd> {
        self.note(Access::Connect(path.to_owned())).connect(path, kind, limit)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.note(Access::Listen(address)).listen(address)
    }

    fn start(&self, program: &Program) -> io::Result<Started> {
        self.note(Access::Program(program.clone())).start(program)
    }

    fn terminate(&self, number: u32) -> io::Result<()> {
        self.direct.terminate(number)
    }

    fn end(&self, number: u32) -> io::Result<ExitStatus> {
        self.direct.end(number)
    }

    fn ended(&self, number: u32) -> io::Result<Option<ExitStatus>> {
        self.direct.ended(number)
    }
}

#[test]
fn what_a_sink_names_it_opens_by_its_opener_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let server = UnixListener::bind(at("server")).expect("a server");
    server.set_nonblocking(true).expect("nobody waits for it");
    let _receivers = (UnixListener::bind(at("stream")), UnixDatagram::bind(at("datagrams")));
    fs::write(at("token"), "secret").expect("a file");
    fs::write(at("ca"), "no certificate").expect("a file");
    let db = |url: &str, more: Value| {
        let mut options =
            json!({ "url": url, "version": 2, "org": "o", "bucket": "b", "token": { "file": at("token") } });
        let Some(table) = options.as_object_mut() else { panic!("a table") };
        table.extend(more.as_object().expect("a table").clone());
        options
    };
    let file = format!("file://{}", at("points"));
    for (sink, options, count) in [
        ("json", json!({ "path": at("lines") }), 1),
        ("json", json!({ "path": at("made/lines") }), 1),
        ("prometheus", json!({ "listen": format!("{}:0", loopback()) }), 1),
        ("statsd", json!({ "address": format!("unix://{}", at("stream")) }), 1),
        ("statsd", json!({ "address": format!("unixgram://{}", at("datagrams")) }), 1),
        ("influx", json!({ "url": file, "delivery": { "spool": at("spool-of-file") } }), 2),
        (
            "influx",
            db(
                &format!("unix://{}", at("server")),
                json!({ "timeout": "100ms", "delivery": { "spool": at("spool") } }),
            ),
            3,
        ),
        ("influx", db("https://localhost:1", json!({ "ca_file": at("ca") })), 2),
        ("netdata", json!({}), 0),
    ] {
        let registry = ebpf_process::registry();
        let plugin = registry.find_sink(sink).expect("it comes with the agent");
        let options = Options::from_value(&options);
        plugin.check(&options).unwrap_or_else(|error| panic!("{sink}: {error}"));
        let named = plugin.opens(&options);
        assert_eq!(named.len(), count, "{named:?}");
        let opener = Arc::new(Remembering::default());
        let context = SinkContext { opener: Arc::clone(&opener) as _, ..context("x") };
        let ledger = Arc::clone(&context.ledger);
        // One that cannot be built, since what it reads is of no use, has read it.
        if sink != "netdata"
            && let Ok(mut sink) = plugin.build(&options, context)
        {
            let mut bench = Bench::new();
            let calls = bench.host(Column::counter("vfs.calls", Unit::CALLS, "Calls"));
            for total in [1, 2] {
                bench.tick(
                    &Selection::default(),
                    |recorder| calls.counter(recorder, total),
                    |view| {
                        offer(&ledger, view.len() as u64);
                        // Nobody answers some of them.
                        let _ = sink.write(view);
                        let _ = sink.flush();
                    },
                );
            }
        }
        let found = opener.opened.lock().expect("no panic");
        assert!(named.iter().all(|access| found.contains(access)), "{sink}: {named:?} {found:?}");
        assert!(found.iter().all(|access| named.contains(access)), "{sink}: {named:?} {found:?}");
    }
}
