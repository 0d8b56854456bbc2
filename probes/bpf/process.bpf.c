/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tasks: started, failed to start, exited, released.
 *
 * A start is charged to the parent's thread group and an exit to the exiting
 * task's, both current; a release to the released task's, which is not current.
 */
#include "include/syscall.h"

license;
totals_map(PROCESS_SLOTS);

/* TP_PROTO(struct task_struct *task, unsigned long clone_flags); u64 in newer kernels */
SEC("tp_btf/task_newtask") int task_newtask(u64 *ctx)
{
	if (passes())
		add_call(record_at(ctx[1] & CLONE_THREAD ? PROCESS_STARTED_THREAD : PROCESS_STARTED));
	return 0;
}

/* Where the start of a task is counted: one that is not the leader of its group is a thread. */
inlined u32 start_slot(int pid, int tgid)
{
	return pid != tgid ? PROCESS_STARTED_THREAD : PROCESS_STARTED;
}

/* void wake_up_new_task(struct task_struct *p). Arguments typed by BTF are read as they are: cheaper, and
 * allowed where a locked-down kernel forbids its helper for that. */
SEC("fentry") int start__fentry(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];

	if (passes())
		add_call(record_at(start_slot(task->pid, task->tgid)));
	return 0;
}

SEC("kprobe") int start__kprobe(struct pt_regs *ctx)
{
	const struct task_struct *task = (const void *)ctx->di;
	int pid = 0, tgid = 0;

	if (!passes())
		return 0;
	bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &task->tgid);
	add_call(kprobe_record(start_slot(pid, tgid)));
	return 0;
}

/* TP_PROTO(struct task_struct *p), since 6.15 also (bool group_dead); p is current */
SEC("tp_btf/sched_process_exit") int sched_process_exit(u64 *ctx)
{
	if (passes())
		add_call(record_of(PROCESS_EXIT));
	return 0;
}

/* void __noreturn do_exit(long code) */
on_call(exit, PROCESS_EXIT)

/* Whether the release of a task of this thread group is to be counted. A number that has been given away since is told
 * by the tasks' age. By control group it cannot be told: user space refuses that filter. */
inlined int passes_released(u32 tgid, u64 start_time)
{
	if (filter_kind != FILTER_PID)
		return 1;
	return tgid == filter_target.named && (!filter_target.reborn || start_time < filter_target.reborn);
}

/* TP_PROTO(struct task_struct *p), one RCU grace period after release_task(p) */
SEC("tp_btf/sched_process_free") int sched_process_free(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];

	if (passes_released(task->tgid, task->start_time))
		add_call(record_of(PROCESS_RELEASE));
	return 0;
}

/* void release_task(struct task_struct *p) */
SEC("fentry") int release__fentry(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];

	if (passes_released(task->tgid, task->start_time))
		add_call(record_of(PROCESS_RELEASE));
	return 0;
}

SEC("kprobe") int release__kprobe(struct pt_regs *ctx)
{
	const struct task_struct *task = (const void *)ctx->di;
	u32 tgid = 0;
	u64 start_time = 0;

	if (filter_kind == FILTER_PID) {
		bpf_probe_read_kernel(&tgid, sizeof(tgid), &task->tgid);
		bpf_probe_read_kernel(&start_time, sizeof(start_time), &task->start_time);
	}
	if (passes_released(tgid, start_time))
		add_call(kprobe_record(PROCESS_RELEASE));
	return 0;
}

/* pid_t kernel_clone(struct kernel_clone_args *args)
 * cad6967ac108 ("fork: introduce kernel_clone()"), 5.10; _do_fork with the same argument from 5.5 */
SEC("fexit") int fork__fexit1(u64 *ctx)
{
	u64 flags = ((const struct kernel_clone_args *)ctx[0])->flags, result = ctx[1];

	if (passes())
		add_status(record_at(flags & CLONE_THREAD ? PROCESS_FORK_THREAD : PROCESS_FORK), result);
	return 0;
}

/*
 * A kretprobe sees no arguments: the kprobe keeps the flags of the call in hand.
 * A task that dies inside the call leaves its entry behind, hence LRU.
 */
struct {
	map_type(BPF_MAP_TYPE_LRU_HASH);
	map_entries(4096);
	map_key(u64);
	map_value(u64);
} forks SEC(".maps");

SEC("kprobe") int fork__kprobe(struct pt_regs *ctx)
{
	const struct kernel_clone_args *args = (const void *)ctx->di;
	u64 task = bpf_get_current_pid_tgid(), flags = 0;

	bpf_probe_read_kernel(&flags, sizeof(flags), &args->flags);
	if (passes())
		bpf_map_update_elem(&forks, &task, &flags, 0);
	return 0;
}

SEC("kretprobe") int fork__kretprobe(struct pt_regs *ctx)
{
	u64 result = ctx->ax, task = bpf_get_current_pid_tgid();
	u64 *flags = bpf_map_lookup_elem(&forks, &task);

	if (flags) {
		add_status(kprobe_record(*flags & CLONE_THREAD ? PROCESS_FORK_THREAD : PROCESS_FORK), result);
		bpf_map_delete_elem(&forks, &task);
	}
	return 0;
}

enum fork_call {
	CALL_NONE,
	CALL_FORK,
	CALL_CLONE,
	CALL_CLONE3,
};

static const union watched calls[SYSCALL_LIMIT] = {
	[56].native = CALL_CLONE,
	[57].native = CALL_FORK,
	[58].native = CALL_FORK,
	[435].native = CALL_CLONE3,

	[2].i386 = CALL_FORK,
	[120].i386 = CALL_CLONE,
	[190].i386 = CALL_FORK,
	[435].i386 = CALL_CLONE3,
};

/* TP_PROTO(struct pt_regs *regs, long ret). The child leaves the call as well, with 0: only
 * failures are looked at here, a start is seen where the task is made. */
SEC("tp_btf/sys_exit") int sys_exit(u64 *ctx)
{
	enum abi abi;
	u64 call = watched_call((void *)ctx[0], calls, &abi);
	u64 argument, flags = 0;

	if (call == CALL_NONE || ctx[1] == 0 || !passes())
		return 0;
	argument = first_argument((void *)ctx[0], abi);
	if (call == CALL_CLONE)
		flags = argument;
	/* struct clone_args begins with its flags; a pointer that cannot be read is no thread. */
	if (call == CALL_CLONE3)
		bpf_probe_read_user(&flags, sizeof(flags), (const void *)argument);
	add_status(record_at(flags & CLONE_THREAD ? PROCESS_SYS_FORK_THREAD : PROCESS_SYS_FORK), ctx[1]);
	return 0;
}
