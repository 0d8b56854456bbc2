/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Symbolic links made, and programs started: with how many arguments.
 */
#define CORE_ONLY /* the number of arguments is in a structure of the kernel */
#include <probe.h>

enum slot {
	SYMLINK_MAKE,
	EXEC_CALLS,
	SLOTS,
};

license;
totals_map(SLOTS);

/* int vfs_symlink(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry, const char *oldname)
 * 6521f8917082 ("namei: prepare for idmapped mounts"), 5.12 */
function(vfs_symlink, SYMLINK_MAKE, 4, status)
/* int vfs_symlink(struct inode *dir, struct dentry *dentry, const char *oldname) */
another_arity(vfs_symlink, SYMLINK_MAKE, 3, status)
/* int vfs_symlink(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry, const char *oldname,
 *		   struct delegated_inode *delegated_inode): seen on 7.2, not on 6.18 */
another_arity(vfs_symlink, SYMLINK_MAKE, 5, status)

struct linux_binprm {
	int argc;
} relocated;

/* Slot k has those with 2^k to 2^(k+1)-1 arguments, slot 0 also those with none, the last one all that have more. */
#define ARGUMENT_SLOTS 12
struct arguments {
	u64 slots[ARGUMENT_SLOTS];
	u64 sum;
};

struct {
	map_type(BPF_MAP_TYPE_PERCPU_ARRAY);
	map_entries(1);
	map_key(u32);
	map_value(struct arguments);
} arguments SEC(".maps");

/* TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm); p is current */
SEC("tp_btf/sched_process_exec") int sched_process_exec(u64 *ctx)
{
	const struct linux_binprm *binary = (const void *)ctx[2];
	u32 count, slot = 0;
	struct arguments *seen;

	if (!passes())
		return 0;
	add_call(totals_here(), EXEC_CALLS);
	seen = bpf_map_lookup_elem(&arguments, &only_element);
	if (!seen)
		return 0;
	count = binary->argc;
#pragma unroll
	for (u32 k = 1; k < ARGUMENT_SLOTS; k++)
		slot += count >> k != 0;
	/* It is below, which the verifier does not see. */
	if (slot < ARGUMENT_SLOTS)
		seen->slots[slot] += 1;
	seen->sum += count;
	return 0;
}
