//! `spool`: what an outage left on disk is shown, mended and sent.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use ebpf_process_core::testkit::loopback;
use rustix::process::Signal;

use crate::agent::{Finished, Running, VITALS_ONLY, command, file, finish};

/// An agent's configuration whose receiver is at this address, with a spool in a folder.
fn config(folder: &Path, address: SocketAddr) -> (tempfile::TempDir, String) {
    let text = format!(
        "interval = \"100ms\"\n[sinks.db]\ntype = \"influx\"\n[sinks.db.options]\n\
         url = \"http://{address}\"\ndatabase = \"db\"\n\
         delivery = {{ spool = \"{}\" }}\n{VITALS_ONLY}",
        folder.display()
    );
    let (folder, path) = file(&text);
    (folder, path.display().to_string())
}

fn spool(words: &[&str]) -> Finished {
    finish(&mut command(&[&["spool"], words].concat()))
}

/// The number before these words.
fn number(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().and_then(|before| before.rsplit(['\n', ' ']).find(|word| !word.is_empty()));
    before.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number before {words:?}: {text}"))
}

#[test]
fn what_an_outage_left_is_shown_mended_and_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().to_str().expect("a path");
    let listener = TcpListener::bind((loopback(), 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let (_config, path) = config(folder.path(), address);

    let mut agent = Running::start(&mut command(&["run", "--config", &path]));
    agent.wait_for_log("is the server running there?");
    agent.signal(Signal::TERM);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    let spooled = number(&finished.stderr, " spooled (sink db)");
    assert!(spooled > 0, "{finished:?}");

    let shown = spool(&["inspect", directory]);
    assert_eq!((shown.code(), shown.stderr.as_str()), (0, ""));
    assert!(
        shown.stdout.contains("SEGMENT")
            && shown.stdout.contains("  influx-lines  ")
            && shown.stdout.contains("nothing is damaged"),
        "{shown:?}"
    );
    assert_eq!(number(&shown.stdout, " samples wait"), spooled);
    let mended = spool(&["repair", directory]);
    assert_eq!((mended.code(), mended.stdout), (0, shown.stdout));

    let refused = spool(&["drain", "db", "--config", &path]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.stderr.contains(&format!("{spooled} samples still wait")), "{refused:?}");

    let listener = TcpListener::bind(address).expect("the same port");
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            // A head, a body, and an answer whatever they say; then the connection ends.
            let mut seen = Vec::new();
            let mut buffer = [0; 8 << 10];
            while !complete(&seen) {
                match stream.read(&mut buffer).expect("a request") {
                    0 => break,
                    length => seen.extend_from_slice(&buffer[..length]),
                }
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").expect("a client");
        }
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
    let drained = spool(&["drain", "db", "--config", &path]);
    assert_eq!(drained.code(), 0, "{drained:?}");
    assert_eq!(drained.stdout, format!("{spooled} samples waited: {spooled} are sent, 0 lost\n"));
    assert_eq!(spool(&["inspect", directory]).stdout, "0 samples wait, nothing is damaged\n");
    assert_eq!(spool(&["drain", "db", "--config", &path]).stdout, "0 samples waited: 0 are sent, 0 lost\n");
}

/// Whether a request has its whole body.
fn complete(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}

#[test]
fn what_is_no_spool_is_refused_with_its_name() {
    let (_folder, path) = file(VITALS_ONLY);
    let path = path.to_str().expect("a path");
    for (words, code, said) in [
        (&["inspect", "/no/such/spool"][..], 1, "/no/such/spool"),
        (&["repair", "/no/such/spool"], 1, "/no/such/spool"),
        (&["drain", "db", "--config", path], 2, "no sink of the name db"),
    ] {
        let finished = spool(words);
        assert_eq!(finished.code(), code, "{finished:?}");
        assert!(finished.stderr.contains(said), "{finished:?}");
    }
}
