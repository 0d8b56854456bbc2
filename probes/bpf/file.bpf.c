/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files: opened, closed, read, written, deleted.
 *
 * Which function serves on which kernel is said in src/file.rs; prototypes are quoted here because the program at a
 * function's end reads the result behind the arguments.
 */
#define BY_WHOM
#include <probe.h>

enum slot {
	FILE_OPEN,
	FILE_CLOSE,
	FILE_READ,
	FILE_READV,
	FILE_WRITE,
	FILE_WRITEV,
	FILE_UNLINK,
	FILE_EITHER_READV, /* where one function serves both readv and writev */
	FILE_EITHER_WRITEV,
	SLOTS,
};

license;
totals_map(SLOTS);

/* Both return a descriptor or an error: a long once, an int in newer kernels (seen on 7.2), whose upper
 * half is not defined. The lower half says it all.
 * long do_sys_openat2(int dfd, const char __user *filename, struct open_how *how)
 * fddb5d430ad9 ("open: introduce openat2(2) syscall"), 5.6 */
function(do_sys_openat2, FILE_OPEN, 3, status)
/* long do_sys_open(int dfd, const char __user *filename, int flags, umode_t mode) */
function(do_sys_open, FILE_OPEN, 4, status)

/* struct file *file_close_fd(unsigned int fd): a88c955fcfb4 ("file: s/close_fd_get_file()/file_close_fd()/g"), 6.8 */
function(file_close_fd, FILE_CLOSE, 1, pointer)
function(close_fd_get_file, FILE_CLOSE, 1, pointer)
/* int close_fd(unsigned fd): 8760c909f54a ("file: Rename __close_fd to close_fd and remove the files parameter"), 5.11 */
function(close_fd, FILE_CLOSE, 1, status)
/* int __close_fd(struct files_struct *files, unsigned fd) */
function(__close_fd, FILE_CLOSE, 2, status)

/* ssize_t vfs_read(struct file *file, char __user *buf, size_t count, loff_t *pos) */
function(vfs_read, FILE_READ, 4, size)
/* ssize_t vfs_readv(struct file *file, const struct iovec __user *vec, unsigned long vlen, loff_t *pos, rwf_t flags) */
function(vfs_readv, FILE_READV, 5, size)
/* What the vectors of 32-bit programs go by from 4.13 to 5.9, without vfs_readv. */
breakpoint(compat_readv, FILE_READV, size)
/* ssize_t vfs_write(struct file *file, const char __user *buf, size_t count, loff_t *pos) */
function(vfs_write, FILE_WRITE, 4, size)
/* ssize_t vfs_writev(struct file *file, const struct iovec __user *vec, unsigned long vlen, loff_t *pos, rwf_t flags) */
function(vfs_writev, FILE_WRITEV, 5, size)
/* As compat_readv. */
breakpoint(compat_writev, FILE_WRITEV, size)

/* int vfs_unlink(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry, struct inode **delegated)
 * 6521f8917082 ("namei: prepare for idmapped mounts"), 5.12 */
function(vfs_unlink, FILE_UNLINK, 4, status)
/* int vfs_unlink(struct inode *dir, struct dentry *dentry, struct inode **delegated) */
another_arity(vfs_unlink, FILE_UNLINK, 3, status)

#ifdef FLOOR
/*
 * Linux 4.11 and 4.12: vfs_readv and vfs_writev are short enough to be inlined into their callers. What both come to is
 *
 * ssize_t do_readv_writev(int type, struct file *file, const struct iovec __user *uvector, ...)
 *
 * which says in its first argument what it is: 0 (READ) or 1 (WRITE). Its programs stand there for the other counter as
 * well, hence the records of their own. 32-bit calls come to compat_do_readv_writev, of the same arguments.
 */
#define either(type) ((u32)(type) != 0 ? FILE_EITHER_WRITEV : FILE_EITHER_READV)

SEC("kprobe") int do_readv_writev__kprobe(struct pt_regs *ctx)
{
	u64 type = ctx->di;

	if (passes())
		add_call(totals_here(), either(type));
	return 0;
}

/* The types of the calls under way, by task. */
calls_under_way(vectors);

SEC("kprobe") int do_readv_writev_enter__kprobe(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), type = ctx->di;

	if (passes())
		bpf_map_update_elem(&vectors, &task, &type, 0);
	return 0;
}

SEC("kretprobe") int do_readv_writev__kretprobe_size(struct pt_regs *ctx)
{
	u64 task = bpf_get_current_pid_tgid(), result = ctx->ax;
	u64 *type = bpf_map_lookup_elem(&vectors, &task);

	if (!type)
		return 0;
	add_size(totals_here(), either(*type), result);
	bpf_map_delete_elem(&vectors, &task);
	return 0;
}
#endif
