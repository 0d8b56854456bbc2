//! The probe `mount`.

use crate::known::{Done, Effect, Expected, Group, Metric, Need, Operation, Rows, effect, has_call, row, with};
use crate::workload::counts as n;

/// What is known of it. Its functions are the system calls' own, and the workload's calls all fail.
pub static ROWS: Rows = Rows {
    probe: "mount",
    is_default: false,
    groups: &[Group { name: "mount", operations: MOUNT }],
    expected,
    traced: &[],
    straced: &[],
};

/// Operation, counter and calls of the whole workload, in every layer; each is refused. No `open_tree_attr`: strace -c of
/// Debian 12 crashes on a call that it does not know.
const WHOLE: [(&str, &[&str], u64); 10] = [
    ("mount", &["mount.mount"], n::MOUNTS + n::INT80_MOUNTS),
    ("umount", &["mount.umount"], n::UMOUNTS + 2 * n::INT80_MOUNTS),
    ("open_tree", &["mount.open_tree"], n::OPEN_TREES + n::INT80_MOUNTS),
    ("move_mount", &["mount.move_mount"], n::MOVE_MOUNTS + n::INT80_MOUNTS),
    ("fsopen", &["mount.fsopen"], n::FSOPENS + n::INT80_MOUNTS),
    ("fsconfig", &["mount.fsconfig"], n::FSCONFIGS + n::INT80_MOUNTS),
    ("fsmount", &["mount.fsmount"], n::FSMOUNTS + n::INT80_MOUNTS),
    ("fspick", &["mount.fspick"], n::FSPICKS + n::INT80_MOUNTS),
    ("mount_setattr", &["mount.mount_setattr"], n::SETATTRS + n::INT80_MOUNTS),
    ("open_tree_attr", &["mount.open_tree_attr"], 0),
];

/// A kernel without a call has no metric of it.
fn expected(done: Done) -> Vec<Expected> {
    let all = u64::from(matches!(done, Done::Whole | Done::BeforeItsEnd));
    let known = || WHOLE.into_iter().filter(|(operation, ..)| has_call(operation));
    let of = |name, return_only| {
        known().map(move |(operation, counters, calls)| {
            let metric = Metric { name, label: Some(("operation", operation)), counters, return_only };
            Expected { metric, syscall: all * calls, kernel: all * calls }
        })
    };
    of("mount.calls", false).chain(of("mount.errors", true)).collect()
}

const fn done(operation: &'static str) -> Effect {
    effect("mount.calls", operation, 1, 1)
}

const fn failed(operation: &'static str) -> Effect {
    effect("mount.errors", operation, 1, 1)
}

const MOUNT: &[Operation] = &[
    with(Need::Mounts, row("mount", "`mount` of a tmpfs, and `umount2`", &[done("mount"), done("umount")])),
    row("mount-bad", "`mount` of what is no address", &[done("mount"), failed("mount")]),
    with(Need::Int80, row("mount-int80", "the same by `int 0x80`", &[done("mount"), failed("mount")])),
    row("umount-bad", "`umount2` with flags that do not exist", &[done("umount"), failed("umount")]),
    with(Need::Int80, row("umount2-int80", "the same by `int 0x80`", &[done("umount"), failed("umount")])),
    with(
        Need::Int80,
        row("umount-int80", "`umount` by `int 0x80`, of what is no address", &[done("umount"), failed("umount")]),
    ),
    with(Need::Call("open_tree"), row("open-tree", "`open_tree`", &[done("open_tree")])),
    with(
        Need::Call("open_tree"),
        row("open-tree-bad", "`open_tree` with flags that do not exist", &[done("open_tree"), failed("open_tree")]),
    ),
    with(
        Need::Call("move_mount"),
        row("move-mount-bad", "`move_mount` with flags that do not exist", &[done("move_mount"), failed("move_mount")]),
    ),
    with(Need::Mounts, row("fsopen", "`fsopen`", &[done("fsopen")])),
    with(
        Need::Call("fsconfig"),
        row("fsconfig-bad", "`fsconfig` of a bad descriptor", &[done("fsconfig"), failed("fsconfig")]),
    ),
    with(
        Need::Call("fsmount"),
        row("fsmount-bad", "`fsmount` with flags that do not exist", &[done("fsmount"), failed("fsmount")]),
    ),
    with(
        Need::Call("fspick"),
        row("fspick-bad", "`fspick` with flags that do not exist", &[done("fspick"), failed("fspick")]),
    ),
    with(
        Need::Call("mount_setattr"),
        row(
            "mount-setattr-bad",
            "`mount_setattr` with flags that do not exist",
            &[done("mount_setattr"), failed("mount_setattr")],
        ),
    ),
    with(
        Need::Call("open_tree_attr"),
        row(
            "open-tree-attr-bad",
            "`open_tree_attr` with flags that do not exist",
            &[done("open_tree_attr"), failed("open_tree_attr")],
        ),
    ),
];
