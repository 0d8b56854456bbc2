/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Calls that ask for data to be written to disks, at their own functions: src/sync.rs.
 */
#define BY_WHOM
#include <probe.h>

enum slot {
	SYNC_FSYNC,
	SYNC_FDATASYNC,
	SYNC_SYNC,
	SYNC_SYNCFS,
	SYNC_MSYNC,
	SYNC_FILE_RANGE,
	SLOTS,
};

license;
totals_map(SLOTS);

system_call(fsync, SYNC_FSYNC)
system_call(fdatasync, SYNC_FDATASYNC)
system_call(syncfs, SYNC_SYNCFS)
system_call(msync, SYNC_MSYNC)
/* static long __do_sys_sync(const struct pt_regs *unused), which has the names of both kinds of programs as aliases:
 * d2b5de495ee9 ("x86/entry: Refactor SYSCALL_DEFINE0 macros"), 5.7; before __x64_sys_sync had the other as its alias */
function(__do_sys_sync, SYNC_SYNC, 1, status)
function(__x64_sys_sync_file_range, SYNC_FILE_RANGE, 1, status)
/* 121b32a58a3a ("x86/entry/32: Use IA32-specific wrappers for syscalls taking 64-bit arguments"), 5.7; before
 * __ia32_compat_sys_x86_sync_file_range */
function(__ia32_sys_ia32_sync_file_range, SYNC_FILE_RANGE, 1, status)
