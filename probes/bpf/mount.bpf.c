/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Calls that attach file systems and detach them, at their own functions: src/mount.rs.
 */
#define BY_WHOM
#include <probe.h>

enum slot {
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
	SLOTS,
};

license;
totals_map(SLOTS);

/* 32-bit programs came to __ia32_compat_sys_mount before 028abd9222df ("fs: remove compat_sys_mount"), 5.10, and to
 * compat_sys_mount before 4.17: the breakpoints of the second serve them. */
system_call(mount, MOUNT_MOUNT)
/* umount2(2); umount(2) of 32-bit programs has a function of its own. */
system_call(umount, MOUNT_UMOUNT)
function(__ia32_sys_oldumount, MOUNT_UMOUNT, 1, status)
system_call(open_tree, MOUNT_OPEN_TREE)
system_call(move_mount, MOUNT_MOVE_MOUNT)
system_call(fsopen, MOUNT_FSOPEN)
system_call(fsconfig, MOUNT_FSCONFIG)
system_call(fsmount, MOUNT_FSMOUNT)
system_call(fspick, MOUNT_FSPICK)
system_call(mount_setattr, MOUNT_SETATTR)
system_call(open_tree_attr, MOUNT_OPEN_TREE_ATTR)
