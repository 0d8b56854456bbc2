//! The addresses behind a name, asked for beside the sink's thread.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// A name that gave no answer, or whose addresses do not serve, is asked for again after a pause that
/// doubles from this...
const SOON: Duration = Duration::from_millis(100);
/// ...to this.
const RARELY: Duration = Duration::from_secs(30);

/// Finds the addresses of `HOST:PORT`; may take as long as it likes.
pub type Resolve = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// A receiver's name, and what is known of its addresses.
///
/// The name server is asked by a thread of its own, of which there is one at most: whoever is slow
/// to answer delays no packet while an older answer is known.
pub struct Lookup {
    receiver: String,
    /// The key of the option that names the receiver.
    option: &'static str,
    resolve: Resolve,
    /// The time between two questions while all is well.
    every: Duration,
    addresses: Vec<SocketAddr>,
    /// A question under way.
    answer: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
    /// When to ask again; never for what is an address already.
    due: Option<Instant>,
    /// Whether `due` has been brought forward since the last answer.
    doubted: bool,
    backoff: Backoff,
    problem: String,
}

impl Lookup {
    /// Knows nothing yet, unless `receiver` (`HOST:PORT`) is an address already. `option` is the key
    /// that it was given under; while all is well it is asked for again after `every`.
    pub fn new(receiver: &str, option: &'static str, resolve: Resolve, every: Duration, now: Instant) -> Self {
        let address = receiver.parse().ok();
        Self {
            receiver: receiver.to_owned(),
            option,
            resolve,
            every,
            addresses: address.into_iter().collect(),
            answer: None,
            due: address.is_none().then_some(now),
            doubted: false,
            backoff: Backoff::new(SOON, RARELY),
            problem: String::new(),
        }
    }

