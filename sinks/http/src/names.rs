//! The names of servers, looked up beside the sink's thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ebpf_process_delivery::{Lookup, Resolve};
use parking_lot::Mutex;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The time between two questions for a name while all is well.
const AGAIN: Duration = Duration::from_secs(300);

/// What is known of the names that connections go to: a server's, or a proxy's. A name server that is slow, or gone,
/// delays no request while an older answer serves.
pub(crate) struct Names {
    resolve: Resolve,
    /// The key of the option that has the name.
    option: &'static str,
    /// The zone of the server's IPv6 address.
    zone: Option<String>,
    lookups: Mutex<Vec<Lookup>>,
    failing: AtomicBool,
    /// Why a name could not be found last.
    problem: Mutex<String>,
}

impl Names {
    pub(crate) fn new(resolve: Resolve, option: &'static str, zone: Option<String>) -> Self {
        Self {
            resolve,
            option,
            zone,
            lookups: Mutex::default(),
            failing: AtomicBool::new(false),
            problem: Mutex::default(),
        }
    }

    /// The addresses serve.
    pub(crate) fn trust(&self) {
        self.failing.store(false, Ordering::Relaxed);
        self.lookups.lock().iter_mut().for_each(Lookup::trust);
    }

    /// They do not: they are asked for again soon.
    pub(crate) fn doubt(&self) {
        self.failing.store(true, Ordering::Relaxed);
        let now = Instant::now();
        self.lookups.lock().iter_mut().for_each(|lookup| lookup.doubt(now));
    }

    /// What was wrong with a name last, for a person.
    pub(crate) fn problem(&self) -> String {
        self.problem.lock().clone()
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let receiver = uri.scheme().zip(uri.authority());
        let receiver = receiver.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let receiver = match (receiver.ok_or(Error::HostNotFound)?, &self.zone) {
            (receiver, Some(zone)) => receiver.replacen(']', &format!("%{zone}]"), 1),
            (receiver, None) => receiver,
        };
        let now = Instant::now();
        let mut lookups = self.lookups.lock();
        let index = lookups.iter().position(|lookup| lookup.receiver() == receiver).unwrap_or_else(|| {
            lookups.push(Lookup::new(&receiver, self.option, Arc::clone(&self.resolve), AGAIN, now));
            lookups.len() - 1
        });
        let lookup = &mut lookups[index];
        // Where an older answer serves nobody waits; where it does not, there must be time left to try it once more.
        let patience = if self.failing.load(Ordering::Relaxed) { *timeout.after / 2 } else { Duration::ZERO };
        let known = lookup.addresses(now, patience).is_ok();
        match lookup.addresses(now, if known { Duration::ZERO } else { *timeout.after }) {
            Ok(addresses) => {
                let mut found = self.empty();
                for address in addresses {
                    if found.try_push(*address).is_err() {
                        break;
                    }
                }
                Ok(found)
            }
            Err(problem) => {
                *self.problem.lock() = problem;
                Err(Error::HostNotFound)
            }
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("lookups", &self.lookups).finish_non_exhaustive()
    }
}
