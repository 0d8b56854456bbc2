/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs share with user space: mirrored in src/abi.rs, field by
 * field and number by number. A test compares the two.
 */
#pragma once
#include "kernel.h"

/* Totals of one hook on one processor since the program was loaded: calls = successes + errors +
 * interrupted. A power of two in size, so that the kernel finds an element by a shift. */
struct record {
	u64 calls;
	u64 errors;
	u64 interrupted;
	u64 bytes;
};

enum filter {
	FILTER_NONE = 0,
	FILTER_PID = 1,    /* a thread group, struct target */
	FILTER_CGROUP = 2, /* the control group in filter_cgroup and those below it */
};

/* What counts. A thread group's number may be given to another process when it has ended: then `tgid` is NOBODY, and
 * of the tasks that are released later the older ones were its own. */
struct target {
	u32 tgid;   /* whose events pass */
	u32 named;  /* whose releases do, if they started before */
	u64 reborn; /* the start of the process that has the number now, in ns since the boot; or the id of the control
		     * group that was made anew under the name of the one that counts; 0: none has */
};
#define CGROUP_NAME 256 /* bytes; the longest name of a file, and a zero */
#define NOBODY 0xffffffff /* no number of a thread group */

/* Records of file.bpf.c: one per kernel function, and one per kind of system
 * call for the system-call tier, so that no event is counted in two. */
enum file_slot {
	FILE_OPEN,
	FILE_CLOSE,
	FILE_READ,
	FILE_READV,
	FILE_WRITE,
	FILE_WRITEV,
	FILE_UNLINK,
	FILE_SYS_OPEN,
	FILE_SYS_CLOSE,
	FILE_SYS_READ,
	FILE_SYS_WRITE,
	FILE_SYS_UNLINK,
	FILE_EITHER_READV, /* where one function serves both readv and writev */
	FILE_EITHER_WRITEV,
	FILE_SLOTS,
};

/* Records of process.bpf.c. */
enum process_slot {
	PROCESS_STARTED,
	PROCESS_STARTED_THREAD,
	PROCESS_FORK,
	PROCESS_FORK_THREAD,
	PROCESS_EXIT,
	PROCESS_RELEASE,
	PROCESS_SYS_FORK,
	PROCESS_SYS_FORK_THREAD,
	PROCESS_FORKED, /* a start as the return of a fork shows it */
	PROCESS_FORKED_THREAD,
	PROCESS_SLOTS,
};
