/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the records are.
 *
 * All records of an object are one element of a per-CPU array: user space reads them in one go, and a record whose slot
 * is known only when the event comes costs a shift and an addition.
 *
 * Breakpoints have theirs in an array with an element for each processor, which user space maps: to read one with
 * bpf(2) would make the kernel leave out breakpoints on that processor, and where the reader is preempted, that is long
 * enough to miss events (bpf_disable_instrumentation). Trampolines and tracepoints do not mind, and a per-CPU array
 * costs them less.
 */
#pragma once
#include "abi.h"

/* The only element of `totals`. A key in read-only memory is one instruction, on the stack it is five. */
static const u32 only_element = 0;

#define event_totals(slots)                                                                                            \
	struct records {                                                                                               \
		struct record of[slots];                                                                               \
	} __attribute__((aligned(64))); /* a cache line is one processor's */                                          \
	struct {                                                                                                       \
		map_type(BPF_MAP_TYPE_PERCPU_ARRAY);                                                                   \
		map_entries(1);                                                                                        \
		map_key(u32);                                                                                          \
		map_value(struct records);                                                                             \
	} totals SEC(".maps")

/* The records of a probe, one for each name of its `enum slot`, the last of which is their number. The constant leaves
 * that enum in the object's type information, where user space finds the names. */
#define totals_map(slots)                                                                                              \
	event_totals(slots);                                                                                           \
	struct {                                                                                                       \
		map_type(BPF_MAP_TYPE_ARRAY);                                                                          \
		map_flags(BPF_F_MMAPABLE);                                                                             \
		map_entries(1); /* as many as processors, when it is loaded */                                         \
		map_key(u32);                                                                                          \
		map_value(struct records);                                                                             \
	} kprobe_totals SEC(".maps");                                                                                  \
	const enum slot number_of_slots = (slots)

/* The records of this processor, one after the other; NULL, which never comes, to the verifier. */
#define totals_here() ((struct record *)bpf_map_lookup_elem(&totals, &only_element))

/* Those of breakpoints, whose handlers stay on their processor. */
#define kprobe_totals_here()                                                                                           \
	({                                                                                                             \
		u32 cpu = bpf_get_smp_processor_id();                                                                  \
		(struct record *)bpf_map_lookup_elem(&kprobe_totals, &cpu);                                            \
	})
