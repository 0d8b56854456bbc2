//! What the service manager that started this process hears from it: that it is ready, how it fares, and that it still
//! counts.
//!
//! The protocol is that of `sd_notify(3)`: datagrams to the socket that `NOTIFY_SOCKET` names. Without that variable
//! nothing is started and nothing is sent.

mod fares;
mod manager;
mod watch;

use std::ffi::OsString;
use std::sync::OnceLock;

use tracing::warn;

use self::manager::Manager;
pub(crate) use self::watch::{Watch, Watched};

/// A process has one service manager, as it has one log.
static MANAGER: OnceLock<Manager> = OnceLock::new();

/// Finds the service manager by the environment; a process that is `elevated` has none. Only the first call has an
/// effect.
pub(crate) fn meet(elevated: bool) {
    match Manager::of_environment(|name| variable(name, elevated), std::process::id()) {
        Ok(Some(manager)) => drop(MANAGER.set(manager)),
        Ok(None) => {}
        Err(error) => warn!("the service manager is told nothing: NOTIFY_SOCKET: {error}; unset it, or correct it"),
    }
}

/// A variable of the environment. Whoever starts a program with more rights than its own chooses its environment: then
/// there is none.
fn variable(name: &str, elevated: bool) -> Option<OsString> {
    if elevated { None } else { std::env::var_os(name) }
}

/// Says that the configuration is being read again. Until [`reloaded`] the service manager waits.
pub(crate) fn reloading() {
    if let Some(manager) = MANAGER.get() {
        manager.reloading();
    }
}

/// Says that what was being read again is in force, or stays what it was, and with `line` which of the two: the protocol
/// has no reload that fails.
pub(crate) fn reloaded(line: &str) {
    if let Some(manager) = MANAGER.get() {
        manager.reloaded(line);
    }
}

/// Says that the end has begun.
pub(crate) fn stopping() {
    if let Some(manager) = MANAGER.get() {
        manager.stopping();
    }
}

/// Starts to tell the service manager how an agent fares, if there is one: that it is ready at its first good batch, a
/// line for people as it changes, and that it is alive for as long as its collecting thread gets on.
pub(crate) fn watch(watched: Watched) -> Option<Watch> {
    let manager = MANAGER.get()?;
    let started = Watch::start(manager, watched);
    started.inspect_err(|error| warn!("the service manager is told nothing: cannot start a thread: {error}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_more_rights_than_its_caller_it_tells_nobody_whom_the_caller_names() {
        // Cargo sets it: it stands for any variable.
        assert!(variable("CARGO_MANIFEST_DIR", false).is_some());
        assert!(variable("CARGO_MANIFEST_DIR", true).is_none());
        let found = Manager::of_environment(|_| variable("CARGO_MANIFEST_DIR", true), 7);
        assert!(found.expect("nothing is named").is_none());
    }
}
