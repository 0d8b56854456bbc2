//! A server that does what a test says, request by request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;

/// What every wait in these tests may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const TAKEN: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// What arrived: the number of the connection, the head and the lines of a request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) lines: Vec<String>,
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers.
    Reply(String),
    /// Answers byte by byte, each after so long.
    Drip(String, Duration),
    /// Sends this and resets the connection.
    Reset(String),
    /// Sends this, then nothing more, but keeps reading.
    HalfClose(String),
    /// Does nothing as long as the client holds on.
    Hang,
}

/// A reply with a body.
pub(crate) fn reply(status: &str, body: &str) -> Act {
    reply_with(status, "", body)
}

/// A reply with a header, ended by a line break, and a body.
pub(crate) fn reply_with(status: &str, header: &str, body: &str) -> Act {
    Act::Reply(format!("HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\n\r\n{body}", body.len()))
}

/// A server on loopback; after its acts it takes everything.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Receiver<Request>,
}

impl Server {
    pub(crate) fn start(acts: Vec<Act>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), acts)
    }

    pub(crate) fn on(listener: TcpListener, acts: Vec<Act>) -> Self {
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = serve(move || listener.accept().map(|(stream, _)| stream), acts);
        Self { url, requests }
    }

    pub(crate) fn on_socket(path: &Path, acts: Vec<Act>) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let url = format!("unix://{}", path.display());
        Self { url, requests: serve(move || listener.accept().map(|(stream, _)| stream), acts) }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// The next request.
    pub(crate) fn request(&self) -> Request {
        match self.requests.recv_timeout(LIMIT) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!("no request came"),
        }
    }
}

/// A connection of either kind, or an encrypted one.
pub(crate) trait Connection: Read + Write + Send + 'static {
    fn end(&mut self);
    /// Ends it so that the other side notices.
    fn reset(&mut self);
}

impl Connection for TcpStream {
    fn end(&mut self) {
        let _ = TcpStream::shutdown(self, Shutdown::Write);
    }

    fn reset(&mut self) {
        rustix::net::sockopt::set_socket_linger(&*self, Some(Duration::ZERO)).expect("an option");
    }
}

impl Connection for UnixStream {
    fn end(&mut self) {
        let _ = UnixStream::shutdown(self, Shutdown::Write);
    }

    fn reset(&mut self) {}
}

/// Serves every connection on a thread of its own; all of them share the acts, and after those everything is taken.
pub(crate) fn serve<C: Connection>(
    accept: impl FnMut() -> io::Result<C> + Send + 'static,
    acts: Vec<Act>,
) -> Receiver<Request> {
    let acts = Mutex::new(acts.into_iter());
    serve_as(accept, move |_| acts.lock().expect("the acts").next().unwrap_or_else(|| Act::Reply(TAKEN.to_owned())))
}

/// Serves every connection on a thread of its own; what is done with a request `decide` says, which sees it first.
pub(crate) fn serve_as<C: Connection>(
    mut accept: impl FnMut() -> io::Result<C> + Send + 'static,
    decide: impl Fn(&Request) -> Act + Send + Sync + 'static,
) -> Receiver<Request> {
    let (sender, requests) = channel();
    let decide = Arc::new(decide);
    let run = move || {
        let mut connection = 0;
        while let Ok(stream) = accept() {
            let (decide, sender) = (Arc::clone(&decide), sender.clone());
            let answer = move || answer(stream, connection, &*decide, &sender);
            std::thread::Builder::new().spawn(answer).expect("a thread");
            connection += 1;
        }
    };
    std::thread::Builder::new().spawn(run).expect("a thread");
    requests
}

/// Answers on one connection until it ends.
fn answer<C: Connection>(stream: C, connection: usize, decide: impl Fn(&Request) -> Act, requests: &Sender<Request>) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = read_request(&mut reader) {
        let body = if head.to_lowercase().contains("content-encoding: gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
            plain
        } else {
            body
        };
        let lines = String::from_utf8(body).expect("text").lines().map(str::to_owned).collect();
        let request = Request { connection, head, lines };
        let act = decide(&request);
        // Nobody may be listening any more.
        let _ = requests.send(request);
        let stream = reader.get_mut();
        let sent = match act {
            Act::Reply(text) => stream.write_all(text.as_bytes()).map(|()| !text.contains("Connection: close")),
            Act::Drip(text, pause) => drip(stream, &text, pause),
            Act::Reset(text) => {
                let sent = stream.write_all(text.as_bytes());
                stream.reset();
                sent.map(|()| false)
            }
            Act::HalfClose(text) => {
                let sent = stream.write_all(text.as_bytes());
                stream.end();
                sent.map(|()| true)
            }
            Act::Hang => Ok(true),
        };
        if !sent.unwrap_or(false) {
            return;
        }
    }
}

fn drip(stream: &mut impl Write, text: &str, pause: Duration) -> io::Result<bool> {
    // Nothing is ever sent on it: a pause without a sleep.
    let (_keep, never) = channel::<()>();
    for byte in text.bytes() {
        stream.write_all(&[byte])?;
        let _ = never.recv_timeout(pause);
    }
    Ok(true)
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
