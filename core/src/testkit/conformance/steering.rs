//! A receiver of a test asks how it is to behave.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::run::Peer;

/// A request comes by then. Only a failure uses it up.
const LIMIT: Duration = Duration::from_secs(60 * 2);

/// What stands between the kit and a receiver that it can tell how to behave. Clones are the same one.
///
/// The receiver [asks](Self::ask) for each request what to do with it. Every behaviour lasts until a request has met it.
#[derive(Clone, Debug, Default)]
pub struct Steering(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct State {
    peer: Peer,
    /// Whether a request has met it.
    met: bool,
}

impl Default for State {
    fn default() -> Self {
        Self { peer: Peer::Well, met: true }
    }
}

impl Steering {
    /// How to behave towards the request that has come.
    pub fn ask(&self) -> Peer {
        let (state, turn) = &*self.0;
        let mut state = state.lock();
        state.met = true;
        turn.notify_all();
        state.peer
    }

    /// For [`Kit::peer`](super::Kit::peer). It is an error where within two minutes no request has met what the receiver
    /// was told last.
    pub fn steer(&self) -> impl FnMut(Peer) -> Result<(), String> + Send + use<> {
        let this = self.clone();
        move |peer| {
            let (state, turn) = &*this.0;
            let mut state = state.lock();
            let waited = turn.wait_while_for(&mut state, |state| !state.met, LIMIT);
            if waited.timed_out() {
                return Err(format!("nothing has come to the receiver while it was {}", state.peer.word()));
            }
            *state = State { peer, met: peer == Peer::Well };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_behaviour_lasts_until_a_request_has_met_it() {
        let steering = Steering::default();
        let mut steer = steering.steer();
        assert_eq!(steering.ask(), Peer::Well);
        assert_eq!(steer(Peer::Slow), Ok(()));
        std::thread::scope(|scope| {
            let told = std::thread::Builder::new().spawn_scoped(scope, || steer(Peer::Well)).expect("a thread");
            // It is told something else only then.
            assert_eq!(steering.ask(), Peer::Slow);
            assert_eq!(told.join().expect("no panic"), Ok(()));
        });
        assert_eq!(steering.ask(), Peer::Well);
    }
}
