/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A kernel function in one line, for kernels with type information: a program for each way to hook it. Each passes the
 * filter, finds its record and adds.
 *
 * Where user space attaches them, and on which kernels a function exists and fires, is said in the probe's Rust file.
 */
#pragma once
#include "add.h"
#include "filter.h"
#ifdef WHO
#include "who.h"
#define TELLS_WHO 1
#else
#include "totals.h"
#define TELLS_WHO 0
/* Those of a process whose task is not current: here all are one. */
#define totals_of(tgid, started) totals_here()
#define kprobe_totals_of(tgid, started) kprobe_totals_here()
#endif

#define license char _license[] SEC("license") = "Dual BSD/GPL"

/* Counts calls and reads nothing, so it fits any function. */
#define entry_trampoline(symbol, slot)                                                                                 \
	SEC("fentry") int symbol##__fentry(u64 *ctx)                                                                   \
	{                                                                                                              \
		if (passes())                                                                                          \
			add_call(totals_here(), slot);                                                                 \
		return 0;                                                                                              \
	}

#define entry_breakpoint(symbol, slot)                                                                                 \
	SEC("kprobe") int symbol##__kprobe(struct pt_regs *ctx)                                                        \
	{                                                                                                              \
		if (passes())                                                                                          \
			add_call(kprobe_totals_here(), slot);                                                          \
		return 0;                                                                                              \
	}

/* The result is in the return register. */
#define return_breakpoint(symbol, slot, fails)                                                                         \
	SEC("kretprobe") int symbol##__kretprobe_##fails(struct pt_regs *ctx)                                          \
	{                                                                                                              \
		u64 result = ctx->ax;                                                                                  \
		if (passes())                                                                                          \
			add_##fails(kprobe_totals_here(), slot, result);                                               \
		return 0;                                                                                              \
	}

/* The end of a function with so many arguments: the result stands behind them. Alone, for one that had another number
 * of them on other kernels. */
#define another_arity(symbol, slot, arity, fails)                                                                      \
	SEC("fexit") int symbol##__fexit_##fails##arity(u64 *ctx)                                                      \
	{                                                                                                              \
		u64 result = ctx[arity];                                                                               \
		if (passes())                                                                                          \
			add_##fails(totals_here(), slot, result);                                                      \
		return 0;                                                                                              \
	}

/* A function that is only hooked by breakpoints. By `fails` (status, pointer, size: add.h) it says that it failed. */
#define breakpoint(symbol, slot, fails)                                                                                \
	entry_breakpoint(symbol, slot) return_breakpoint(symbol, slot, fails)

/* A function of which only the calls count. */
#define function_entry(symbol, slot) entry_trampoline(symbol, slot) entry_breakpoint(symbol, slot)

/* A function. */
#define function(symbol, slot, arity, fails)                                                                           \
	function_entry(symbol, slot) another_arity(symbol, slot, arity, fails) return_breakpoint(symbol, slot, fails)
