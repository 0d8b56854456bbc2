/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a probe includes. Its file is compiled twice: for kernels with type information, and with -DFLOOR for those
 * without. What both know by the same name: license, totals_map, totals_here, passes, add_*, function, another_arity,
 * breakpoint, function_entry. What one of them cannot do stands under #ifdef FLOOR; a probe that says
 * `#define CORE_ONLY` has no object for the floor. One that says `#define BY_WHOM` is compiled once more, with -DWHO: then
 * each process has records of its own, and totals_here() gives those of the current one, totals_of(tgid, started) those
 * of another task's.
 */
#pragma once
#ifdef FLOOR
#include "floor.h"
#else
#include "hooks.h"
#endif

/* A system call's own functions from 4.17 on, long __x64_sys_NAME(const struct pt_regs *regs) and, for 32-bit programs,
 * __ia32_sys_NAME: d5a00528b58c ("syscalls/core, syscalls/x86: Rename struct pt_regs-based sys_*() to __x64_sys_*()").
 * The breakpoints of the first serve sys_NAME on older kernels, too. */
#define system_call(name, slot)                                                                                        \
	function(__x64_sys_##name, slot, 1, status) function(__ia32_sys_##name, slot, 1, status)
