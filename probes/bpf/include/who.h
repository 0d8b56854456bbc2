/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the records are, for those who ask which process it was: compiled with -DWHO, in place of totals.h.
 *
 * Each process that does anything has an element, with its records and what is known of it. The elements are an array
 * that user space maps: it reads them without a system call, since bpf(2) on a map makes the kernel leave breakpoints
 * out on that processor. All processors write one element, so additions are atomic, and memory does not grow with
 * their number.
 *
 * What an element holds is taken out of it and told through a ring buffer where it belongs to somebody else from then
 * on: when the process is over, when it gets another name, when it moves to another control group. What is known of it
 * stands beside the numbers, so that both are of one moment.
 */
#pragma once
#include "abi.h"

/* What stands before the records of an element: src/who/abi.rs. */
struct head {
	u64 turn;    /* even: the element is one process's, under one name in one control group; odd or 0: it is changing, or
		      * nobody's. Never falls, so place and turn are nobody else's ever */
	u64 started; /* of the process: ns since the boot */
	u64 cgroup;  /* of its leader, in the hierarchy of version 2 */
	u32 tgid;
	u32 uid;     /* in the initial namespace, when it got its name */
	u32 flags;
	u32 lost;    /* of LOST alone: how many ends the ring had no room for */
	char comm[16];
	u64 unused;
};
_Static_assert(sizeof(struct head) == 64, "records begin with a cache line");

#define HEAD_KERNEL 1 /* a thread of the kernel */
#define HEAD_FRESH 2  /* it has run no program since it was forked: its name is the parent's */

/* Places that are no process's. */
#define OTHER 0  /* what found no place */
#define LOST 1   /* what was in elements that were given back and could not be told */
#define PLACES 2 /* the first one of a process */

/* What the ring says of an element; the records follow. */
struct taken {
	u32 place;
	u32 is_over; /* the process is; else it goes on under another name or elsewhere */
	struct head head;
	u64 words[];
};

/* A control group that was made. A record in the ring is as long as its path, so that there is room for some thousands. */
#define GROUP_PATH 496
struct group {
	u64 id;
	u64 length; /* of the path and its zero; GROUP_PATH if it may be longer, below 0 if it could not be read */
	char path[GROUP_PATH];
};

/* Nearly all paths are shorter than this, and fit onto the stack. */
#define SHORT_PATH 240
struct short_group {
	u64 id;
	s64 length;
	char path[SHORT_PATH];
};

/* As many as the configuration says, when the object is loaded. */
struct {
	map_type(BPF_MAP_TYPE_HASH);
	map_entries(1);
	map_key(u32); /* thread group */
	map_value(u32);
} places SEC(".maps");

struct {
	map_type(BPF_MAP_TYPE_STACK);
	map_entries(1);
	int(*value_size)[sizeof(u32)];
} vacant SEC(".maps");

struct {
	map_type(BPF_MAP_TYPE_RINGBUF);
	map_entries(4096);
} ends SEC(".maps");

struct {
	map_type(BPF_MAP_TYPE_RINGBUF);
	map_entries(262144);
} groups SEC(".maps");

/* Where a thread group's place was seen last, by the end of its number: right if the element there has the whole number.
 * A look here and at the element is some ten instructions, one into the hash a hundred. */
#define HINTS 32768
static u32 hints[HINTS];

/* Defined by totals_map, which knows how many records there are. */
extern struct elements elements;
static const u32 words_per_element;

#define event_totals(slots)                                                                                            \
	struct element {                                                                                               \
		struct head head;                                                                                      \
		struct record of[slots];                                                                               \
	} __attribute__((aligned(64)));                                                                                \
	struct elements {                                                                                              \
		map_type(BPF_MAP_TYPE_ARRAY);                                                                          \
		map_flags(BPF_F_MMAPABLE);                                                                             \
		map_entries(1);                                                                                        \
		map_key(u32);                                                                                          \
		map_value(struct element);                                                                             \
	} elements SEC(".maps");                                                                                       \
	static const u32 words_per_element = (slots) * sizeof(struct record) / sizeof(u64)

#define totals_map(slots)                                                                                              \
	event_totals(slots);                                                                                           \
	const enum slot number_of_slots = (slots)

inlined struct head *element_at(u32 place)
{
	return bpf_map_lookup_elem(&elements, &place);
}

