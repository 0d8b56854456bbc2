//! A server made by hand from the published rules of `DogStatsD` and of Telegraf, neither of which is in a registry. It
//! refuses what the rules do not have, and adds up counters.

use crate::expect::Metric;
use crate::{Failure, Outcome};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// `name:value|type|#key:value,...`; over a Unix stream each packet has four bytes of length before it.
    Dogstatsd,
    /// `name,key=value,...:value|type`.
    Telegraf,
}

/// How it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
    /// Datagrams to a path.
    Unixgram,
    /// A connection to a path.
    Unix,
}

/// A running server.
#[derive(Debug)]
pub struct ByRules {
    address: String,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

/// What came until now: sums, or the first thing that is against the rules.
type Seen = Outcome<BTreeMap<String, f64>>;

/// Takes in what comes, for a moment or for a connection.
type Reader = Box<dyn FnMut(&mut Intake) + Send>;

/// How long a stop may go unnoticed.
const GLANCE: Duration = Duration::from_millis(50);

impl ByRules {
    /// Starts it.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn start(rules: Rules, way: Way) -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let path = folder.path().join("socket");
        let socket = Failure::at::<std::io::Error>;
        let (address, mut read): (String, Reader) = match way {
            Way::Udp => {
                let udp = UdpSocket::bind("127.0.0.1:0").map_err(socket("a UDP socket"))?;
                udp.set_read_timeout(Some(GLANCE)).map_err(socket("its time limit"))?;
                let address = udp.local_addr().map_err(socket("its address"))?;
                (format!("udp://{address}"), Box::new(move |intake| intake.datagram(|buffer| udp.recv(buffer))))
            }
            Way::Unixgram => {
                let unixgram = UnixDatagram::bind(&path).map_err(socket("a Unix socket"))?;
                unixgram.set_read_timeout(Some(GLANCE)).map_err(socket("its time limit"))?;
                let receive = move |intake: &mut Intake| intake.datagram(|buffer| unixgram.recv(buffer));
                (format!("unixgram://{}", path.display()), Box::new(receive))
            }
            Way::Tcp => {
                let tcp = TcpListener::bind("127.0.0.1:0").map_err(socket("a TCP socket"))?;
                tcp.set_nonblocking(true).map_err(socket("its mode"))?;
                let address = tcp.local_addr().map_err(socket("its address"))?;
                let accept = move || {
                    let (stream, _) = tcp.accept()?;
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(GLANCE))?;
                    Ok(stream)
                };
                (format!("tcp://{address}"), Box::new(move |intake| intake.connection(accept(), false)))
            }
            Way::Unix => {
                let unix = UnixListener::bind(&path).map_err(socket("a Unix socket"))?;
                unix.set_nonblocking(true).map_err(socket("its mode"))?;
                let accept = move || {
                    let (stream, _) = unix.accept()?;
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(GLANCE))?;
                    Ok(stream)
                };
                let has_lengths = rules == Rules::Dogstatsd;
                let read = move |intake: &mut Intake| intake.connection(accept(), has_lengths);
                (format!("unix://{}", path.display()), Box::new(read))
            }
        };
        let seen = Arc::new(Mutex::new(Ok(BTreeMap::new())));
        let stop = Arc::new(AtomicBool::new(false));
        let mut intake = Intake { rules, seen: Arc::clone(&seen), stop: Arc::clone(&stop), buffer: vec![0; 65_536] };
        let serve = move || {
            while !intake.is_over() {
                read(&mut intake);
            }
        };
        let thread = thread::Builder::new().name("by-rules".into()).spawn(serve).map_err(socket("a thread"))?;
        Ok(Self { address, seen, stop, thread: Some(thread), _folder: folder })
    }

    /// Its address, for a sink's `address`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What every counter came to, by `name{key=value,...}` with the keys in order.
    ///
    /// # Errors
    /// Something came that is against the rules.
    pub fn counters(&self) -> Outcome<BTreeMap<String, f64>> {
        self.seen.lock().map_err(Failure::at("the server's thread"))?.clone()
    }
}

impl Drop for ByRules {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been told already.
            let _ = thread.join();
        }
    }
}

/// What it calls a metric of an agent.
pub fn name(metric: &Metric) -> String {
    let tags = metric.label.map(|(key, value)| format!("{{{key}={value}}}")).unwrap_or_default();
    format!("ebpf_process.{}{tags}", metric.name)
}

struct Intake {
    rules: Rules,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    buffer: Vec<u8>,
}

