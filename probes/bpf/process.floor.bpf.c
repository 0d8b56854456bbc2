/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tasks on the floor. A start is a fork that returned a pid; no structure is
 * read, so a release cannot be told to belong to a thread group.
 */
#include "include/floor.h"

license;

on_call(exit, PROCESS_EXIT)
on_call(release, PROCESS_RELEASE)

/* The flags of the forks under way, by task. A task that dies inside the call leaves its entry, hence LRU. */
struct map forks SEC("maps") = {
	.type = BPF_MAP_TYPE_LRU_HASH,
	.key_size = sizeof(u64),
	.value_size = sizeof(u64),
	.max_entries = 4096,
};

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
