//! What this host is called.

use std::fmt;
use std::sync::Arc;

/// This host's name. A host may be renamed while the agent runs: ask again whenever it is needed.
#[derive(Clone)]
pub struct HostName(Arc<dyn Fn() -> String + Send + Sync>);

impl HostName {
    /// What the kernel says.
    pub fn system() -> Self {
        Self::of(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    /// What somebody else says: for tests.
    pub fn of(look: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// The name as it is now.
    pub fn now(&self) -> String {
        (self.0)()
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostName").field(&self.now()).finish()
    }
}