impl Intake {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn datagram(&mut self, receive: impl FnOnce(&mut [u8]) -> std::io::Result<usize>) {
        if let Ok(length) = receive(&mut self.buffer) {
            let packet = self.buffer[..length].to_vec();
            self.packet(&packet);
        }
    }

    /// Reads a connection to its end.
    fn connection(&mut self, accepted: std::io::Result<impl Read>, has_lengths: bool) {
        let Ok(mut stream) = accepted else {
            thread::park_timeout(GLANCE);
            return;
        };
        let mut bytes = Vec::new();
        while !self.is_over() {
            match stream.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&self.buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            while let Some(packet) = take_packet(&mut bytes, has_lengths) {
                self.packet(&packet);
            }
        }
    }

    fn packet(&self, packet: &[u8]) {
        let Ok(mut seen) = self.seen.lock() else { return };
        let text = String::from_utf8_lossy(packet);
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let Ok(sums) = &mut *seen else { return };
            match read(self.rules, line) {
                Some((name, Some(count))) => *sums.entry(name).or_default() += count,
                Some((_, None)) => {}
                None => *seen = Err(Failure::new(format!("against the rules: {line:?}"))),
            }
        }
    }
}

/// A whole packet, or a whole line, off the front.
fn take_packet(bytes: &mut Vec<u8>, has_lengths: bool) -> Option<Vec<u8>> {
    let (start, end) = if has_lengths {
        let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        (4, 4 + usize::try_from(length).ok()?)
    } else {
        (0, bytes.iter().position(|byte| *byte == b'\n')? + 1)
    };
    let packet = bytes.get(start..end)?.to_vec();
    bytes.drain(..end);
    Some(packet)
}

/// A line's name with its tags, and its number if it is a counter.
fn read(rules: Rules, line: &str) -> Option<(String, Option<f64>)> {
    let (head, rest) = line.split_once(':')?;
    let mut fields = rest.split('|');
    let (number, kind) = (fields.next()?.parse::<f64>().ok()?, fields.next()?);
    let (name, written, assign) = match rules {
        Rules::Dogstatsd => {
            let tags = fields.next().map(|field| field.strip_prefix('#'));
            (head, if let Some(tags) = tags { Some(tags?) } else { None }, ':')
        }
        Rules::Telegraf => head.split_once(',').map_or((head, None, '='), |(name, tags)| (name, Some(tags), '=')),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 200;
    let is_name = starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if fields.next().is_some() || !is_name {
        return None;
    }
    let mut tags = BTreeMap::new();
    for tag in written.into_iter().flat_map(|tags| tags.split(',')) {
        let (key, value) = tag.split_once(assign)?;
        if key.is_empty() || value.is_empty() || tags.insert(key, value).is_some() {
            return None;
        }
    }
    let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let name = if tags.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", tags.join(",")) };
    match kind {
        "c" => Some((name, Some(number))),
        "g" => Some((name, None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_by_the_rules_or_not_at_all() {
        let dogstatsd = |line| read(Rules::Dogstatsd, line);
        assert_eq!(dogstatsd("a.b:5|c|#y:2,x:1"), Some(("a.b{x=1,y=2}".into(), Some(5.0))));
        assert_eq!(dogstatsd("a.b:-5.5|g"), Some(("a.b".into(), None)));
        for wrong in ["a.b:5|c|x:1", "a.b:5|c|#x", "a.b:5|z", "a.b:|c", "a-b:5|c", "1a:5|c", "a:5|c|#x:1,x:2", "a"] {
            assert_eq!(dogstatsd(wrong), None, "{wrong}");
        }
        let telegraf = |line| read(Rules::Telegraf, line);
        assert_eq!(telegraf("a.b,y=2,x=1:5|c"), Some(("a.b{x=1,y=2}".into(), Some(5.0))));
        assert_eq!(telegraf("a.b,x:5|c"), None);
        assert_eq!(telegraf("a.b:5|c|#x:1"), None);
    }

    #[test]
    fn packets_come_off_a_stream_whole() {
        let mut bytes = b"\x05\0\0\0a:1|c\x06\0\0\0".to_vec();
        assert_eq!(take_packet(&mut bytes, true).as_deref(), Some(&b"a:1|c"[..]));
        assert_eq!(take_packet(&mut bytes, true), None);
        let mut bytes = b"a:1|c\nb".to_vec();
        assert_eq!(take_packet(&mut bytes, false).as_deref(), Some(&b"a:1|c\n"[..]));
        assert_eq!(take_packet(&mut bytes, false), None);
    }
}
