/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Decoding a finished system call by its ABI. A 32-bit call (int 0x80, or a
 * 32-bit process) has numbers of its own; x32 calls have a bit set.
 */
#pragma once
#include "hooks.h"

enum abi {
	ABI_X86_64,
	ABI_I386,
};


/* Table size: every number that we watch in any ABI is below. */
#define SYSCALL_LIMIT 552

/* The number without the x32 bit. 64 bits wide, so that the bound that a caller
 * checks is on the very register with which it indexes a table. */
inlined u64 syscall_number(const struct pt_regs *regs)
{
	return regs->orig_ax & (0xffffffffull & ~X32_SYSCALL_BIT);
}

/* Asks the task, so call it only for a number that some table has. */
inlined enum abi syscall_abi(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u32 status = 0;

	bpf_probe_read_kernel(&status, sizeof(status), &task->thread_info.status);
	return status & TS_COMPAT ? ABI_I386 : ABI_X86_64;
}

/* The first argument: the registers still hold what user space passed. */
inlined u64 first_argument(const struct pt_regs *regs, enum abi abi)
{
	return abi == ABI_I386 ? (u32)regs->bx : regs->di;
}
