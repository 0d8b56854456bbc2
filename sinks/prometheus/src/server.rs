//! The HTTP server: one thread, no client can stop it, and what it takes is bounded.

use std::io::{self, PipeReader, PipeWriter};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ebpf_process_core::Opener;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::connection::{Connection, Progress};
use crate::exposition::Exposition;
use crate::request::answer;
use crate::sheet::Sheet;

/// Clients at once. A further one takes the place of the one that has been there for longest, so that
/// nobody who only holds connections keeps a scrape out.
const MOST_CONNECTIONS: usize = 32;

/// How long a client may take, from connecting to the end of the reply.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Until the next attempt when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The most memory of views that clients are at, beside one, in bytes. The client that has been there for longest goes
/// first.
const MOST_BYTES: usize = 64 << 20;

/// Answers scrapes with pages of what was published last. Dropping it ends the thread and all
/// connections.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    /// Dropped first: the thread hears of it.
    hang_up: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and starts the thread.
    pub(crate) fn start(
        opener: &dyn Opener,
        listen: SocketAddr,
        path: &str,
        patience: Duration,
        exposition: Arc<Mutex<Exposition>>,
    ) -> io::Result<Self> {
        let listener = opener.listen(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (ended, hang_up) = io::pipe()?;
        let connections = Vec::new();
        let worker = Worker { listener, ended, path: path.to_owned(), patience, exposition, connections };
        let thread = thread::Builder::new().name("prometheus".to_owned()).spawn(move || worker.run())?;
        Ok(Self { address, hang_up: Some(hang_up), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the thread and all connections.
    pub(crate) fn end(&mut self) {
        self.hang_up = None;
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but us; if it has panicked there is nothing to be done about it.
            let _ = thread.join();
        }
    }

    /// Whether the thread has ended by itself, which it never should.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread.
struct Worker {
    listener: TcpListener,
    ended: PipeReader,
    path: String,
    patience: Duration,
    exposition: Arc<Mutex<Exposition>>,
    /// In the order in which they came.
    connections: Vec<Connection>,
}

impl Worker {
    fn run(mut self) {
        let mut has_room = true;
        loop {
            let Ok(ready) = self.wait(has_room) else { return };
            let [ended, listener, connections @ ..] = &*ready else { return };
            if !ended.is_empty() {
                return;
            }
            let now = Instant::now();
            let Self { connections: clients, exposition, path, .. } = &mut self;
            let mut events = connections.iter();
            clients.retain_mut(|client| {
                let ready = events.next().is_some_and(|events| !events.is_empty());
                if now >= client.deadline {
                    return false;
                }
                let make = |format, wanted: &_| exposition.lock().page(format, wanted);
                match if ready { client.advance(|request| answer(request, path, make)) } else { Progress::Goes } {
                    Progress::Goes => true,
                    Progress::Over => false,
                    Progress::Fetched(receipt) => {
                        exposition.lock().fetched(receipt);
                        false
                    }
                }
            });
            make_room(&mut self.connections, MOST_BYTES);
            // After a pause there is a new attempt, whether or not something else woke us.
            has_room = !has_room || listener.is_empty() || self.accept(now);
        }
    }

    /// Waits until something happens or the next client has run out of time; says what happened to
    /// the end, the listener and each client.
    fn wait(&self, has_room: bool) -> Result<Vec<PollFlags>, Errno> {
        let mut fds = Vec::with_capacity(2 + self.connections.len());
        fds.push(PollFd::new(&self.ended, PollFlags::IN));
        fds.push(PollFd::new(&self.listener, if has_room { PollFlags::IN } else { PollFlags::empty() }));
        fds.extend(self.connections.iter().map(|client| PollFd::new(&client.stream, client.interest())));
        let now = Instant::now();
        let deadlines = self.connections.iter().map(|client| client.deadline.saturating_duration_since(now));
        let timeout = deadlines.chain((!has_room).then_some(PAUSE)).min().map(timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.iter().map(PollFd::revents).collect()),
            Err(error) => Err(error),
        }
    }

    /// Takes up one client; `false` if the system has no room.
    fn accept(&mut self, now: Instant) -> bool {
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        match accepted {
            Ok(stream) => {
                if self.connections.len() >= MOST_CONNECTIONS {
                    self.connections.remove(0);
                }
                self.connections.push(Connection::new(stream, now + self.patience));
                true
            }
            // A client that went away before we looked is no lack of room.
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
            ),
        }
    }
}

/// Lets go of clients that keep too many different views in memory.
fn make_room(connections: &mut Vec<Connection>, most: usize) {
    let mut sheets: Vec<&Arc<Sheet>> = connections.iter().filter_map(Connection::sheet).collect();
    sheets.sort_unstable_by_key(|sheet| Arc::as_ptr(sheet));
    sheets.dedup_by_key(|sheet| Arc::as_ptr(sheet));
    let (mut count, mut bytes) = (sheets.len(), sheets.iter().map(|sheet| sheet.memory()).sum::<usize>());
    while bytes > most && count > 1 {
        let Some(oldest) = connections.iter().position(|client| client.sheet().is_some()) else { return };
        let client = connections.remove(oldest);
        let is_shared = |sheet: &Arc<Sheet>| {
            connections.iter().filter_map(Connection::sheet).any(|other| Arc::ptr_eq(other, sheet))
        };
        if let Some(sheet) = client.sheet().filter(|sheet| !is_shared(sheet)) {
            bytes -= sheet.memory();
            count -= 1;
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::Direct;
    use std::cell::RefCell;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use ebpf_process_core::testkit::{Bench, Cell};
    use ebpf_process_core::{Column, EntityKind, Ledger, Recorder, Selection, Unit};

    use super::*;
    use crate::Encoder;

    /// Far more than anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    /// A server and what it shows.
    struct Scene {
        server: Server,
        exposition: Arc<Mutex<Exposition>>,
        bench: RefCell<Bench>,
    }

    impl Scene {
        fn new(patience: Duration) -> Self {
            let exposition = Exposition::new(Encoder::new("x"), Arc::new(Ledger::default()));
            let exposition = Arc::new(Mutex::new(exposition));
            let address = "127.0.0.1:0".parse().expect("an address");
            let server = Server::start(&Direct::default(), address, "/metrics", patience, Arc::clone(&exposition))
                .expect("a server");
            Self { server, exposition, bench: RefCell::default() }
        }

        /// Shows so many rows from now on.
        fn publish(&self, rows: usize) {
            let mut bench = self.bench.borrow_mut();
            let kind = EntityKind::new("thing").keys(["n"]).limit(200_000).names_as_they_are();
            let mut cell =
                |n: usize| bench.cell(&kind, &[&n.to_string()], Column::counter("vfs.calls", Unit::CALLS, "Calls"));
            let cells: Vec<Cell> = (0..rows).map(&mut cell).collect();
            let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, 7));
            bench.tick(&Selection::default(), record, |view| self.exposition.lock().publish(*view));
        }
    }

    fn connect(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.address()).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    /// What comes until the server closes.
    fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        // A connection that was given up may end in a reset.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8(bytes).expect("text")
    }

    fn get(server: &Server, accept: &str) -> String {
        let mut stream = connect(server);
        // In two pieces, as a network may deliver it.
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").expect("a request");
        stream.write_all(format!("st: x\r\nAccept: {accept}\r\n\r\n").as_bytes()).expect("a request");
        rest(stream)
    }

    #[test]
    fn a_scrape_gets_the_page_that_was_published_last() {
        let scene = Scene::new(LIMIT);
        let server = &scene.server;
        assert!(get(server, "*/*").starts_with("HTTP/1.1 503 "), "nothing is there yet");
        scene.publish(3);
        scene.publish(1);
        let text = get(server, "*/*");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.ends_with("\nx_vfs_calls_total{n=\"0\"} 7\n"), "{body}");
        let text = get(server, "application/openmetrics-text; version=1.0.0");
        assert!(text.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{text}");
        assert!(text.ends_with("{n=\"0\"} 7\n# EOF\n"), "{text}");
    }

    #[test]
    fn who_holds_all_connections_keeps_no_scrape_out() {
        let scene = Scene::new(LIMIT);
        let server = &scene.server;
        scene.publish(1);
        let mut idle: Vec<TcpStream> = (0..3 * MOST_CONNECTIONS).map(|_| connect(server)).collect();
        for stream in &mut idle {
            // The oldest are gone already.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ");
        }
        assert!(get(server, "*/*").starts_with("HTTP/1.1 200 OK"));
        assert_eq!(rest(idle.remove(0)), "", "the oldest had to go");
    }

    #[test]
    fn who_does_not_read_a_long_page_delays_nobody() {
        let scene = Scene::new(LIMIT);
        let server = &scene.server;
        scene.publish(100_000);
        let mut lazy: Vec<TcpStream> = (0..8).map(|_| connect(server)).collect();
        for stream in &mut lazy {
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("a request");
        }
        for _ in 0..4 {
            scene.publish(1);
            assert!(get(server, "*/*").ends_with(" 7\n"));
        }
        // Each still gets the page it asked for, whole; which one depends on when it was answered.
        for stream in lazy {
            let text = rest(stream);
            assert!(text.ends_with(" 7\n") || text.ends_with(" 7\n\r\n0\r\n\r\n"));
        }
    }

    #[test]
    fn who_keeps_too_many_views_in_memory_is_hung_up_on_the_oldest_first() {
        let scene = Scene::new(LIMIT);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut clients = Vec::new();
        let mut asks = |is_whole: bool| {
            let mut client = TcpStream::connect(address).expect("a connection");
            client.write_all(b"GET / HTTP/1.1\r\n").expect("a request");
            client.write_all(if is_whole { b"\r\n" } else { b"X" }).expect("a request");
            clients.push(client);
            let mut connection = Connection::new(listener.accept().expect("a client").0, Instant::now() + LIMIT);
            while is_whole && connection.sheet().is_none() {
                connection.advance(|request| {
                    answer(request, "/", |format, wanted| scene.exposition.lock().page(format, wanted))
                });
            }
            connection
        };
        // Two are at the first view, one at nothing yet.
        let mut connections = vec![asks(false)];
        scene.publish(10_000);
        connections.extend([asks(true), asks(true)]);
        scene.publish(20_000);
        connections.push(asks(true));
        scene.publish(40_000);
        connections.push(asks(true));
        let left = |connections: &[Connection]| -> Vec<usize> {
            connections.iter().map(|it| it.sheet().map_or(0, |sheet| sheet.memory())).collect()
        };
        let sizes = left(&connections);
        let &[0, first, _, second, third] = &*sizes else { panic!("{sizes:?}") };
        assert!(10_000 * 8 < first && first < second && second < third, "{sizes:?}");
        for (most, expected) in [
            (first + second + third, &[0, first, first, second, third][..]),
            (first + second + third - 1, &[0, second, third]),
            (second + third - 1, &[0, third]),
            (1, &[0, third]),
        ] {
            make_room(&mut connections, most);
            assert_eq!(left(&connections), expected, "{most}");
        }
    }

    /// Without a last chunk, and for who knows none by a reset.
    #[test]
    fn half_a_page_is_no_whole_one() {
        let scene = Scene::new(LIMIT);
        scene.publish(200_000);
        for version in ["1.0", "1.1"] {
            let mut client = connect(&scene.server);
            client.write_all(format!("GET /metrics HTTP/{version}\r\n\r\n").as_bytes()).expect("a request");
            let mut bytes = vec![0; 1000];
            client.read_exact(&mut bytes).expect("the beginning");
            // So many others come that it has to go.
            let others: Vec<TcpStream> = (0..MOST_CONNECTIONS).map(|_| connect(&scene.server)).collect();
            let end = client.read_to_end(&mut bytes);
            assert!(end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset), "{version}");
            assert!(!bytes.ends_with(b"0\r\n\r\n"), "{version}");
            drop(others);
        }
    }

    #[test]
    fn a_client_that_takes_too_long_is_hung_up_on() {
        let scene = Scene::new(Duration::from_millis(20));
        let server = &scene.server;
        let mut stream = connect(server);
        stream.write_all(b"GET /metrics").expect("half a request");
        assert_eq!(rest(stream), "");
        assert!(!server.is_over());
    }

    #[test]
    fn a_dropped_server_leaves_the_port_to_the_next() {
        let Scene { server: first, exposition, .. } = Scene::new(LIMIT);
        let address = first.address();
        let client = connect(&first);
        let start = || Server::start(&Direct::default(), address, "/", LIMIT, Arc::clone(&exposition));
        assert!(start().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse));
        drop(first);
        assert_eq!(rest(client), "");
        assert_eq!(start().expect("the port is free").address(), address);
    }
}
