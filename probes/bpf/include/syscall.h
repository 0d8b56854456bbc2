/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Decoding a finished system call by its ABI. A 32-bit call (int 0x80, or a
 * 32-bit process) has numbers of its own; x32 calls have a bit set.
 */
#pragma once
#include "abi.h"

enum abi {
	ABI_X86_64,
	ABI_I386,
};

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

/* The entry of a call that is over, 0 for none. Every system call of the machine ends here: nothing is asked before the
 * number is known to be watched. An entry may change meanwhile, so it is read once. */
inlined u64 watched_call(const struct pt_regs *regs, volatile union watched calls[SYSCALL_LIMIT])
{
	/* 64 bits wide, so that the bound is on the very register that indexes the table. */
	u64 number = *(const u32 *)&regs->orig_ax;
	u64 call;

	/* Only x32 comes here with a number that is watched. */
	if (number >= SYSCALL_LIMIT) {
		number &= ~(u64)X32_SYSCALL_BIT;
		if (number >= SYSCALL_LIMIT)
			return 0;
	}
	call = calls[number].any;
	if (!call)
		return 0;
	/* The native entry is the lower half. */
	if (syscall_abi() == ABI_I386)
		call >>= 16;
	call &= 0xffff;
	/* One register holds it from the table on: each one more is saved by every system call. */
	asm volatile("" : "+r"(call));
	return call;
}

/* One of the first three arguments: the registers still hold what user space passed. */
inlined u64 syscall_argument(const struct pt_regs *regs, enum abi abi, u32 argument)
{
	if (abi == ABI_I386)
		return (u32)(argument == 0 ? regs->bx : argument == 1 ? regs->cx : regs->dx);
	return argument == 0 ? regs->di : argument == 1 ? regs->si : regs->dx;
}