/* What is known of the current task's process. */
inlined void fill(struct head *head)
{
	head->flags = 0;
	head->lost = 0;
	if (has_helper(BPF_FUNC_get_current_task_btf)) {
		const struct task_struct *leader = bpf_get_current_task_btf()->group_leader;
		u32 flags = leader->flags;

		head->started = leader->start_boottime;
		head->cgroup = leader->cgroups->dfl_cgrp->kn->id;
		head->uid = leader->cred->uid.val;
		if (flags & PF_KTHREAD)
			head->flags |= HEAD_KERNEL;
		if (flags & PF_FORKNOEXEC)
			head->flags |= HEAD_FRESH;
#pragma unroll
		for (u32 i = 0; i < sizeof(head->comm); i++)
			head->comm[i] = leader->comm[i];
	} else {
		const struct task_struct *task = (const void *)bpf_get_current_task();
		const struct task_struct *leader = 0;
		const struct css_set *set = 0;
		const struct cgroup *cgroup = 0;
		const struct kernfs_node *node = 0;
		const struct cred *cred = 0;
		u32 flags = 0;

		bpf_probe_read_kernel(&leader, sizeof(leader), &task->group_leader);
		bpf_probe_read_kernel(&head->started, sizeof(head->started), &leader->start_boottime);
		bpf_probe_read_kernel(&set, sizeof(set), &leader->cgroups);
		bpf_probe_read_kernel(&cgroup, sizeof(cgroup), &set->dfl_cgrp);
		bpf_probe_read_kernel(&node, sizeof(node), &cgroup->kn);
		bpf_probe_read_kernel(&head->cgroup, sizeof(head->cgroup), &node->id);
		bpf_probe_read_kernel(&cred, sizeof(cred), &leader->cred);
		bpf_probe_read_kernel(&head->uid, sizeof(head->uid), &cred->uid.val);
		bpf_probe_read_kernel(&flags, sizeof(flags), &leader->flags);
		bpf_probe_read_kernel(head->comm, sizeof(head->comm), leader->comm);
		if (flags & PF_KTHREAD)
			head->flags |= HEAD_KERNEL;
		if (flags & PF_FORKNOEXEC)
			head->flags |= HEAD_FRESH;
	}
}

/* Gives the current task's process an element, and says where. */
static __attribute__((noinline)) u32 newcomer(void)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, place = OTHER, *known;
	struct head *head;

	if (bpf_map_pop_elem(&vacant, &place))
		return OTHER;
	head = element_at(place);
	if (!head)
		return OTHER;
	fill(head);
	if (!bpf_map_update_elem(&places, &tgid, &place, BPF_NOEXIST)) {
		head->tgid = tgid;
		*(volatile u64 *)&head->turn = (head->turn | 1) + 1;
		return place;
	}
	/* Another thread was quicker, or the kernel has no room for the key. */
	bpf_map_push_elem(&vacant, &place, 0);
	known = bpf_map_lookup_elem(&places, &tgid);
	return known ? *known : OTHER;
}

/* The records of an element. */
inlined struct record *records_at(u32 place)
{
	struct head *head = element_at(place);

	return head ? (struct record *)(head + 1) : 0;
}

/* The current task's process has no hint, or that of another one. */
static __attribute__((noinline)) u32 unhinted(void)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	u32 *known = bpf_map_lookup_elem(&places, &tgid), place = known ? *known : newcomer();

	hints[tgid % HINTS] = place;
	return place;
}

/* The records of the current task's process. Its element stays its own as long as it has a task that runs. */
inlined struct record *totals_here(void)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, place = hints[tgid % HINTS];
	struct head *head = element_at(place);

	if (head && head->tgid == tgid && place >= PLACES)
		return (struct record *)(head + 1);
	return records_at(unhinted());
}

#define kprobe_totals_here() totals_here()

/* Those of a task's process that is not current, by when the task began: no process began after its tasks, and one that has
 * the number by now did. It may be over, or have done nothing yet. */
inlined struct record *totals_of(u32 tgid, u64 started)
{
	u32 *place = bpf_map_lookup_elem(&places, &tgid), at = place ? *place : OTHER;
	struct head *head = element_at(at);

	if (head && at != OTHER && head->started > started)
		head = element_at(OTHER);
	return head ? (struct record *)(head + 1) : 0;
}

#define kprobe_totals_of(tgid, started) totals_of(tgid, started)

/* Whoever takes from an element claims it first, as a key of `places` that is no thread group's: a thread that names its
 * process and another that moves it, or the end of a process and a new one with its number, come at the same time. */
