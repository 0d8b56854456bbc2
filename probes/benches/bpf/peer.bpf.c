/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads counted the way the older agents do: every number is a map element of its
 * own, found by a look-up of its own and added to with a lock and a check for
 * wrapping; what is to be counted stands in a control map that every event asks;
 * numbers per process are in one hash that all processors share, keyed by the real
 * parent. Written after the description of such an agent, to have something to
 * compare our programs with; nobody ships this.
 *
 * The light programs stop at the control map (accounting per process off), the
 * others go on (on).
 */
#include <kernel.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum number {
	NUMBER_CALLS,
	NUMBER_BYTES,
	NUMBER_ERRORS,
	NUMBERS,
};

struct {
	map_type(BPF_MAP_TYPE_PERCPU_ARRAY);
	map_entries(NUMBERS);
	map_key(u32);
	map_value(u64);
} numbers SEC(".maps");

enum control {
	CONTROL_ENABLED,
	CONTROL_LEVEL,
	CONTROL_ADDED,
	CONTROLS,
};

struct {
	map_type(BPF_MAP_TYPE_ARRAY);
	map_entries(CONTROLS);
	map_key(u32);
	map_value(u32);
} controls SEC(".maps");

struct process {
	u64 bytes;
	u32 calls;
	u32 errors;
};

struct {
	map_type(BPF_MAP_TYPE_HASH);
	map_entries(32768);
	map_key(u32);
	map_value(struct process);
} processes SEC(".maps");

struct task_struct___parent {
	struct task_struct___parent *real_parent;
	int tgid;
} relocated;

#define add_or_restart(number, value)                                                                                  \
	do {                                                                                                           \
		__sync_fetch_and_add((number), (value));                                                               \
		if (~(typeof(*(number)))0 - *(volatile typeof(number))(number) <= (value))                             \
			*(number) = (value);                                                                           \
	} while (0)

inlined void add(u32 key, u64 value)
{
	u64 *number = bpf_map_lookup_elem(&numbers, &key);

	if (number)
		add_or_restart(number, value);
	else
		bpf_map_update_elem(&numbers, &key, &value, 0);
}

inlined u32 asked(u32 key)
{
	u32 *control = bpf_map_lookup_elem(&controls, &key);

	return control ? *control : 0;
}

inlined u32 logarithm(u64 value)
{
	u32 result = 0;

	if (value >> 32) {
		value >>= 32;
		result += 32;
	}
	if (value >> 16) {
		value >>= 16;
		result += 16;
	}
	if (value >> 8) {
		value >>= 8;
		result += 8;
	}
	if (value >> 4) {
		value >>= 4;
		result += 4;
	}
	if (value >> 2) {
		value >>= 2;
		result += 2;
	}
	return result + (value >> 1);
}

inlined u32 real_parent(void)
{
	struct task_struct___parent *task = (void *)bpf_get_current_task(), *parent = 0;
	u32 tgid = 0;

	bpf_probe_read_kernel(&parent, sizeof(parent), &task->real_parent);
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &parent->tgid);
	return tgid;
}

inlined void add_to_process(u64 bytes, u32 failed)
{
	struct process *process, first = {.bytes = bytes, .calls = 1, .errors = failed};
	u32 key;

	asked(CONTROL_LEVEL);
	key = real_parent();
	process = bpf_map_lookup_elem(&processes, &key);
	if (!process) {
		u32 added = CONTROL_ADDED, *control = bpf_map_lookup_elem(&controls, &added);

		bpf_map_update_elem(&processes, &key, &first, 0);
		if (control)
			__sync_fetch_and_add(control, 1);
		return;
	}
	add_or_restart(&process->calls, 1);
	if (failed)
		add_or_restart(&process->errors, 1);
	else
		add_or_restart(&process->bytes, bytes);
}

/* ssize_t vfs_read(struct file *file, char __user *buf, size_t count, loff_t *pos): when it is
 * called there is only the wish, which is then counted. */
inlined void on_call(const struct pt_regs *regs, u32 per_process)
{
	u64 bytes = logarithm(regs->dx);

	add(NUMBER_CALLS, 1);
	add(NUMBER_BYTES, bytes);
	if (asked(CONTROL_ENABLED) | per_process)
		add_to_process(bytes, 0);
}

inlined void on_return(s64 result, u32 per_process)
{
	u64 bytes = result > 0 ? logarithm(result) : 0;

	add(NUMBER_CALLS, 1);
	if (result < 0)
		add(NUMBER_ERRORS, 1);
	else
		add(NUMBER_BYTES, bytes);
	if (asked(CONTROL_ENABLED) | per_process)
		add_to_process(bytes, result < 0);
}

SEC("kprobe") int light__kprobe(struct pt_regs *ctx)
{
	on_call(ctx, 0);
	return 0;
}

SEC("kprobe") int process__kprobe(struct pt_regs *ctx)
{
	on_call(ctx, 1);
	return 0;
}

SEC("kretprobe") int light__kretprobe(struct pt_regs *ctx)
{
	on_return(ctx->ax, 0);
	return 0;
}

SEC("kretprobe") int process__kretprobe(struct pt_regs *ctx)
{
	on_return(ctx->ax, 1);
	return 0;
}

SEC("fexit") int light__fexit(u64 *ctx)
{
	on_return(ctx[4], 0);
	return 0;
}

SEC("fexit") int process__fexit(u64 *ctx)
{
	on_return(ctx[4], 1);
	return 0;
}
