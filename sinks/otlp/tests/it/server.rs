//! A receiver that answers as a test says, request by request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;

use crate::reader::{self, Point};

/// What every wait in these tests may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What a receiver says that took everything.
pub(crate) const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What arrived: the head of a request in lower case, whether its body was compressed, and the data points.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) compressed: bool,
    pub(crate) points: Vec<Point>,
}

/// An answer: its number, headers that end with a line break, and a body.
pub(crate) fn reply(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A receiver on loopback; after its answers it takes everything.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Receiver<Request>,
}

impl Server {
    pub(crate) fn start(answers: Vec<Vec<u8>>) -> Self {
        let answers = Mutex::new(answers.into_iter());
        Self::deciding(move |_| Some(answers.lock().expect("the answers").next().unwrap_or_else(|| TAKEN.to_vec())))
    }

    /// One that answers what `decide` says, which sees the request first, and closes the connection where that is nothing.
    pub(crate) fn deciding(decide: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1/metrics", listener.local_addr().expect("an address"));
        let (sender, requests) = channel();
        let decide = Arc::new(decide);
        let run = move || {
            while let Ok((stream, _)) = listener.accept() {
                let (decide, sender) = (Arc::clone(&decide), sender.clone());
                std::thread::Builder::new().spawn(move || serve(stream, &*decide, &sender)).expect("a thread");
            }
        };
        std::thread::Builder::new().spawn(run).expect("a thread");
        Self { url, requests }
    }

    /// The next request.
    pub(crate) fn request(&self) -> Request {
        self.requests.recv_timeout(LIMIT).expect("a request")
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

/// Answers on one connection until it ends.
fn serve(stream: TcpStream, decide: impl Fn(&Request) -> Option<Vec<u8>>, requests: &Sender<Request>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).is_ok_and(|read| read > 0) {
                continue;
            }
            return;
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let compressed = head.contains("content-encoding: gzip");
        if compressed {
            let packed = std::mem::take(&mut body);
            GzDecoder::new(&packed[..]).read_to_end(&mut body).expect("gzip");
        }
        let points = reader::read(&body).expect("a request");
        let request = Request { head, compressed, points };
        let answer = decide(&request);
        // Nobody may be listening any more.
        let _ = requests.send(request);
        let Some(answer) = answer else { return };
        if reader.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}
