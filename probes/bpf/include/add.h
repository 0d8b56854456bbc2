/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Adding an event to the record of a slot, of the records that are this processor's.
 *
 * Records are per processor and each is written by one program only, so a plain
 * add is exact: the kernel does not run a program again on a processor where it
 * is already running (it counts a miss instead).
 */
#pragma once
#include "abi.h"

/* One addition. Asking who it was, all processors write one record. */
#ifdef WHO
#define add_to(field, number) __sync_fetch_and_add(&(field), (number))
#else
#define add_to(field, number) ((field) += (number))
#endif

/* Adds a call. */
inlined void add_call(struct record *records, u32 slot)
{
	if (records)
		add_to(records[slot].calls, 1);
}

/* Adds what became of a call that did not succeed. Not on the way of one that did. */
inlined void add_failure(struct record *record, s64 result)
{
	if (is_interrupted(result))
		add_to(record->interrupted, 1);
	else
		add_to(record->errors, 1);
}

/* Adds a call that is over: one that says by an int below zero that it failed, */
inlined void add_status(struct record *records, u32 slot, u64 result)
{
	s32 status = result;
	struct record *record;

	if (!records)
		return;
	record = &records[slot];
	add_to(record->calls, 1);
	if (status < 0)
		add_failure(record, status);
}

/* by NULL, */
inlined void add_pointer(struct record *records, u32 slot, u64 result)
{
	struct record *record;

	if (!records)
		return;
	record = &records[slot];
	add_to(record->calls, 1);
	if (!result)
		add_to(record->errors, 1);
}

/* or by a number of bytes below zero. */
inlined void add_size(struct record *records, u32 slot, u64 result)
{
	s64 size = result;
	struct record *record;

	if (!records)
		return;
	record = &records[slot];
	add_to(record->calls, 1);
	if (size >= 0) {
		add_to(record->bytes, size);
		/* Else the compiler makes one addition of both, and every event chooses its operands. */
		asm volatile("");
	} else {
		add_failure(record, size);
	}
}
