/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs started, by user: a hash map that user space walks, and variables. It has no records.
 */
#define CORE_ONLY /* it has variables */
#include <probe.h>

license;

#define BPF_NOEXIST 1

static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u64 (*const bpf_get_current_uid_gid)(void) = (void *)15;

/* As many users as the map holds; what they start who find no place is in `unplaced`. */
struct {
	map_type(BPF_MAP_TYPE_HASH);
	map_entries(1024);
	map_key(u32);
	map_value(u64);
} started SEC(".maps");

volatile u64 unplaced = 0;
/* When the latest one was started, in ns since the boot. In a section, and so in a map, of its own. */
volatile u64 latest SEC(".data.latest") = 0;

/* TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm) */
SEC("tp_btf/sched_process_exec") int sched_process_exec(u64 *ctx)
{
	u32 user = bpf_get_current_uid_gid();
	u64 none = 0, *count;

	if (!passes())
		return 0;
	latest = bpf_ktime_get_ns();
	count = bpf_map_lookup_elem(&started, &user);
	if (!count) {
		/* Another processor may have been quicker: then its element stays. */
		bpf_map_update_elem(&started, &user, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&started, &user);
	}
	__sync_fetch_and_add(count ? count : &unplaced, 1);
	return 0;
}
