/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tasks on the floor. A start is a fork that returned a pid; no structure is
 * read, so a release cannot be told to belong to a thread group.
 */
#include "include/floor.h"

license;

on_call(exit, PROCESS_EXIT)
on_call(release, PROCESS_RELEASE)

/* The flags of the forks under way, by task. */
calls_under_way(forks);

inlined void fork_begins(u64 flags)
{
	u64 task = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&forks, &task, &flags, 0);
}

/* Counts the end of a fork in the record of its kind, and a start too where one is given: in a record of its own, since
 * the program may stand there for failures alone, beside another that counts starts. One whose beginning was not kept is
 * not ours: a child leaves the call as well, without having entered it. */
inlined void fork_ends(s64 result, u32 process, u32 thread, int starts)
{
	u64 task = bpf_get_current_pid_tgid();
	u64 *kept = bpf_map_lookup_elem(&forks, &task);
	int is_thread;

	if (!kept)
		return;
	is_thread = (*kept & CLONE_THREAD) != 0;
	bpf_map_delete_elem(&forks, &task);
	add(is_thread ? thread : process, result, 0);
	if (starts && result > 0)
		add(is_thread ? PROCESS_FORKED_THREAD : PROCESS_FORKED, 0, 0);
}

/*
 * long _do_fork(unsigned long clone_flags, ...)
 * long _do_fork(struct kernel_clone_args *args), then kernel_clone: 7f192e3cd316 ("fork: add clone3"), 5.3
 * Flags fit into 32 bits and a kernel address does not; the flags are the first field of the arguments.
 */
SEC("kprobe") int clone__kprobe(struct pt_regs *ctx)
{
	u64 flags = ctx->di;

	if (!passes())
		return 0;
	if (flags >> 32)
		bpf_probe_read(&flags, sizeof(flags), (const void *)ctx->di);
	fork_begins(flags);
	return 0;
}

SEC("kretprobe") int clone__kretprobe(struct pt_regs *ctx)
{
	fork_ends((s32)ctx->ax, PROCESS_FORK, PROCESS_FORK_THREAD, 1);
	return 0;
}

SEC("tracepoint") int start__event(struct newtask *ctx)
{
	u64 flags = ctx->clone_flags;

	if (passes())
		add(flags & CLONE_THREAD ? PROCESS_STARTED_THREAD : PROCESS_STARTED, 0, 0);
	return 0;
}

/* sched/sched_process_exit: the exiting task is current. */
SEC("tracepoint") int exit__event(struct event *ctx)
{
	if (passes())
		add(PROCESS_EXIT, 0, 0);
	return 0;
}

/* sched/sched_process_free: the released task is not current, and user space refuses filters. */
SEC("tracepoint") int release__event(struct event *ctx)
{
	add(PROCESS_RELEASE, 0, 0);
	return 0;
}

/* fork and vfork start no thread; the child leaves the call as well, with 0. */
SEC("tracepoint") int fork_exit__event(struct syscall_exit *ctx)
{
	s64 result = ctx->result;

	if (result != 0 && passes())
		add(PROCESS_SYS_FORK, result, 0);
	return 0;
}

SEC("tracepoint") int clone_enter__event(struct syscall_enter *ctx)
{
	u64 flags = ctx->args[0];

	if (passes())
		fork_begins(flags);
	return 0;
}

/* struct clone_args begins with its flags; a pointer that cannot be read is no thread. */
SEC("tracepoint") int clone3_enter__event(struct syscall_enter *ctx)
{
	u64 flags = 0;

	if (!passes())
		return 0;
	bpf_probe_read(&flags, sizeof(flags), (const void *)ctx->args[0]);
	fork_begins(flags);
	return 0;
}

SEC("tracepoint") int clone_exit__event(struct syscall_exit *ctx)
{
	fork_ends(ctx->result, PROCESS_SYS_FORK, PROCESS_SYS_FORK_THREAD, 0);
	return 0;
}
