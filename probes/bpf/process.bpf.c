/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tasks: started, failed to start, exited, released.
 *
 * A start is charged to the parent's thread group and an exit to the exiting
 * task's, both current; a release to the released task's, which is not current.
 */
#define BY_WHOM
#include <probe.h>

enum slot {
	PROCESS_STARTED,
	PROCESS_STARTED_THREAD,
	PROCESS_FORK,
	PROCESS_FORK_THREAD,
	PROCESS_EXIT,
	PROCESS_RELEASE,
	PROCESS_FORKED, /* a start as the return of a fork shows it */
	PROCESS_FORKED_THREAD,
	SLOTS,
};

license;
totals_map(SLOTS);

/* void __noreturn do_exit(long code) */
function_entry(do_exit, PROCESS_EXIT)

#ifndef FLOOR
/* TP_PROTO(struct task_struct *task, unsigned long clone_flags); u64 in newer kernels */
SEC("tp_btf/task_newtask") int task_newtask(u64 *ctx)
{
	if (passes())
		add_call(totals_here(), ctx[1] & CLONE_THREAD ? PROCESS_STARTED_THREAD : PROCESS_STARTED);
	return 0;
}

/* Where the start of a task is counted: one that is not the leader of its group is a thread. */
inlined enum slot start_slot(int pid, int tgid)
{
	return pid != tgid ? PROCESS_STARTED_THREAD : PROCESS_STARTED;
}

/* void wake_up_new_task(struct task_struct *p). Arguments typed by BTF are read as they are: cheaper, and
 * allowed where a locked-down kernel forbids its helper for that. */
SEC("fentry") int wake_up_new_task__fentry(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];

	if (passes())
		add_call(totals_here(), start_slot(task->pid, task->tgid));
	return 0;
}

SEC("kprobe") int wake_up_new_task__kprobe(struct pt_regs *ctx)
{
	const struct task_struct *task = (const void *)ctx->di;
	int pid = 0, tgid = 0;

	if (!passes())
		return 0;
	bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &task->tgid);
	add_call(kprobe_totals_here(), start_slot(pid, tgid));
	return 0;
}

/* TP_PROTO(struct task_struct *p), since 6.15 also (bool group_dead); p is current */
SEC("tp_btf/sched_process_exit") int sched_process_exit(u64 *ctx)
{
	if (passes())
		add_call(totals_here(), PROCESS_EXIT);
	return 0;
}

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
		add_call(totals_of(task->tgid, task->start_boottime), PROCESS_RELEASE);
	return 0;
}

/* void release_task(struct task_struct *p) */
SEC("fentry") int release_task__fentry(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];

	if (passes_released(task->tgid, task->start_time))
		add_call(totals_of(task->tgid, task->start_boottime), PROCESS_RELEASE);
	return 0;
}

SEC("kprobe") int release_task__kprobe(struct pt_regs *ctx)
{
	const struct task_struct *task = (const void *)ctx->di;
	u32 tgid = 0;
	u64 start_time = 0, start_boottime = 0;

	if (filter_kind == FILTER_PID || TELLS_WHO) {
		bpf_probe_read_kernel(&tgid, sizeof(tgid), &task->tgid);
		bpf_probe_read_kernel(&start_time, sizeof(start_time), &task->start_time);
	}
	if (TELLS_WHO)
		bpf_probe_read_kernel(&start_boottime, sizeof(start_boottime), &task->start_boottime);
	if (passes_released(tgid, start_time))
		add_call(kprobe_totals_of(tgid, start_boottime), PROCESS_RELEASE);
	return 0;
}

/* pid_t kernel_clone(struct kernel_clone_args *args)
 * cad6967ac108 ("fork: introduce kernel_clone()"), 5.10; _do_fork with the same argument from 5.5 */
SEC("fexit") int fork__fexit_status1(u64 *ctx)
{
	u64 flags = ((const struct kernel_clone_args *)ctx[0])->flags, result = ctx[1];

	if (passes())
		add_status(totals_here(), flags & CLONE_THREAD ? PROCESS_FORK_THREAD : PROCESS_FORK, result);
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

SEC("kprobe") int fork_enter__kprobe(struct pt_regs *ctx)
{
	const struct kernel_clone_args *args = (const void *)ctx->di;
	u64 task = bpf_get_current_pid_tgid(), flags = 0;

	bpf_probe_read_kernel(&flags, sizeof(flags), &args->flags);
	if (passes())
		bpf_map_update_elem(&forks, &task, &flags, 0);
	return 0;
}

SEC("kretprobe") int fork__kretprobe_status(struct pt_regs *ctx)
{
	u64 result = ctx->ax, task = bpf_get_current_pid_tgid();
	u64 *flags = bpf_map_lookup_elem(&forks, &task);

	if (flags) {
		add_status(kprobe_totals_here(), *flags & CLONE_THREAD ? PROCESS_FORK_THREAD : PROCESS_FORK, result);
		bpf_map_delete_elem(&forks, &task);
	}
	return 0;
}
#else
/* On the floor no structure is read, so a release cannot be told to belong to a thread group: user space refuses
 * filters for it. */
function_entry(release_task, PROCESS_RELEASE)

SEC("tracepoint") int task_newtask__event(struct newtask *ctx)
{
	u64 flags = ctx->clone_flags;

	if (passes())
		add_call(totals_here(), flags & CLONE_THREAD ? PROCESS_STARTED_THREAD : PROCESS_STARTED);
	return 0;
}

/* sched/sched_process_exit: the exiting task is current. */
SEC("tracepoint") int sched_process_exit__event(struct event *ctx)
{
	if (passes())
		add_call(totals_here(), PROCESS_EXIT);
	return 0;
}

/* sched/sched_process_free: the released task is not current. */
SEC("tracepoint") int sched_process_free__event(struct event *ctx)
{
	add_call(totals_here(), PROCESS_RELEASE);
	return 0;
}

/* The flags of the forks under way, by task. */
calls_under_way(forks);

/*
 * long _do_fork(unsigned long clone_flags, ...)
 * long _do_fork(struct kernel_clone_args *args), then kernel_clone: 7f192e3cd316 ("fork: add clone3"), 5.3
 * Flags fit into 32 bits and a kernel address does not; the flags are the first field of the arguments.
 */
SEC("kprobe") int clone_enter__kprobe(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), flags = ctx->di;

	if (!passes())
		return 0;
	if (flags >> 32)
		bpf_probe_read(&flags, sizeof(flags), (const void *)ctx->di);
	bpf_map_update_elem(&forks, &task, &flags, 0);
	return 0;
}

/* Counts the end of a fork, and a start where it is one: in a record of its own, since the program may stand there for
 * failures alone, beside another that counts starts. One whose beginning was not kept is not ours: a child leaves the
 * call as well, without having entered it. */
SEC("kretprobe") int clone__kretprobe_status(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid();
	s32 result = ctx->ax;
	u64 *flags = bpf_map_lookup_elem(&forks, &task);
	int is_thread;

	if (!flags)
		return 0;
	is_thread = (*flags & CLONE_THREAD) != 0;
	bpf_map_delete_elem(&forks, &task);
	add_status(totals_here(), is_thread ? PROCESS_FORK_THREAD : PROCESS_FORK, result);
	if (result > 0)
		add_call(totals_here(), is_thread ? PROCESS_FORKED_THREAD : PROCESS_FORKED);
	return 0;
}
#endif
