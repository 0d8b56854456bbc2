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

/*
 * long _do_fork(unsigned long clone_flags, ...)
 * long _do_fork(struct kernel_clone_args *args), then kernel_clone: 7f192e3cd316 ("fork: add clone3"), 5.3
 * Flags fit into 32 bits and a kernel address does not; the flags are the first field of the arguments.
 */
SEC("kprobe") int clone__kprobe(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), flags = ctx->di;

	if (!passes())
		return 0;
	if (flags >> 32)
		bpf_probe_read(&flags, sizeof(flags), (const void *)ctx->di);
	bpf_map_update_elem(&forks, &task, &flags, 0);
	return 0;
}

SEC("kretprobe") int clone__kretprobe(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid();
	s32 result = ctx->ax;
	u64 *kept = bpf_map_lookup_elem(&forks, &task);
	u32 thread;

	if (!kept)
		return 0;
	thread = (*kept & CLONE_THREAD) != 0;
	bpf_map_delete_elem(&forks, &task);
	add(thread ? PROCESS_FORK_THREAD : PROCESS_FORK, is_error(result), 0);
	if (result > 0)
		add(thread ? PROCESS_STARTED_THREAD : PROCESS_STARTED, 0, 0);
	return 0;
}

/* The record of task/task_newtask. */
struct newtask {
	struct event event;
	int pid;
	char comm[16];
	int padding;
	u64 clone_flags;
};

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
		add(PROCESS_SYS_FORK, is_error(result), 0);
	return 0;
}

SEC("tracepoint") int clone_enter__event(struct syscall_enter *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), flags = ctx->args[0];

	if (passes())
		bpf_map_update_elem(&forks, &task, &flags, 0);
	return 0;
}

/* struct clone_args begins with its flags; a pointer that cannot be read is no thread. */
SEC("tracepoint") int clone3_enter__event(struct syscall_enter *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), flags = 0;

	if (!passes())
		return 0;
	bpf_probe_read(&flags, sizeof(flags), (const void *)ctx->args[0]);
	bpf_map_update_elem(&forks, &task, &flags, 0);
	return 0;
}

/* The child has entered no call, so its own end of it finds nothing. */
SEC("tracepoint") int clone_exit__event(struct syscall_exit *ctx)
{
	u64 task = bpf_get_current_pid_tgid();
	s64 result = ctx->result;
	u64 *kept = bpf_map_lookup_elem(&forks, &task);
	u32 thread;

	if (!kept)
		return 0;
	thread = (*kept & CLONE_THREAD) != 0;
	bpf_map_delete_elem(&forks, &task);
	add(thread ? PROCESS_SYS_FORK_THREAD : PROCESS_SYS_FORK, is_error(result), 0);
	return 0;
}
