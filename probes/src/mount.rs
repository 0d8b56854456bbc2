//! The probe `mount`: calls that attach file systems and detach them.
//!
//! Each call counts at its own functions, so in every tier it is seen as a program made it, what it refuses included. The
//! agent mounts nothing: it is refused for its arguments, or, where rights are looked at before these, is proven by
//! fsconfig's proof.

use ebpf_process_core::Unit;
use syscalls::x86_64::Sysno;

use crate::call::Call;
use crate::counter::{Counter, Field, Metric, Output};
use crate::hook::Layer;
use crate::kernel_probe::KernelProbe;
use crate::object::Objects;
use crate::own_functions;
use crate::release::Version;
use crate::sys::refused;
use crate::way::{Function, Way};

/// The probe type `mount`.
///
/// Linux 5.5 with type information (`CONFIG_DEBUG_INFO_BTF`), or 4.11 with kprobes. Next to what these calls do its cost
/// is not noticeable.
pub static MOUNT: KernelProbe = KernelProbe::new("mount", "calls that attach file systems and detach them")
    .off_by_default()
    .objects(
        Objects::new(crate::aligned!("../bpf/objects/x86_64/mount.core.o"), slot::SLOTS)
            .floor(crate::aligned!("../bpf/objects/x86_64/mount.floor.o"))
            .who(crate::aligned!("../bpf/objects/x86_64/mount.who.o")),
    )
    .counters(&[ATTACH, DETACH, OPEN_TREE, FSCONFIG, MOVE_MOUNT, FSOPEN, FSMOUNT, FSPICK, SETATTR, OPEN_TREE_ATTR]);

mod slot {
    crate::slots![
        MOUNT_MOUNT,
        MOUNT_UMOUNT,
        MOUNT_OPEN_TREE,
        MOUNT_MOVE_MOUNT,
        MOUNT_FSOPEN,
        MOUNT_FSCONFIG,
        MOUNT_FSMOUNT,
        MOUNT_FSPICK,
        MOUNT_SETATTR,
        MOUNT_OPEN_TREE_ATTR,
    ];
}

/// 028abd9222df "fs: remove `compat_sys_mount`"
const NO_COMPAT: (Version, &str) = (Version(5, 10), "028abd9222df");

// `__ia32_sys_mount` is there before, and not called.
const ATTACH: Counter = Counter::new("mount.mount", Layer::Syscall, |_| refused(Sysno::mount))
    .ways(&[
        Way::Functions(&[
            Function::by_registers("__x64_sys_mount", ATTACHED).until(NO_COMPAT.0, NO_COMPAT.1),
            Function::by_registers("__ia32_compat_sys_mount", ATTACHED)
                .program("__ia32_sys_mount")
                .of_32_bit_calls()
                .until(NO_COMPAT.0, NO_COMPAT.1),
        ]),
        Way::Functions(&[
            Function::by_registers("__x64_sys_mount", ATTACHED),
            Function::by_registers("__ia32_sys_mount", ATTACHED).of_32_bit_calls().since(NO_COMPAT.0, NO_COMPAT.1),
        ]),
        Way::Functions(&[
            Function::by_arguments("sys_mount", "__x64_sys_mount", ATTACHED),
            Function::by_arguments("compat_sys_mount", "__ia32_sys_mount", ATTACHED).of_32_bit_calls(),
        ]),
    ])
    .calls(&[Call::status("mount")])
    .outputs(&outputs("mount"));

const ATTACHED: &[u32] = &[slot::MOUNT_MOUNT];

// Before 4.17 no function serves: umount(2) of 32-bit programs calls umount2's, which some compilers have inlined there.
const DETACH: Counter = Counter::new("mount.umount", Layer::Syscall, |_| refused(Sysno::umount2))
    .ways(&[Way::Functions(&[
        Function::by_registers("__x64_sys_umount", DETACHED),
        Function::by_registers("__ia32_sys_umount", DETACHED).of_32_bit_calls(),
        Function::by_registers("__ia32_sys_oldumount", DETACHED).of_32_bit_calls(),
    ])])
    .calls(&[Call::status("umount2"), Call::status("umount")])
    .outputs(&outputs("umount"));

const DETACHED: &[u32] = &[slot::MOUNT_UMOUNT];

/// A call that came with this kernel, by its commit "vfs: syscall: Add ...", "fs: add ...".
macro_rules! call {
    ($name:literal, $call:ident, $slot:ident, $since:expr, $commit:literal) => {
        Counter::new(concat!("mount.", $name), Layer::Syscall, |_| refused(Sysno::$call))
            .proven_by("mount.fsconfig")
            .ways(own_functions!($name, &[slot::$slot], $since, $commit))
            .calls(&[Call::status($name)])
            .outputs(&outputs($name))
    };
}

const OPEN_TREE: Counter = call!("open_tree", open_tree, MOUNT_OPEN_TREE, Version(5, 2), "a07b20004793");
const FSCONFIG: Counter = call!("fsconfig", fsconfig, MOUNT_FSCONFIG, Version(5, 2), "ecdab150fddb");
const MOVE_MOUNT: Counter = call!("move_mount", move_mount, MOUNT_MOVE_MOUNT, Version(5, 2), "2db154b3ea8e");
const FSOPEN: Counter = call!("fsopen", fsopen, MOUNT_FSOPEN, Version(5, 2), "24dcb3d90a1f");
const FSMOUNT: Counter = call!("fsmount", fsmount, MOUNT_FSMOUNT, Version(5, 2), "93766fbd2696");
const FSPICK: Counter = call!("fspick", fspick, MOUNT_FSPICK, Version(5, 2), "cf3cba4a429b");
const SETATTR: Counter = call!("mount_setattr", mount_setattr, MOUNT_SETATTR, Version(5, 12), "2a1867219c7b");
const OPEN_TREE_ATTR: Counter =
    call!("open_tree_attr", open_tree_attr, MOUNT_OPEN_TREE_ATTR, Version(6, 15), "c4a16820d901");

static CALLS: Metric =
    Metric::new("mount.calls", Unit::CALLS, "Calls that attach file systems and detach them", "operation");
static ERRORS: Metric =
    Metric::new("mount.errors", Unit::CALLS, "Calls to attach file systems and detach them that failed", "operation");

const fn outputs(operation: &'static str) -> [Output; 2] {
    [Output::new(&CALLS, operation, Field::Calls), Output::new(&ERRORS, operation, Field::Errors)]
}
