//! A loader for objects, without the type information that aya would fetch for it.

use aya::{Btf, EbpfLoader};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A loader that relocates by this type information, or by none.
///
/// [`EbpfLoader::new`] reads and parses all that the kernel has before it can be told not to: 30 MiB and some ten
/// milliseconds each time. It takes a file that cannot be opened for none, so meanwhile none can: that holds for the
/// whole process, and is therefore only done as long as it is one thread.
pub(crate) fn loader(btf: Option<&Btf>) -> EbpfLoader<'_> {
    let mut loader = {
        let _closed = NoDescriptors::while_single();
        EbpfLoader::new()
    };
    loader.btf(btf);
    loader
}

/// While it lives, this process opens nothing.
struct NoDescriptors {
    before: Rlimit,
}

impl NoDescriptors {
    /// Nothing where there are other threads, or where limits cannot be set.
    fn while_single() -> Option<Self> {
        if std::fs::read_dir("/proc/self/task").ok()?.count() != 1 {
            return None;
        }
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum }).ok()?;
        Some(Self { before })
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        // Its own limit of before is one that the process may have.
        let _ = setrlimit(Resource::Nofile, self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_others_run_nothing_is_closed_to_them() {
        let before = getrlimit(Resource::Nofile);
        std::thread::scope(|scope| {
            // Tests are threads of one process, and this is one more.
            let closed = scope.spawn(|| NoDescriptors::while_single().is_some());
            assert!(!closed.join().expect("a thread"));
        });
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}
