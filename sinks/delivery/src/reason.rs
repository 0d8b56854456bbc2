//! Why samples are dropped or rejected here.

pub(crate) const MEMORY: &str = "memory full";
pub(crate) const SPOOL: &str = "spool full";
pub(crate) const DAMAGE: &str = "spool damaged";
pub(crate) const TICKET: &str = "the ticket was dropped";
pub(crate) const AGE: &str = "older than age_limit";
pub(crate) const STOPPED: &str = "agent stopped";
pub(crate) const TOO_LARGE: &str = "too large for the receiver";
