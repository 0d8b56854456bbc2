/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The floor: what every kernel from 4.11 on loads, with or without type
 * information. Classic map definitions, no global data, no functions but inlined
 * ones, no loop, instruction set v1, no field of a kernel structure.
 */
#pragma once
#include "abi.h"

#define license char _license[] SEC("license") = "Dual BSD/GPL"

/* bpf_probe_read: the one name that all these kernels know. */
static long (*const bpf_probe_read)(void *to, u32 size, const void *from) = (void *)4;

enum {
	BPF_MAP_TYPE_HASH = 1,
};

/* struct bpf_map_def of the loaders before BTF */
struct map {
	u32 type;
	u32 key_size;
	u32 value_size;
	u32 max_entries;
	u32 map_flags;
};

/* As many records as the larger of the two objects needs. */
struct map totals SEC("maps") = {
	.type = BPF_MAP_TYPE_PERCPU_ARRAY,
	.key_size = sizeof(u32),
	.value_size = sizeof(struct record),
	.max_entries = FILE_SLOTS,
};
_Static_assert(PROCESS_SLOTS <= FILE_SLOTS, "a record for each slot");

/* Without global data the filter is looked up for each event. Mirrored in src/abi.rs. */
struct filter_setting {
	u32 kind; /* enum filter */
	u32 tgid; /* for FILTER_PID; NOBODY when that process has ended */
};

struct map filter SEC("maps") = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(u32),
	.value_size = sizeof(struct filter_setting),
	.max_entries = 1,
};

struct map filter_cgroup SEC("maps") = {
	.type = BPF_MAP_TYPE_CGROUP_ARRAY,
	.key_size = sizeof(u32),
	.value_size = sizeof(u32),
	.max_entries = 1,
};

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

/* Adds a call that is over, by its result: an error below zero. */
inlined void add(u32 slot, s64 result, u64 bytes)
{
	struct record *record = bpf_map_lookup_elem(&totals, &slot);

	if (!record)
		return;
	record->calls += 1;
	record->bytes += bytes;
	if (result >= 0)
		return;
	if (is_interrupted(result))
		record->interrupted += 1;
	else
		record->errors += 1;
}

/* Results by their type: an int, a long, a pointer where NULL is the error. */
#define int_result(result) ((s32)(result))
#define long_result(result) ((s64)(result))
#define pointer_result(result) ((result) ? 0 : -1)

#define no_bytes(result) 0
#define positive(result) ((s64)(result) > 0 ? (u64)(result) : 0)

#define on_call(name, slot)                                                                                            \
	SEC("kprobe") int name##__kprobe(struct pt_regs *ctx)                                                          \
	{                                                                                                              \
		if (passes())                                                                                          \
			add(slot, 0, 0);                                                                               \
		return 0;                                                                                              \
	}

#define on_kreturn(name, slot, outcome, count)                                                                           \
	SEC("kretprobe") int name##__kretprobe(struct pt_regs *ctx)                                                    \
	{                                                                                                              \
		u64 result = ctx->ax;                                                                                  \
		if (passes())                                                                                          \
			add(slot, outcome(result), count(result));                                                     \
		return 0;                                                                                              \
	}

/*
 * Trace events, where there are no kprobes: the layout of their records is that of the files
 * `format` in tracefs, the same on all these kernels. A 32-bit call does not show in the events of
 * system calls.
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

/* As number_again of hooks.h. */
SEC("tracepoint") int number_again__event(struct newtask *ctx)
{
	u32 only = 0;
	struct filter_setting *setting = bpf_map_lookup_elem(&filter, &only);

	if (setting && setting->kind == FILTER_PID && (u32)ctx->pid == setting->tgid)
		setting->tgid = NOBODY;
	return 0;
}

struct syscall_enter {
	struct event event;
	u64 number;
	u64 args[6];
};

struct syscall_exit {
	struct event event;
	u64 number;
	s64 result;
};

#define on_syscall_exit(name, slot, count)                                                                      \
	SEC("tracepoint") int name##__event(struct syscall_exit *ctx)                                                  \
	{                                                                                                              \
		u64 result = ctx->result;                                                                              \
		if (passes())                                                                                          \
			add(slot, long_result(result), count(result));                                                 \
		return 0;                                                                                              \
	}

/* What a task said when it entered a system call, until it leaves it. One that dies inside leaves its entry, hence LRU. */
#define calls_under_way(name)                                                                                          \
	struct map name SEC("maps") = {                                                                                \
		.type = BPF_MAP_TYPE_LRU_HASH,                                                                         \
		.key_size = sizeof(u64),                                                                               \
		.value_size = sizeof(u64),                                                                             \
		.max_entries = 4096,                                                                                   \
	}
