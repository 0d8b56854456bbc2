/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every program does: pass the filter, find its record, add.
 *
 * Records are per processor and each is written by one program only, so a plain
 * add is exact: the kernel does not run a program again on a processor where it
 * is already running (it counts a miss instead).
 */
#pragma once
#include "abi.h"

#define license char _license[] SEC("license") = "Dual BSD/GPL"

/*
 * Where the records are. Breakpoints have theirs in an array with an element for
 * each processor, which user space maps: to read one with bpf(2) would make the
 * kernel leave out breakpoints on that processor meanwhile, and where the reader
 * is preempted, that is long enough to miss events (bpf_disable_instrumentation).
 * Trampolines and tracepoints do not mind, and a per-CPU array costs them less.
 */
#define totals_map(slots)                                                                                              \
	struct {                                                                                                       \
		map_type(BPF_MAP_TYPE_PERCPU_ARRAY);                                                                   \
		map_entries(slots);                                                                                    \
		map_key(u32);                                                                                          \
		map_value(struct record);                                                                              \
	} totals SEC(".maps");                                                                                         \
	struct records {                                                                                               \
		struct record of[slots];                                                                               \
	} __attribute__((aligned(64))); /* a cache line is one processor's */                                          \
	struct {                                                                                                       \
		map_type(BPF_MAP_TYPE_ARRAY);                                                                          \
		map_flags(BPF_F_MMAPABLE);                                                                             \
		map_entries(1); /* as many as processors, when it is loaded */                                         \
		map_key(u32);                                                                                          \
		map_value(struct records);                                                                             \
	} kprobe_totals SEC(".maps")

/* Frozen when the object is loaded: the verifier removes the branches of the other kinds. */
const volatile u32 filter_kind = FILTER_NONE;
/* Changes from the agent's own thread group during the self-test to the wanted one, and to nobody when that has ended. */
volatile struct target filter_target = {};

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

/*
 * The record of a slot that is known here, and of one that is known when the event comes.
 * A key in read-only memory is one instruction, on the stack it is five.
 */
#define record_of(slot)                                                                                                \
	({                                                                                                             \
		static const u32 key = (slot);                                                                         \
		(struct record *)bpf_map_lookup_elem(&totals, &key);                                                   \
	})
#define record_at(slot) ((struct record *)bpf_map_lookup_elem(&totals, &(u32){(slot)}))

/* The record of a slot for a breakpoint, whose handler stays on its processor. */
#define kprobe_record(slot)                                                                                            \
	({                                                                                                             \
		u32 cpu = bpf_get_smp_processor_id();                                                                  \
		struct records *records = bpf_map_lookup_elem(&kprobe_totals, &cpu);                                   \
		records ? &records->of[slot] : (struct record *)0;                                                     \
	})

/* Adds a call. */
inlined void add_call(struct record *record)
{
	if (record)
		record->calls += 1;
}

/* Adds what became of a call that did not succeed. Not on the way of one that did. */
inlined void add_failure(struct record *record, s64 result)
{
	if (is_interrupted(result))
		record->interrupted += 1;
	else
		record->errors += 1;
}

/* Adds a call that is over: one that says by an int below zero that it failed, */
inlined void add_status(struct record *record, u64 result)
{
	s32 status = result;

	if (!record)
		return;
	record->calls += 1;
	if (status < 0)
		add_failure(record, status);
}

/* by NULL, */
inlined void add_pointer(struct record *record, u64 result)
{
	if (!record)
		return;
	record->calls += 1;
	if (!result)
		record->errors += 1;
}

/* or by a number of bytes below zero. */
inlined void add_size(struct record *record, u64 result)
{
	s64 size = result;

	if (!record)
		return;
	record->calls += 1;
	if (size >= 0) {
		record->bytes += size;
		/* Else the compiler makes one addition of both, and every event chooses its operands. */
		asm volatile("");
	} else {
		add_failure(record, size);
	}
}

/*
 * One program per way to hook a function:
 *   on_call:     fentry and kprobe; counts calls, reads nothing, so it fits any function
 *   on_return:   fexit; the result stands behind the `arity` arguments
 *   on_kreturn:  kretprobe; the result is in the return register
 */
#define on_call(name, slot)                                                                                            \
	SEC("fentry") int name##__fentry(u64 *ctx)                                                                     \
	{                                                                                                              \
		if (passes())                                                                                          \
			add_call(record_of(slot));                                                                     \
		return 0;                                                                                              \
	}                                                                                                              \
	SEC("kprobe") int name##__kprobe(struct pt_regs *ctx)                                                          \
	{                                                                                                              \
		if (passes())                                                                                          \
			add_call(kprobe_record(slot));                                                                 \
		return 0;                                                                                              \
	}

#define on_return(name, slot, arity, add)                                                                              \
	SEC("fexit") int name##__fexit##arity(u64 *ctx)                                                                \
	{                                                                                                              \
		u64 result = ctx[arity];                                                                               \
		if (passes())                                                                                          \
			add(record_of(slot), result);                                                                  \
		return 0;                                                                                              \
	}

#define on_kreturn(name, slot, add)                                                                                    \
	SEC("kretprobe") int name##__kretprobe(struct pt_regs *ctx)                                                    \
	{                                                                                                              \
		u64 result = ctx->ax;                                                                                  \
		if (passes())                                                                                          \
			add(kprobe_record(slot), result);                                                              \
		return 0;                                                                                              \
	}
