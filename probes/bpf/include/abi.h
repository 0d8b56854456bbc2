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

/* The filter of an object for the floor, which looks it up for each event. */
struct filter_setting {
	u32 kind; /* enum filter */
	u32 tgid; /* for FILTER_PID; NOBODY when that process has ended */
};

/* What a system call counts in, by its number in each ABI; 0: nothing watches it. Both are read at once. */
union watched {
	struct {
		u16 native;
		u16 i386;
	};
	u32 any;
};

/* Every number that is watched in any ABI is below. */
#define SYSCALL_LIMIT 552

/* One half of an entry: a record from 1 on, and flags. User space changes it while programs read it, a byte at a time:
 * the flags come before the record and go after it, so an entry without a record is none, whatever its flags say. */
#ifdef WHO /* each process has them all, so there are fewer */
#define CALL_RECORD 0x003f
#define CALL_RECORDS 64
#else
#define CALL_RECORD 0x007f
#define CALL_RECORDS RECORDS
#endif
#define RECORDS 128
#define CALL_SPLITS 0x4000 /* an argument decides in which of two records it counts, struct split */
#define CALL_SIZE 0x8000   /* the result is a number of bytes, else a status */

/* The call counts in the record after its own if one of these bits is set in an argument, or in the u64 to which the
 * argument points; one that cannot be read has none. */
struct split {
	u32 argument; /* the first is 0, the third 2 */
	u32 is_pointer;
	u64 bits;
};
