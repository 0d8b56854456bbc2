/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files on the floor: the breakpoints of file.bpf.c under the same names, and trace events of the
 * system calls.
 */
#include "include/floor_syscall.h"

license;

on_call(open, FILE_OPEN)
on_call(close, FILE_CLOSE)
on_call(read, FILE_READ)
on_call(readv, FILE_READV)
on_call(write, FILE_WRITE)
on_call(writev, FILE_WRITEV)
on_call(unlink, FILE_UNLINK)

on_kreturn(open, FILE_OPEN, int_result, no_bytes)
on_kreturn(close, FILE_CLOSE, int_result, no_bytes)
on_kreturn(close_file, FILE_CLOSE, pointer_result, no_bytes)
on_kreturn(read, FILE_READ, long_result, positive)
on_kreturn(readv, FILE_READV, long_result, positive)
on_kreturn(write, FILE_WRITE, long_result, positive)
on_kreturn(writev, FILE_WRITEV, long_result, positive)
on_kreturn(unlink, FILE_UNLINK, int_result, no_bytes)

on_syscall_exit(open, FILE_SYS_OPEN, no_bytes)
on_syscall_exit(close, FILE_SYS_CLOSE, no_bytes)
on_syscall_exit(read, FILE_SYS_READ, positive)
on_syscall_exit(write, FILE_SYS_WRITE, positive)
on_syscall_exit(unlink, FILE_SYS_UNLINK, no_bytes)

/* The flags of the unlinkat calls under way, by task: one that removes a directory deletes no file. */
calls_under_way(unlinkats);

SEC("tracepoint") int unlinkat_enter__event(struct syscall_enter *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), flags = ctx->args[2];

	if (passes())
		bpf_map_update_elem(&unlinkats, &task, &flags, 0);
	return 0;
}

SEC("tracepoint") int unlinkat_exit__event(struct syscall_exit *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), result = ctx->result;
	u64 *flags = bpf_map_lookup_elem(&unlinkats, &task);

	if (!flags)
		return 0;
	if (!(*flags & AT_REMOVEDIR))
		add(FILE_SYS_UNLINK, long_result(result), 0);
	bpf_map_delete_elem(&unlinkats, &task);
	return 0;
}

/*
 * Linux 4.11 and 4.12: vfs_readv and vfs_writev are short enough to be inlined into their callers. What both come to is
 *
 * ssize_t do_readv_writev(int type, struct file *file, const struct iovec __user *uvector, ...)
 *
 * which says in its first argument what it is: 0 (READ) or 1 (WRITE). Its programs stand there for the other counter as
 * well, hence the records of their own. 32-bit calls come to compat_do_readv_writev, of the same arguments.
 */
#define IS_WRITE(type) ((u32)(type) != 0)

SEC("kprobe") int readv_writev__kprobe(struct pt_regs *ctx)
{
	u64 type = ctx->di;

	if (passes())
		add(IS_WRITE(type) ? FILE_EITHER_WRITEV : FILE_EITHER_READV, 0, 0);
	return 0;
}

/* The types of the calls under way, by task. */
calls_under_way(vectors);

SEC("kprobe") int readv_writev_enter__kprobe(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), type = ctx->di;

	if (passes())
		bpf_map_update_elem(&vectors, &task, &type, 0);
	return 0;
}

SEC("kretprobe") int readv_writev__kretprobe(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), result = ctx->ax;
	u64 *type = bpf_map_lookup_elem(&vectors, &task);

	if (!type)
		return 0;
	add(IS_WRITE(*type) ? FILE_EITHER_WRITEV : FILE_EITHER_READV, long_result(result), positive(result));
	bpf_map_delete_elem(&vectors, &task);
	return 0;
}

/* What is not a record: unlinkat() may delete a directory, which is rmdir(). FILE_OPEN is none of the system calls'. */
#define CALL_NONE FILE_OPEN
#define CALL_UNLINKAT FILE_SLOTS

/* The tables of file.bpf.c, in code: without global data there is none to read. */
inlined u32 native_call(u32 number)
{
	switch (number) {
	case 0: case 17: case 19: case 295: case 327: case 515: case 534: case 546:
		return FILE_SYS_READ;
	case 1: case 18: case 20: case 296: case 328: case 516: case 535: case 547:
		return FILE_SYS_WRITE;
	case 2: case 85: case 257: case 437:
		return FILE_SYS_OPEN;
	case 3:
		return FILE_SYS_CLOSE;
	case 87:
		return FILE_SYS_UNLINK;
	case 263:
		return CALL_UNLINKAT;
	}
	return CALL_NONE;
}

inlined u32 i386_call(u32 number)
{
	switch (number) {
	case 3: case 145: case 180: case 333: case 378:
		return FILE_SYS_READ;
	case 4: case 146: case 181: case 334: case 379:
		return FILE_SYS_WRITE;
	case 5: case 8: case 295: case 437:
		return FILE_SYS_OPEN;
	case 6:
		return FILE_SYS_CLOSE;
	case 10:
		return FILE_SYS_UNLINK;
	case 301:
		return CALL_UNLINKAT;
	}
	return CALL_NONE;
}

SEC("tracepoint") int sys_exit__event(struct raw_exit *ctx)
{
	u32 number = ctx->number & ~X32_SYSCALL_BIT;
	s64 result = ctx->result;
	u32 native = native_call(number), i386 = i386_call(number), call;
	struct user_regs regs = {};

	if (native == CALL_NONE && i386 == CALL_NONE)
		return 0;
	if (!passes())
		return 0;
	read_user_regs(&regs);
	call = is_native(&regs) ? native : i386;
	if (call == CALL_NONE)
		return 0;
	if (call == CALL_UNLINKAT) {
		if (regs.dx & AT_REMOVEDIR)
			return 0;
		call = FILE_SYS_UNLINK;
	}
	add(call, result, call == FILE_SYS_READ || call == FILE_SYS_WRITE ? positive(result) : 0);
	return 0;
}
