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

#define totals_map(slots)                                                                                              \
	struct {                                                                                                       \
		map_type(BPF_MAP_TYPE_PERCPU_ARRAY);                                                                   \
		map_entries(slots);                                                                                    \
		map_key(u32);                                                                                          \
		map_value(struct record);                                                                              \
	} totals SEC(".maps")

/* Frozen when the object is loaded: the verifier removes the branches of the other kinds. */
const volatile u32 filter_kind = FILTER_NONE;
/* Changes once, from the agent's own thread group during the self-test to the wanted one. */
volatile u32 filter_tgid = 0;

struct {
	map_type(BPF_MAP_TYPE_CGROUP_ARRAY);
	map_entries(1);
	int(*key_size)[sizeof(u32)];
	int(*value_size)[sizeof(u32)];
} filter_cgroup SEC(".maps");

/* Whether an event of this thread group, caused by the current task, is to be counted. */
inlined int passes_for(u32 tgid)
{
	switch (filter_kind) {
	case FILTER_PID:
		return tgid == filter_tgid;
	case FILTER_CGROUP:
		return bpf_current_task_under_cgroup(&filter_cgroup, 0) == 1;
	default:
		return 1;
	}
}

inlined int passes(void)
{
	return passes_for(filter_kind == FILTER_PID ? bpf_get_current_pid_tgid() >> 32 : 0);
}

inlined int is_error(s64 result)
{
	if (result >= -ERESTART_RESTARTBLOCK && result <= -ERESTARTSYS)
		return 0;
	return result < 0;
}

#define record_of(slot) ((struct record *)bpf_map_lookup_elem(&totals, &(u32){(slot)}))

/* Adds a call. */
#define add_call(slot)                                                                                                 \
	({                                                                                                             \
		struct record *record = record_of(slot);                                                               \
		if (record)                                                                                            \
			record->calls += 1;                                                                            \
	})

/* Adds a call that is over. */
#define add_result(slot, error, count)                                                                                 \
	({                                                                                                             \
		struct record *record = record_of(slot);                                                               \
		if (record) {                                                                                          \
			record->calls += 1;                                                                            \
			if (error)                                                                                     \
				record->errors += 1;                                                                   \
			record->bytes += (count);                                                                      \
		}                                                                                                      \
	})

/* How a function says that it failed. */
#define int_error(result) is_error((s32)(result))
#define long_error(result) is_error((s64)(result))
#define null_error(result) ((result) == 0)

#define no_bytes(result) 0
#define positive(result) ((s64)(result) > 0 ? (u64)(result) : 0)

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
			add_call(slot);                                                                                \
		return 0;                                                                                              \
	}                                                                                                              \
	SEC("kprobe") int name##__kprobe(struct pt_regs *ctx)                                                          \
	{                                                                                                              \
		if (passes())                                                                                          \
			add_call(slot);                                                                                \
		return 0;                                                                                              \
	}

#define on_return(name, slot, arity, error, count)                                                                     \
	SEC("fexit") int name##__fexit##arity(u64 *ctx)                                                                \
	{                                                                                                              \
		u64 result = ctx[arity];                                                                               \
		if (passes())                                                                                          \
			add_result(slot, error(result), count(result));                                                \
		return 0;                                                                                              \
	}

#define on_kreturn(name, slot, error, count)                                                                           \
	SEC("kretprobe") int name##__kretprobe(struct pt_regs *ctx)                                                    \
	{                                                                                                              \
		u64 result = ctx->ax;                                                                                  \
		if (passes())                                                                                          \
			add_result(slot, error(result), count(result));                                                \
		return 0;                                                                                              \
	}
