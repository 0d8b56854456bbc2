//! Rows of control groups with all that is below them.

use std::borrow::Cow;

use ebpf_process_core::{Recorder, Refused, RowId};

use super::{Kind, Labels};
use crate::who::abi::Doer;
use crate::who::groups;
use crate::who::inbox::Source;

/// Groups that are further below have no rows, and count in those above them: whoever makes groups in groups without end
/// does not make each event cost as much.
pub(super) const LEVELS: usize = 32;

const ROOT: &str = "/";

impl Kind {
    /// The rows of a doer's group and of each group above it, the uppermost first. In place of those that have no room
    /// it is `other`, once.
    pub(super) fn rows_above(
        &mut self,
        source: Source,
        doer: &Doer,
        calls: u64,
        rows: &mut Vec<RowId>,
        recorder: &mut Recorder,
    ) -> Result<(), Refused> {
        let (process, cgroup) = match doer {
            // Wherever it was, it was below the root.
            Doer::Other => {
                rows.extend(self.root(calls, recorder)?);
                rows.push(recorder.other(self.id)?);
                return Ok(());
            }
            Doer::Kernel { cgroup } => (self.key.named(*cgroup, super::KERNEL), *cgroup),
            Doer::Process { tgid, started, cgroup, .. } => (self.key.process(*tgid, *started), *cgroup),
        };
        rows.extend(self.root(calls, recorder)?);
        let path = groups::with(|groups| groups.path(cgroup, self.now));
        let mut deepest = self.key.named(0, ROOT);
        for path in below_root(&path).take(LEVELS) {
            let row = self.key.named(0, path);
            let labels = Labels::App(Cow::Borrowed(path));
            let Some(id) = self.placed(row, Some(deepest), &labels, calls, recorder)? else {
                rows.push(recorder.other(self.id)?);
                break;
            };
            rows.push(id);
            deepest = row;
        }
        self.join(source, process, deepest);
        Ok(())
    }

    /// The row of all: it has a place before any other, and never ends.
    pub(super) fn root(&mut self, calls: u64, recorder: &mut Recorder) -> Result<Option<RowId>, Refused> {
        let row = self.key.named(0, ROOT);
        let is_new = !self.rows.contains_key(&row);
        let id = self.placed(row, None, &Labels::App(Cow::Borrowed(ROOT)), calls, recorder)?;
        if let Some(root) = self.rows.get_mut(&row).filter(|_| is_new) {
            // The host is in it.
            root.enter();
        }
        Ok(id)
    }
}

/// A group's path after those of the groups that it is in. One that is known by a number alone is right below the root.
fn below_root(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    slashes.chain([path.len()]).map(|end| &path[..end]).filter(|path| *path != ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_each_of_those_above_it() {
        let above = |path| below_root(path).collect::<Vec<_>>();
        assert_eq!(above("/"), [""; 0]);
        assert_eq!(above("/a"), ["/a"]);
        assert_eq!(above("/a.slice/b c/d"), ["/a.slice", "/a.slice/b c", "/a.slice/b c/d"]);
        assert_eq!(above("unknown:7"), ["unknown:7"]);
        // The kernel writes neither.
        assert_eq!((above(""), above("/a//b")), (vec![""], vec!["/a", "/a/", "/a//b"]));
    }
}
