/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls: those that the tables name, counted when they are over. User space writes the tables while the programs
 * run, so one program serves the calls of all probes, and a probe comes and goes without it.
 *
 * An entry that is just being changed has flags and no record: record 0 is nobody's, and whatever counts in it is lost
 * on purpose. To look for such an entry would cost every call that counts.
 */
#define BY_WHOM
#include <probe.h>
#ifdef FLOOR
#include <floor_syscall.h>
#else
#include <syscall.h>
#endif

license;

/* The records of all calls, by the numbers in the entries. */
#ifdef FLOOR
totals_map(RECORDS);
#else
event_totals(CALL_RECORDS);
#endif

/* The record of a call, in one register: else the compiler keeps what it computed it from for the ways of failures. */
inlined struct record *record_in(struct record *records, u64 call)
{
	struct record *record = &records[call & CALL_RECORD];

	asm volatile("" : "+r"(record));
	__builtin_assume(record != 0);
	return record;
}

/* Counts a call that is over. Each way finds the record by itself: found before, it and the flags would be copied to
 * registers of their own. */
inlined void count(struct record *records, u64 call, u64 result)
{
	/* The uppermost bit, so that a comparison does. */
	if (call >= CALL_SIZE) {
		add_size(record_in(records, call), 0, result);
	} else {
		asm volatile("" : "+r"(call));
		add_status(record_in(records, call), 0, result);
	}
}

#ifndef FLOOR
volatile union watched calls[SYSCALL_LIMIT] SEC(".data.calls") = {};
volatile struct split splits[RECORDS] SEC(".data.splits") = {};

/* Whether a call counts in the record after its own. What it needs is read again or kept on the stack: a register that
 * outlives a helper is saved by every system call of the machine. */
inlined int splits_off(volatile u64 *ctx, u64 call)
{
	enum abi abi = syscall_abi();
	volatile struct split *split = &splits[call & CALL_RECORD];
	u64 value = syscall_argument((void *)ctx[0], abi, split->argument);
	volatile u64 bits = split->bits;

	/* One that cannot be read is 0. */
	if (split->is_pointer)
		bpf_probe_read_user(&value, sizeof(value), (const void *)value);
	return (value & bits) != 0;
}

/* TP_PROTO(struct pt_regs *regs, long ret). A forked child leaves its call as well, with 0. */
SEC("tp_btf/sys_exit") int sys_exit(u64 *ctx)
{
	u64 call = watched_call((void *)ctx[0], calls);
	struct record *records;

	if (!call || !passes())
		return 0;
	if (call & CALL_SPLITS)
		call += splits_off(ctx, call);
	records = totals_here();
	if (records)
		count(records, call, ctx[1]);
	return 0;
}
#else
map_of(calls, BPF_MAP_TYPE_ARRAY, u32, union watched, SYSCALL_LIMIT);
map_of(splits, BPF_MAP_TYPE_ARRAY, u32, struct split, RECORDS);

/* The argument that decides, of the calls that split and are under way, by task. */
calls_under_way(under_way);

/* Both entries of a number, read once. */
inlined u32 entries_of(u64 number)
{
	u32 key = number & ~(u64)X32_SYSCALL_BIT;
	const volatile union watched *entries = bpf_map_lookup_elem(&calls, &key);

	return entries ? entries->any : 0;
}

inlined const struct split *split_of(u64 call)
{
	u32 record = call & CALL_RECORD;

	return bpf_map_lookup_elem(&splits, &record);
}

inlined void add_to_totals(u64 call, u64 result)
{
	struct record *records = totals_here();

	if (records)
		count(records, call, result);
}

/* The value that an argument holds or points to; one that cannot be read is 0. */
inlined u64 deciding(const struct split *split, u64 argument)
{
	u64 value = 0;

	if (!split->is_pointer)
		return argument;
	bpf_probe_read(&value, sizeof(value), (const void *)argument);
	return value;
}

/* syscalls/sys_exit_NAME of a call that does not split. */
SEC("tracepoint") int call_exit__event(struct syscall_exit *ctx)
{
	u64 result = ctx->result, call = native_entry(entries_of(ctx->number));

	if (call && passes())
		add_to_totals(call, result);
	return 0;
}

/* syscalls/sys_enter_NAME of one that does. The argument is read by its address: a program that names the third one
 * cannot be attached to a call that has two. */
SEC("tracepoint") int split_enter__event(struct syscall_enter *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), argument = 0;
	u64 call = native_entry(entries_of(ctx->number)), value;
	const struct split *split;

	if (!call || !passes())
		return 0;
	split = split_of(call);
	if (!split)
		return 0;
	/* Bounded, which a verifier wants of what is added to a pointer. */
	bpf_probe_read(&argument, sizeof(argument), &ctx->args[split->argument & 3]);
	value = deciding(split, argument);
	bpf_map_update_elem(&under_way, &task, &value, 0);
	return 0;
}

/* syscalls/sys_exit_NAME of one that does. One whose beginning was not kept is not counted: it began before, or is a
 * child that leaves the call without having entered it. */
SEC("tracepoint") int split_exit__event(struct syscall_exit *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), result = ctx->result, number = ctx->number, call, value;
	u64 *kept = bpf_map_lookup_elem(&under_way, &task);
	const struct split *split;

	if (!kept)
		return 0;
	value = *kept;
	bpf_map_delete_elem(&under_way, &task);
	call = native_entry(entries_of(number));
	if (!call)
		return 0;
	split = split_of(call);
	if (split && value & split->bits)
		call += 1;
	add_to_totals(call, result);
	return 0;
}

/* raw_syscalls/sys_exit: all calls, where a program cannot stand on single ones. */
SEC("tracepoint") int sys_exit__event(struct raw_exit *ctx)
{
	u64 result = ctx->result, call = entries_of(ctx->number);
	const struct split *split;
	struct user_regs regs = {};
	int native;

	if (!call || !passes())
		return 0;
	read_user_regs(&regs);
	native = is_native(&regs);
	call = native ? native_entry(call) : call >> 16;
	if (!call)
		return 0;
	if (call & CALL_SPLITS) {
		split = split_of(call);
		if (split && deciding(split, user_argument(&regs, native, split->argument)) & split->bits)
			call += 1;
	}
	add_to_totals(call, result);
	return 0;
}
#endif
