//! A program behind a Unix socket, which says what the fuzzer has for it.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;

/// Where it listens; it starts with the first input. Each agent that connects is spoken to, one after the other.
pub fn listening(name: &str, speak: fn(UnixStream) -> io::Result<()>) -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        // A program of Rust's ignores it, and this one's `main` is the fuzzer's.
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default()).expect("a handler");
        let path = std::env::temp_dir().join(format!("fuzz-{name}-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        let serve = move || {
            for agent in listener.incoming().flatten() {
                // An agent that hangs up has heard enough.
                let _ = speak(agent);
            }
        };
        thread::Builder::new().spawn(serve).expect("a thread");
        path
    })
}
