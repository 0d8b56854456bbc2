//! A server made by hand that takes line protocol by HTTP over a Unix socket: for a machine that has no other.

use crate::totals::Totals;
use crate::{Failure, Outcome};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

const TAKEN: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A running server. It waits for one more connection until the process ends.
#[derive(Debug)]
pub struct Lines {
    seen: Arc<Mutex<Outcome<Totals>>>,
}

impl Lines {
    /// Starts it at this path.
    ///
    /// # Errors
    /// There is no socket or no thread to be had.
    pub fn start(path: &Path) -> Outcome<Self> {
        let listener = UnixListener::bind(path).map_err(Failure::at("a Unix socket"))?;
        let seen = Arc::new(Mutex::new(Ok(Totals::default())));
        let book = Arc::clone(&seen);
        let serve = move || {
            for stream in listener.incoming().flatten() {
                // Who hangs up in the middle of a request comes again with it.
                let _ = answer(stream, &book);
            }
        };
        thread::Builder::new().name("lines".into()).spawn(serve).map_err(Failure::at("a thread"))?;
        Ok(Self { seen })
    }

    /// The totals of all lines until now.
    ///
    /// # Errors
    /// One of them is not what [`Totals::read`] takes.
    pub fn totals(&self) -> Outcome<Totals> {
        self.seen.lock().map_err(Failure::at("the server's thread"))?.clone()
    }
}

/// Takes the requests of one connection until it ends.
fn answer(stream: UnixStream, seen: &Mutex<Outcome<Totals>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader)? {
        if let Ok(mut seen) = seen.lock()
            && let Ok(totals) = &mut *seen
            && let Err(failure) = body.lines().try_for_each(|line| totals.read(line))
        {
            *seen = Err(failure);
        }
        reader.get_mut().write_all(TAKEN)?;
    }
    Ok(())
}

/// The body of the next request, if there is one.
fn request(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = String::new();
    reader.take(length.unwrap_or(0)).read_to_string(&mut body)?;
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_each_request_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = Lines::start(&path).unwrap();
        let mut stream = UnixStream::connect(path).unwrap();
        for line in ["task exits=3i 100\n", "task exits=4i 200\n"] {
            write!(stream, "POST /write HTTP/1.1\r\nContent-Length: {}\r\n\r\n{line}", line.len()).unwrap();
            let mut reply = [0; TAKEN.len()];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(reply, TAKEN);
        }
        let totals = server.totals().unwrap();
        assert_eq!((totals.get("task.exits", None), totals.batches()), (Some(4.0), 2));
    }
}
