/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finished system calls where no structure of the kernel is known. From Linux 4.14 on a program may stand on the events
 * of single calls, in which a 32-bit call does not show. Before, only on the event of all calls, which tells the number
 * and the result: a number alone means one thing in a 64-bit call and another one in a 32-bit call.
 */
#pragma once
#include "floor.h"

/* syscalls/sys_enter_NAME */
struct syscall_enter {
	struct event event;
	u64 number;
	u64 args[6];
};

/* syscalls/sys_exit_NAME */
struct syscall_exit {
	struct event event;
	u64 number;
	s64 result;
};

/* raw_syscalls/sys_exit */
struct raw_exit {
	struct event event;
	u64 number;
	s64 result;
};

/* The entry of a 64-bit call, 0 for none. */
inlined u64 native_entry(u64 entries)
{
	return entries & 0xffff;
}

/* Kernel stacks have this size and begin at a multiple of it; the registers of user space are at their end. */
#define STACK_SIZE 0x4000

/* The part of struct pt_regs from bx to its end. On the way of a 64-bit call these kernels do not always save bx. */
struct user_regs {
	u64 bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

/* Reads what user space had in its registers. A program's own stack is the kernel's. */
inlined void read_user_regs(struct user_regs *regs)
{
	u64 stack = (u64)regs;

	/* Or the compiler reckons with the offset in the stack, which a verifier does not follow. */
	asm volatile("" : "+r"(stack));
	stack &= ~(u64)(STACK_SIZE - 1);
	bpf_probe_read(regs, sizeof(*regs), (const void *)(stack + STACK_SIZE - sizeof(*regs)));
}

/* The instruction `syscall` leaves the flags in r11, and with them bit 1, which is always set. A 32-bit call comes by
 * another way, which leaves 0 there (entry_64_compat.S of these kernels). */
inlined int is_native(const struct user_regs *regs)
{
	return regs->r11 != 0;
}

/* One of the first three arguments. */
inlined u64 user_argument(const struct user_regs *regs, int native, u32 argument)
{
	if (argument == 0)
		return native ? regs->di : (u32)regs->bx;
	if (argument == 1)
		return native ? regs->si : (u32)regs->cx;
	return native ? regs->dx : (u32)regs->dx;
}
