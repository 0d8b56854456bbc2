/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The floor: what every kernel from 4.11 on loads, with or without type
 * information. Classic map definitions, no global data, no functions but inlined
 * ones, no loop, instruction set v1, no field of a kernel structure.
 */
#pragma once
#include "add.h"

#define license char _license[] SEC("license") = "Dual BSD/GPL"

/* bpf_probe_read: the one name that all these kernels know. */
static long (*const bpf_probe_read)(void *to, u32 size, const void *from) = (void *)4;

/* struct bpf_map_def of the loaders before BTF */
struct map {
	u32 type;
	u32 key_size;
	u32 value_size;
	u32 max_entries;
	u32 map_flags;
};

#define map_of(name, kind, key, value, entries)                                                                        \
	struct map name SEC("maps") = {                                                                                \
		.type = (kind),                                                                                        \
		.key_size = sizeof(key),                                                                               \
		.value_size = sizeof(value),                                                                           \
		.max_entries = (entries),                                                                              \
	}

/* The records of an object: one element that holds them all, for every way to hook. */
#define totals_map(slots)                                                                                              \
	struct records {                                                                                               \
		struct record of[slots];                                                                               \
	};                                                                                                             \
	map_of(totals, BPF_MAP_TYPE_PERCPU_ARRAY, u32, struct records, 1)

/* The records of this processor, one after the other. */
#define totals_here() ((struct record *)bpf_map_lookup_elem(&totals, &(u32){0}))

/* What a task said when it entered a call, until it leaves it. One that dies inside leaves its entry, hence LRU. */
#define calls_under_way(name) map_of(name, BPF_MAP_TYPE_LRU_HASH, u64, u64, 4096)

/* Without global data the filter is looked up for each event. */
map_of(filter, BPF_MAP_TYPE_ARRAY, u32, struct filter_setting, 1);
map_of(filter_cgroup, BPF_MAP_TYPE_CGROUP_ARRAY, u32, u32, 1);

/* Whether an event that the current task causes is to be counted. */
inlined int passes(void)
{
	u32 only = 0;
	struct filter_setting *setting = bpf_map_lookup_elem(&filter, &only);

	if (!setting)
		return 0;
	if (setting->kind == FILTER_PID)
		return bpf_get_current_pid_tgid() >> 32 == setting->tgid;
	if (setting->kind == FILTER_CGROUP)
		return bpf_current_task_under_cgroup(&filter_cgroup, 0) == 1;
	return 1;
}

/*
 * A kernel function in one line, as in hooks.h: here by breakpoints alone, whatever its arity.
 */
#define function_entry(symbol, slot)                                                                                   \
	SEC("kprobe") int symbol##__kprobe(struct pt_regs *ctx)                                                        \
	{                                                                                                              \
		if (passes())                                                                                          \
			add_call(totals_here(), slot);                                                                 \
		return 0;                                                                                              \
	}

#define breakpoint(symbol, slot, fails)                                                                                \
	function_entry(symbol, slot)                                                                                   \
	SEC("kretprobe") int symbol##__kretprobe_##fails(struct pt_regs *ctx)                                          \
	{                                                                                                              \
		u64 result = ctx->ax;                                                                                  \
		if (passes())                                                                                          \
			add_##fails(totals_here(), slot, result);                                                      \
		return 0;                                                                                              \
	}

#define function(symbol, slot, arity, fails) breakpoint(symbol, slot, fails)
#define another_arity(symbol, slot, arity, fails)

/*
 * Trace events, where there are no breakpoints: the layout of their records is that of the files
 * `format` in tracefs, the same on all these kernels.
 */
struct event {
	u64 common;
};

/* The record of task/task_newtask. */
struct newtask {
	struct event event;
	int pid;
	char comm[16];
	int padding;
	u64 clone_flags;
};

/* As number_again of filter.h. */
SEC("tracepoint") int number_again__event(struct newtask *ctx)
{
	u32 only = 0;
	struct filter_setting *setting = bpf_map_lookup_elem(&filter, &only);

	if (setting && setting->kind == FILTER_PID && (u32)ctx->pid == setting->tgid)
		setting->tgid = NOBODY;
	return 0;
}