#define CLAIM 0x80000000u
#define CLAIMS 1024 /* at once; one a processor */

static __attribute__((noinline)) int claim(u32 place)
{
	u32 key = place | CLAIM;

	return !bpf_map_update_elem(&places, &key, &place, BPF_NOEXIST);
}

inlined void let_go(u32 place)
{
	u32 key = place | CLAIM;

	bpf_map_delete_elem(&places, &key);
}

/* Whether the ring has room. Half of it is kept for processes that are over: one that names itself in a loop must not make
 * others' ends be lost. */
inlined int has_room(u32 is_over)
{
	return is_over || 2 * bpf_ringbuf_query(&ends, BPF_RB_AVAIL_DATA) < bpf_ringbuf_query(&ends, BPF_RB_RING_SIZE);
}

/* Moves what a claimed element holds to the ring and makes it odd. Where that has no room, it is added to what is lost if
 * the process is over, and stays where it is otherwise. Gives the turn that comes next. */
static __attribute__((noinline)) u64 take(u32 place, u32 is_over)
{
	struct head *head = element_at(place), *lost;
	struct taken *taken;
	u64 *words, *to;
	u64 turn;

	if (!head)
		return 0;
	words = (u64 *)(head + 1);
	turn = head->turn;
	*(volatile u64 *)&head->turn = turn + 1;
	taken = has_room(is_over) ? bpf_ringbuf_reserve(&ends, sizeof(*taken) + words_per_element * sizeof(u64), 0) : 0;
	if (taken) {
		taken->place = place;
		taken->is_over = is_over;
		taken->head = *head;
		taken->head.turn = turn;
		to = taken->words;
		for (u32 i = 0; i < words_per_element; i++) {
			u64 value = ((volatile u64 *)words)[i];

			to[i] = value;
			/* What another thread adds meanwhile stays. */
			__sync_fetch_and_add(&words[i], -value);
		}
		bpf_ringbuf_submit(taken, BPF_RB_NO_WAKEUP);
		return turn + 2;
	}
	lost = element_at(LOST);
	if (lost && is_over) {
		u64 *all = (u64 *)(lost + 1);

		for (u32 i = 0; i < words_per_element; i++) {
			u64 value = ((volatile u64 *)words)[i];

			__sync_fetch_and_add(&all[i], value);
			__sync_fetch_and_add(&words[i], -value);
		}
		/* Last: who sees it finds what was lost. */
		__sync_fetch_and_add(&lost->lost, 1);
	}
	/* What could not be told goes on. */
	return turn;
}

/* A change of what is known of a process. */
struct change {
	u64 turn; /* that comes then; 0 where whoever gave it the element has not come so far */
	u32 place;
	u32 is_claimed;
};

/* Claims an element and makes its turn odd, so that nobody reads it while what is known of it changes; with what it holds
 * taken out of it if that is somebody else's. What somebody else has claimed changes all the same. */
inlined struct change begin_change(struct head *head, u32 place, int is_another)
{
	struct change change = {.place = place, .is_claimed = claim(place)};
	u64 turn = *(volatile u64 *)&head->turn;

	if (!change.is_claimed || !turn || turn & 1)
		return change;
	if (is_another) {
		change.turn = take(place, 0);
	} else {
		*(volatile u64 *)&head->turn = turn + 1;
		change.turn = turn;
	}
	return change;
}

inlined void end_change(struct head *head, struct change change)
{
	if (!change.is_claimed)
		return;
	/* The processor stores in order, the compiler shall, too. */
	asm volatile("" ::: "memory");
	if (change.turn)
		*(volatile u64 *)&head->turn = change.turn;
	let_go(change.place);
}

/* Takes the element from a process that is over. Who comes second finds another one, or none. */
static __attribute__((noinline)) int give_back(u32 tgid, u32 place)
{
	u32 *known;

	if (!claim(place))
		return 0;
	known = bpf_map_lookup_elem(&places, &tgid);
	if (known && *known == place) {
		struct head *head = element_at(place);

		take(place, 1);
		if (head)
			head->tgid = NOBODY;
		bpf_map_delete_elem(&places, &tgid);
		bpf_map_push_elem(&vacant, &place, 0);
	}
	let_go(place);
	return 0;
}

/*
 * TP_PROTO(struct task_struct *p). All of an exit is over, its closes included, and so is every thread: the leader is
 * released last. A thread that runs a program takes its leader's number; the former leader has another by now.
 */
