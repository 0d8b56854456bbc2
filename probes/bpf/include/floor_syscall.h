/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Decoding a finished system call by its ABI where no structure of the kernel is known: Linux 4.11 to 4.13, where a
 * program may stand on the event of all system calls, but not on those of single ones. That event tells the number and
 * the result. A number alone means one thing in a 64-bit call and another one in a 32-bit call.
 */
#pragma once
#include "floor.h"

/* raw_syscalls/sys_exit */
struct raw_exit {
	struct event event;
	u64 number;
	s64 result;
};

/* Kernel stacks have this size and begin at a multiple of it; the registers of user space are at their end. */
#define STACK_SIZE 0x4000

/* The part of struct pt_regs from r11 to its end. */
struct user_regs {
	u64 r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
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