    /// What the system knows of names, and of the zones of IPv6 addresses (`[fe80::1%eth0]:8125`).
    pub fn system() -> Resolve {
        Arc::new(|receiver| {
            let Some((host, port)) =
                receiver.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)))
            else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not HOST:PORT"));
            };
            // The system knows no brackets.
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let found: (&str, u16) = (host, port);
            match (found.to_socket_addrs(), host.split_once('%')) {
                (Ok(addresses), _) => Ok(addresses.collect()),
                (Err(_), Some((_, zone))) => Err(io::Error::other(format!("this host has no interface {zone}"))),
                (Err(error), None) => Err(error),
            }
        })
    }

    /// The name, as it was given.
    pub fn receiver(&self) -> &str {
        &self.receiver
    }

    /// The key of the option that names the receiver.
    pub(crate) const fn option(&self) -> &'static str {
        self.option
    }

    /// What was found last, without asking.
    pub(crate) fn known(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The addresses, never none. Asks again when that is due and waits for an answer no longer than
    /// `patience`; without one the last answer stays good. The error is for a person.
    pub fn addresses(&mut self, now: Instant, patience: Duration) -> Result<&[SocketAddr], String> {
        if self.answer.is_none() && self.due.is_some_and(|due| due <= now) {
            match self.ask() {
                Ok(answer) => self.answer = Some(answer),
                Err(error) => self.fail(now, &error.to_string()),
            }
        }
        if let Some(answer) = &self.answer {
            match answer.recv_timeout(patience) {
                Ok(Ok(addresses)) if !addresses.is_empty() => {
                    self.addresses = addresses;
                    self.end_question(now + self.every);
                }
                Ok(Ok(_)) => self.fail(now, "it has no address"),
                Ok(Err(error)) => self.fail(now, &error.to_string()),
                Err(RecvTimeoutError::Timeout) => self.explain("no answer yet"),
                Err(RecvTimeoutError::Disconnected) => self.fail(now, "the question was given up"),
            }
        }
        if self.addresses.is_empty() { Err(self.problem.clone()) } else { Ok(&self.addresses) }
    }

    /// The addresses do not serve: asks again soon, and less and less soon as long as that goes on.
    pub fn doubt(&mut self, now: Instant) {
        if let Some(due) = self.due.as_mut().filter(|_| !self.doubted) {
            self.doubted = true;
            *due = (*due).min(now + self.backoff.failed(None));
        }
    }

    /// The addresses serve.
    pub const fn trust(&mut self) {
        self.backoff.succeeded();
    }

    fn ask(&self) -> io::Result<Receiver<io::Result<Vec<SocketAddr>>>> {
        let (sender, answer) = sync_channel(1);
        let (resolve, receiver) = (Arc::clone(&self.resolve), self.receiver.clone());
        let ask = move || {
            // Nobody waits any more: the sink has ended.
            let _ = sender.send(resolve(&receiver));
        };
        thread::Builder::new().name("resolver".to_owned()).spawn(ask)?;
        Ok(answer)
    }

    fn fail(&mut self, now: Instant, problem: &str) {
        self.explain(problem);
        let pause = self.backoff.failed(None);
        self.end_question(now + pause);
    }

    fn end_question(&mut self, due: Instant) {
        self.answer = None;
        self.due = Some(due);
        self.doubted = false;
    }

    fn explain(&mut self, problem: &str) {
        self.problem = format!(
            "cannot resolve {}: {problem}; check the option {} and the name server, or write the IP address itself",
            self.receiver, self.option
        );
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("receiver", &self.receiver)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    const EVERY: Duration = Duration::from_secs(60 * 5);
    const LONG: Duration = Duration::from_secs(30);

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_name_is_asked_for_again_when_it_is_time_and_not_before() {
        let port = Arc::new(AtomicU16::new(1));
        let moves = Arc::clone(&port);
        let now = Instant::now();
        let mut lookup =
            Lookup::new("h:1", "address", Arc::new(move |_| Ok(vec![at(moves.load(Ordering::SeqCst))])), EVERY, now);
        assert_eq!(lookup.addresses(now, LONG), Ok(&[at(1)][..]));
        port.store(2, Ordering::SeqCst);
        assert_eq!(lookup.addresses(now + EVERY / 2, LONG), Ok(&[at(1)][..]));
        assert_eq!(lookup.addresses(now + EVERY, LONG), Ok(&[at(2)][..]));
        port.store(3, Ordering::SeqCst);
        lookup.doubt(now + EVERY);
        assert_eq!(lookup.addresses(now + EVERY + LONG, LONG), Ok(&[at(3)][..]));
    }

    #[test]
    fn a_name_server_that_hangs_is_asked_once_and_the_last_answer_stays_good() {
        let (let_go, hanging) = channel::<()>();
        let hanging = std::sync::Mutex::new(hanging);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let resolve: Resolve = Arc::new(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) > 0 {
                let _ = hanging.lock().expect("a lock").recv();
                return Ok(vec![at(2)]);
            }
            Ok(vec![at(1)])
        });
        let now = Instant::now();
        let mut lookup = Lookup::new("h:1", "address", resolve, EVERY, now);
        assert_eq!(lookup.addresses(now, LONG), Ok(&[at(1)][..]));
        for minute in 5..60 {
            let later = now + Duration::from_secs(60 * minute);
            assert_eq!(lookup.addresses(later, Duration::ZERO), Ok(&[at(1)][..]));
        }
        drop(let_go);
        assert_eq!(lookup.addresses(now + Duration::from_secs(60 * 60), LONG), Ok(&[at(2)][..]));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_name_that_does_not_resolve_says_so_with_a_way_out() {
        for resolve in [Arc::new(|_: &str| Err(io::ErrorKind::NotFound.into())) as Resolve, Arc::new(|_| Ok(vec![]))] {
            let now = Instant::now();
            let mut lookup = Lookup::new("no-such-host:1", "address", resolve, EVERY, now);
            let problem = lookup.addresses(now, LONG).expect_err("no address");
            assert!(problem.contains("no-such-host:1") && problem.contains("address"), "{problem}");
        }
    }

    #[test]
    fn an_ipv6_zone_may_be_a_name() {
        let resolve = Lookup::system();
        let found = resolve("[fe80::1%lo]:8125").expect("every host has this interface");
        assert_eq!(found, ["[fe80::1%1]:8125".parse().expect("an address")]);
        let error = resolve("[fe80::1%no-such0]:8125").expect_err("no such interface");
        assert!(error.to_string().contains("no interface no-such0"), "{error}");
    }

    #[test]
    fn an_address_is_never_asked_for() {
        let resolve: Resolve = Arc::new(|_| panic!("an address was asked for"));
        let now = Instant::now();
        let mut lookup = Lookup::new("[::1]:8125", "address", resolve, Duration::ZERO, now);
        lookup.doubt(now);
        let address = "[::1]:8125".parse().expect("an address");
        assert_eq!(lookup.addresses(now + LONG, LONG), Ok(&[address][..]));
    }

    #[test]
    fn what_fails_is_asked_for_again_soon_and_what_serves_later() {
        let now = Instant::now();
        let wait_after = |failures| {
            let mut backoff = Backoff::new(SOON, RARELY);
            (0..failures).for_each(|_| {
                backoff.failed(None);
            });
            backoff.reseed(7);
            backoff.failed(None)
        };
        let up_to = |lookup: &Lookup| lookup.due.expect("a name").checked_duration_since(now).expect("not before");
        let resolve: Resolve = Arc::new(|_| Err(io::ErrorKind::NotFound.into()));
        let mut lookup = Lookup::new("h:1", "address", resolve, EVERY, now);
        lookup.backoff.reseed(7);
        assert!(lookup.addresses(now, LONG).is_err());
        assert_eq!(up_to(&lookup), wait_after(0));

        let mut lookup = Lookup::new("h:1", "address", Arc::new(|_| Ok(vec![at(1)])), EVERY, now);
        for doubts in 0..3 {
            assert!(lookup.addresses(now + doubts * EVERY, LONG).is_ok());
            lookup.due = Some(now + EVERY);
            lookup.backoff.reseed(7);
            lookup.doubt(now);
            assert_eq!(up_to(&lookup), wait_after(doubts), "less and less soon");
            lookup.due = Some(now);
        }
        lookup.trust();
        assert!(lookup.addresses(now, LONG).is_ok());
        lookup.backoff.reseed(7);
        lookup.doubt(now);
        assert_eq!(up_to(&lookup), wait_after(0));
        assert_eq!((lookup.receiver(), lookup.option()), ("h:1", "address"));
    }
}