SEC("tp_btf/sched_process_free") int who_free(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];
	u32 tgid = task->tgid, *place;
	u64 started = task->start_boottime;
	struct head *head;

	if ((u32)task->pid != tgid)
		return 0;
	place = bpf_map_lookup_elem(&places, &tgid);
	head = place ? element_at(*place) : 0;
	/* The number may be another process's already. */
	if (head && head->started == started)
		give_back(tgid, *place);
	return 0;
}

/* TP_PROTO(struct task_struct *task, unsigned long clone_flags). A number may be given away before its former process is
 * freed; the new one has not run yet. */
SEC("tp_btf/task_newtask") int who_new(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];
	u32 tgid = task->pid, *place;

	if (ctx[1] & CLONE_THREAD)
		return 0;
	place = bpf_map_lookup_elem(&places, &tgid);
	if (place)
		give_back(tgid, *place);
	return 0;
}

/*
 * TP_PROTO(struct task_struct *task, const char *comm), before the name changes. What a process does between fork and
 * exec belongs to the name that it gets then: its first program clears PF_FORKNOEXEC before it is named after it.
 */
SEC("tp_btf/task_rename") int who_rename(u64 *ctx)
{
	const struct task_struct *task = (const void *)ctx[0];
	u32 tgid = task->tgid, flags = task->flags, is_first, *place;
	union {
		char text[16];
		u64 words[2];
	} name = {};
	struct change change;
	struct head *head;
	u64 *comm;

	if ((u32)task->pid != tgid)
		return 0;
	place = bpf_map_lookup_elem(&places, &tgid);
	head = place ? element_at(*place) : 0;
	if (!head)
		return 0;
	bpf_probe_read_kernel_str(name.text, sizeof(name.text), (const void *)ctx[1]);
	is_first = (head->flags & HEAD_FRESH) && !(flags & PF_FORKNOEXEC);
	comm = (u64 *)head->comm;
	change = begin_change(head, *place, !is_first && (name.words[0] != comm[0] || name.words[1] != comm[1]));
	if (!(flags & PF_FORKNOEXEC))
		head->flags &= ~HEAD_FRESH;
	head->uid = task->cred->uid.val;
	comm[0] = name.words[0];
	comm[1] = name.words[1];
	end_change(head, change);
	return 0;
}

/* TP_PROTO(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup). A process counts in the
 * group of its leader. */
SEC("tp_btf/cgroup_attach_task") int who_moved(u64 *ctx)
{
	const struct cgroup *cgroup = (const void *)ctx[0];
	const struct task_struct *task = (const void *)ctx[2];
	u32 tgid = task->tgid, *place;
	struct change change;
	struct head *head;
	u64 id;

	if (cgroup->root->hierarchy_id != 0 || (u32)task->pid != tgid)
		return 0;
	id = cgroup->kn->id;
	place = bpf_map_lookup_elem(&places, &tgid);
	head = place ? element_at(*place) : 0;
	if (!head || head->cgroup == id)
		return 0;
	change = begin_change(head, *place, 1);
	head->cgroup = id;
	end_change(head, change);
	return 0;
}

/* TP_PROTO(struct cgroup *cgrp, const char *path). A group may be gone before user space looks for it. */
SEC("tp_btf/cgroup_mkdir") int who_made(u64 *ctx)
{
	const struct cgroup *cgroup = (const void *)ctx[0];
	struct short_group made = {};
	struct group *group;
	u64 size;

	if (cgroup->root->hierarchy_id != 0)
		return 0;
	made.id = cgroup->kn->id;
	made.length = bpf_probe_read_kernel_str(made.path, sizeof(made.path), (const void *)ctx[1]);
	size = made.length;
	/* The verifier follows one register, which is compared and added to here. */
	asm volatile("" : "+r"(size));
	if (size < SHORT_PATH) {
		bpf_ringbuf_output(&groups, &made, size + __builtin_offsetof(struct short_group, path), BPF_RB_NO_WAKEUP);
		return 0;
	}
	group = bpf_ringbuf_reserve(&groups, sizeof(*group), 0);
	if (!group)
		return 0;
	group->id = made.id;
	group->length = bpf_probe_read_kernel_str(group->path, sizeof(group->path), (const void *)ctx[1]);
	bpf_ringbuf_submit(group, BPF_RB_NO_WAKEUP);
	return 0;
}
