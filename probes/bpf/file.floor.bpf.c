/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files on the floor: the breakpoints of file.bpf.c under the same names, and trace events of the
 * system calls.
 */
#include "include/floor.h"

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
