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
		add_call(ctx[1] & CLONE_THREAD ? PROCESS_STARTED_THREAD : PROCESS_STARTED);
	return 0;
}

/* A task that is not the leader of its group is a thread. */
inlined void add_start(const struct task_struct *task)
{
	int pid = 0, tgid = 0;

	bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &task->tgid);
	if (passes())
		add_call(pid != tgid ? PROCESS_STARTED_THREAD : PROCESS_STARTED);
}

/* void wake_up_new_task(struct task_struct *p) */
SEC("fentry") int start__fentry(u64 *ctx)
{
	add_start((void *)ctx[0]);
	return 0;
}

SEC("kprobe") int start__kprobe(struct pt_regs *ctx)
{
	add_start((void *)ctx->di);
	return 0;
}

/* TP_PROTO(struct task_struct *p), since 6.15 also (bool group_dead); p is current */
SEC("tp_btf/sched_process_exit") int sched_process_exit(u64 *ctx)
{
	if (passes())
		add_call(PROCESS_EXIT);
	return 0;
}

/* void __noreturn do_exit(long code) */
on_call(exit, PROCESS_EXIT)

inlined void add_release(const struct task_struct *task)
{
	int tgid = 0;

	if (filter_kind == FILTER_PID)
		bpf_probe_read_kernel(&tgid, sizeof(tgid), &task->tgid);
	if (passes_for(tgid))
		add_call(PROCESS_RELEASE);
}

/* TP_PROTO(struct task_struct *p), one RCU grace period after release_task(p) */
SEC("tp_btf/sched_process_free") int sched_process_free(u64 *ctx)
{
	add_release((void *)ctx[0]);
	return 0;
}

/* void release_task(struct task_struct *p) */
SEC("fentry") int release__fentry(u64 *ctx)
{
	add_release((void *)ctx[0]);
	return 0;
}

SEC("kprobe") int release__kprobe(struct pt_regs *ctx)
{
	add_release((void *)ctx->di);
	return 0;
}

/* pid_t kernel_clone(struct kernel_clone_args *args)
 * cad6967ac108 ("fork: introduce kernel_clone()"), 5.10; _do_fork with the same argument from 5.5 */
SEC("fexit") int fork__fexit1(u64 *ctx)
{
	const struct kernel_clone_args *args = (const void *)ctx[0];
	u64 result = ctx[1], flags = 0;

	bpf_probe_read_kernel(&flags, sizeof(flags), &args->flags);
	if (passes())
		add_result(flags & CLONE_THREAD ? PROCESS_FORK_THREAD : PROCESS_FORK, int_error(result), 0);
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
		add_result(*flags & CLONE_THREAD ? PROCESS_FORK_THREAD : PROCESS_FORK, int_error(result), 0);
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

static const u8 native_calls[SYSCALL_LIMIT] = {
	[56] = CALL_CLONE,
	[57] = CALL_FORK,
	[58] = CALL_FORK,
	[435] = CALL_CLONE3,
};
static const u8 i386_calls[SYSCALL_LIMIT] = {
	[2] = CALL_FORK,
	[120] = CALL_CLONE,
	[190] = CALL_FORK,
	[435] = CALL_CLONE3,
};

/* TP_PROTO(struct pt_regs *regs, long ret). The child leaves the call as well, with 0: only
 * failures are looked at here, a start is seen where the task is made. */
SEC("tp_btf/sys_exit") int sys_exit(u64 *ctx)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx[0];
	s64 result = ctx[1];
	u64 number = syscall_number(regs);
	enum fork_call call;
	enum abi abi;
	u64 flags = 0;

	if (number >= SYSCALL_LIMIT || !(native_calls[number] | i386_calls[number]) || result == 0)
		return 0;
	abi = syscall_abi();
	call = abi == ABI_I386 ? i386_calls[number] : native_calls[number];
	if (call == CALL_NONE || !passes())
		return 0;
	if (call == CALL_CLONE)
		flags = first_argument(regs, abi);
	/* struct clone_args begins with its flags; a pointer that cannot be read is no thread. */
	if (call == CALL_CLONE3)
		bpf_probe_read_user(&flags, sizeof(flags), (const void *)first_argument(regs, abi));
	add_result(flags & CLONE_THREAD ? PROCESS_SYS_FORK_THREAD : PROCESS_SYS_FORK, long_error(result), 0);
	return 0;
}
