/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs that do nothing, one per kind of hook: what is left is what the kernel
 * takes to get here and back. `cargo xtask cost` compares ours with these.
 */
#include <kernel.h>

char _license[] SEC("license") = "Dual BSD/GPL";

#define empty(kind, section)                                                                                           \
	SEC(section) int empty_##kind(void *ctx)                                                                       \
	{                                                                                                              \
		return 0;                                                                                              \
	}

empty(fentry, "fentry")
empty(fexit, "fexit")
empty(kprobe, "kprobe")
empty(kretprobe, "kretprobe")
empty(sys_exit, "tp_btf/sys_exit")
