/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What our programs know of the kernel: helper numbers, map types, and the few
 * fields that they read. Structures marked `preserve_access_index` are moved to
 * the running kernel's layout when an object is loaded; the others are user ABI.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define inlined static inline __attribute__((always_inline))
#define relocated __attribute__((preserve_access_index))

/* include/uapi/linux/bpf.h: numbers of helpers and map types are ABI. */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static u64 (*const bpf_get_current_task)(void) = (void *)35;
static long (*const bpf_current_task_under_cgroup)(void *map, u32 index) = (void *)37;
static u64 (*const bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*const bpf_map_push_elem)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const bpf_map_pop_elem)(void *map, void *value) = (void *)88;
static long (*const bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const bpf_probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
/* Linux 5.8 and later. */
static long (*const bpf_ringbuf_output)(void *map, void *data, u64 size, u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *map, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static u64 (*const bpf_ringbuf_query)(void *map, u64 flags) = (void *)134;

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_CGROUP_ARRAY = 8,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_STACK = 23,
	BPF_MAP_TYPE_RINGBUF = 27,
};

#define BPF_NOEXIST 1        /* of an update: the key must be new */
#define BPF_RB_NO_WAKEUP 1   /* of a ring's record: its reader looks by himself */
#define BPF_RB_AVAIL_DATA 0  /* of a ring: bytes that nobody has read yet */
#define BPF_RB_RING_SIZE 1   /* all its bytes */

#define map_type(number) int(*type)[number]
#define map_entries(number) int(*max_entries)[number]
#define map_key(kind) kind *key
#define map_value(kind) kind *value
#define map_flags(bits) int(*map_flags)[bits]

/* Linux 5.5: user space may map the elements into its memory. */
#define BPF_F_MMAPABLE 1024

/*
 * How a call says that a signal interrupted it: by EINTR, or by a code that the caller never sees
 * (linux/errno.h). Whether the call is made again or ends with EINTR is decided later, by the
 * signal's handler. 515 stands between them and is none of them: it is a failed ioctl's.
 */
#define EINTR 4
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ENOIOCTLCMD 515
#define ERESTART_RESTARTBLOCK 516

#define is_interrupted(result)                                                                                         \
	((result) == -EINTR || ((result) <= -ERESTARTSYS && (result) >= -ERESTARTNOHAND) ||                            \
	 (result) == -ERESTART_RESTARTBLOCK)

_Static_assert(is_interrupted(-EINTR) && is_interrupted(-ERESTARTSYS) && is_interrupted(-ERESTARTNOINTR) &&
		       is_interrupted(-ERESTARTNOHAND) && is_interrupted(-ERESTART_RESTARTBLOCK),
	       "what a signal causes");
_Static_assert(!is_interrupted(-ENOIOCTLCMD) && !is_interrupted(-511) && !is_interrupted(-517) && !is_interrupted(-1) &&
		       !is_interrupted(0) && !is_interrupted(4) && !is_interrupted(512),
	       "what has other causes");

#define CLONE_THREAD 0x00010000

struct thread_info {
	u32 status;
} relocated;

struct kernfs_node {
	const char *name;
	u64 id; /* the inode's number, and what bpf_get_current_cgroup_id says */
} relocated;

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
} relocated;

struct cgroup_root {
	int hierarchy_id; /* 0 is version 2's */
} relocated;

struct cgroup {
	struct cgroup_subsys_state self; /* the first field: a pointer to one is one to the other */
	struct kernfs_node *kn;
	struct cgroup_root *root;
} relocated;

struct css_set {
	struct cgroup *dfl_cgrp; /* in the hierarchy of version 2 */
} relocated;

typedef struct {
	u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
} relocated;

/* include/linux/sched.h */
#define PF_FORKNOEXEC 0x00000040
#define PF_KTHREAD 0x00200000

struct task_struct {
	struct thread_info thread_info;
	u32 flags;
	int pid;
	int tgid;
	struct task_struct *group_leader;
	u64 start_time;
	u64 start_boottime; /* start_time in other words: it goes on while the machine sleeps */
	const struct cred *cred;
	char comm[16];
	struct css_set *cgroups;
} relocated;

/* Linux 5.11 and later. */
enum bpf_func_id {
	BPF_FUNC_get_current_task_btf = 158,
};
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)BPF_FUNC_get_current_task_btf;

/* Whether the running kernel has a helper: a constant once the object is loaded, so that the
 * verifier never sees the way that is not taken. */
#define has_helper(name) __builtin_preserve_enum_value(*(enum bpf_func_id *)name, 0)

struct kernel_clone_args {
	u64 flags;
} relocated;

/* arch/x86/include/uapi/asm/ptrace.h */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

/* arch/x86/include/asm/thread_info.h: set while a 32-bit system call runs. */
#define TS_COMPAT 0x0002
/* arch/x86/include/uapi/asm/unistd.h */
#define X32_SYSCALL_BIT 0x40000000
