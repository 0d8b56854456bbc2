/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose events count.
 */
#pragma once
#include "abi.h"

/* Frozen when the object is loaded: the verifier removes the branches of the other kinds. */
const volatile u32 filter_kind = FILTER_NONE;
/* Changes from the agent's own thread group during the self-test to the wanted one, and to nobody when that has ended.
 * In a section, and so in a map, of its own: user space writes it whole, whatever other variables an object has. */
volatile struct target filter_target SEC(".data.filter") = {};

struct {
	map_type(BPF_MAP_TYPE_CGROUP_ARRAY);
	map_entries(1);
	int(*key_size)[sizeof(u32)];
	int(*value_size)[sizeof(u32)];
} filter_cgroup SEC(".maps");

/* The name of the control group that counts, and its parent's id: frozen. */
const volatile u64 cgroup_parent = 0;
const volatile char cgroup_name[CGROUP_NAME] __attribute__((aligned(8))) = {};

/* Whether an event of the current task is to be counted. The filter's kind is read once:
 * each reading is two instructions of every event. */
inlined int passes(void)
{
	volatile struct target *target;
	u32 kind = filter_kind;
	u64 id;

	if (kind == FILTER_NONE)
		return 1;
	if (kind == FILTER_PID)
		return bpf_get_current_pid_tgid() >> 32 == filter_target.tgid;
	if (bpf_current_task_under_cgroup(&filter_cgroup, 0) == 1)
		return 1;
	/* Made anew, and user space has not aimed at it yet. The second address is loaded by hand: the compiler would keep the
	 * first one over the call, in a register that every event has to save. */
	if (!filter_target.reborn)
		return 0;
	id = bpf_get_current_cgroup_id();
	asm volatile("%[target] = filter_target ll" : [target] "=r"(target));
	return id == target->reborn;
}

/*
 * TP_PROTO(struct task_struct *task, unsigned long clone_flags); u64 in newer kernels. Comes before the new task runs: if
 * it has the number of the process that counts, that has ended, and nothing of the new one is counted. Attached for
 * FILTER_PID alone.
 */
SEC("tp_btf/task_newtask") int number_again(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];

	if ((u32)task->pid == filter_target.tgid) {
		filter_target.reborn = task->start_time;
		filter_target.tgid = NOBODY;
	}
	return 0;
}

/*
 * TP_PROTO(struct cgroup *cgrp, const char *path). Comes before anybody can be in the new group: if it has the name and
 * the parent of the one that counts, it counts from now on. Groups of version 1 come here too, and ids are each hierarchy's
 * own: every root has 1. Attached for FILTER_CGROUP alone.
 */
SEC("tp_btf/cgroup_mkdir") int cgroup_again(u64 *ctx)
{
	const struct cgroup *cgroup = (const void *)ctx[0];
	const struct cgroup *parent = (const void *)cgroup->self.parent;
	const struct kernfs_node *node = 0;
	union {
		char text[CGROUP_NAME];
		u64 words[CGROUP_NAME / sizeof(u64)];
	} name = {};
	u64 id = 0;

	if (cgroup->root->hierarchy_id != 0)
		return 0;
	bpf_probe_read_kernel(&node, sizeof(node), &parent->kn);
	bpf_probe_read_kernel(&id, sizeof(id), &node->id);
	if (id != cgroup_parent)
		return 0;
	node = cgroup->kn;
	bpf_probe_read_kernel_str(name.text, sizeof(name.text), node->name);
#pragma unroll
	for (u32 i = 0; i < CGROUP_NAME / sizeof(u64); i++)
		if (name.words[i] != ((const volatile u64 *)cgroup_name)[i])
			return 0;
	filter_target.reborn = node->id;
	return 0;
}
