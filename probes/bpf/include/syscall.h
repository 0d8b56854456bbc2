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

/* What a number means in each ABI, 0 being nothing that we watch; both are read at once. */
union watched {
	struct {
		u8 native;
		u8 i386;
	};
	u16 any;
};

/* Table size: every number that we watch in any ABI is below. */
#define SYSCALL_LIMIT 552

/* The number without the x32 bit. 64 bits wide, so that the bound that a caller
 * checks is on the very register with which it indexes a table. */
inlined u64 syscall_number(const struct pt_regs *regs)
{
	return regs->orig_ax & (0xffffffffull & ~X32_SYSCALL_BIT);
}

/* Asks the task, so call it only for a number that some ABI's calls have. */
inlined enum abi syscall_abi(void)
{
	u32 status;

	if (has_helper(BPF_FUNC_get_current_task_btf)) {
		status = bpf_get_current_task_btf()->thread_info.status;
		/* Or the compiler makes one read of both, which a verifier may not follow. */
		asm volatile("" : "+r"(status));
	} else {
		struct task_struct *task = (void *)bpf_get_current_task();

		status = 0;
		bpf_probe_read_kernel(&status, sizeof(status), &task->thread_info.status);
	}
	return status & TS_COMPAT ? ABI_I386 : ABI_X86_64;
}

/* What a call that is over means, 0 for nothing. Every system call of the machine ends here:
 * nothing is asked before the number is known to be watched. */
inlined u64 watched_call(const struct pt_regs *regs, const union watched calls[SYSCALL_LIMIT], enum abi *abi)
{
	u64 number = syscall_number(regs);
	u64 call;

	if (number >= SYSCALL_LIMIT)
		return 0;
	call = calls[number].any;
	if (!call)
		return 0;
	*abi = syscall_abi();
	/* The native meaning is the lower byte. */
	if (*abi == ABI_I386)
		call >>= 8;
	call &= 0xff;
	/* One register holds it from the table on: each one more is saved by every system call. */
	asm volatile("" : "+r"(call));
	return call;
}

/* The first argument: the registers still hold what user space passed. */
inlined u64 first_argument(const struct pt_regs *regs, enum abi abi)
{
	return abi == ABI_I386 ? (u32)regs->bx : regs->di;
}
