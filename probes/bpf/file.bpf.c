/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files: opened, closed, read, written, deleted.
 *
 * Which function a program is attached to, and on which kernels that function
 * exists and fires, is said in src/file.rs; prototypes are quoted here because a
 * program of on_return() reads the result behind the arguments.
 */
#include "include/syscall.h"

license;
totals_map(FILE_SLOTS);

on_call(open, FILE_OPEN)
on_call(close, FILE_CLOSE)
on_call(read, FILE_READ)
on_call(readv, FILE_READV)
on_call(write, FILE_WRITE)
on_call(writev, FILE_WRITEV)
on_call(unlink, FILE_UNLINK)

/* Both return a descriptor or an error: a long once, an int in newer kernels (seen on 7.2), whose upper
 * half is not defined. The lower half says it all.
 * long do_sys_open(int dfd, const char __user *filename, int flags, umode_t mode) */
on_return(open, FILE_OPEN, 4, int_error, no_bytes)
/* long do_sys_openat2(int dfd, const char __user *filename, struct open_how *how)
 * fddb5d430ad9 ("open: introduce openat2(2) syscall"), 5.6 */
on_return(open, FILE_OPEN, 3, int_error, no_bytes)
on_kreturn(open, FILE_OPEN, int_error, no_bytes)

/* int __close_fd(struct files_struct *files, unsigned fd) */
on_return(close, FILE_CLOSE, 2, int_error, no_bytes)
/* int close_fd(unsigned fd): 8760c909f54a ("file: Rename __close_fd to close_fd and remove the files parameter"), 5.11 */
on_return(close, FILE_CLOSE, 1, int_error, no_bytes)
on_kreturn(close, FILE_CLOSE, int_error, no_bytes)
/* struct file *file_close_fd(unsigned int fd): a88c955fcfb4 ("file: s/close_fd_get_file()/file_close_fd()/g"), 6.8 */
on_return(close_file, FILE_CLOSE, 1, null_error, no_bytes)
on_kreturn(close_file, FILE_CLOSE, null_error, no_bytes)

/* ssize_t vfs_read(struct file *file, char __user *buf, size_t count, loff_t *pos) */
on_return(read, FILE_READ, 4, long_error, positive)
on_kreturn(read, FILE_READ, long_error, positive)
/* ssize_t vfs_readv(struct file *file, const struct iovec __user *vec, unsigned long vlen, loff_t *pos, rwf_t flags) */
on_return(readv, FILE_READV, 5, long_error, positive)
on_kreturn(readv, FILE_READV, long_error, positive)
/* ssize_t vfs_write(struct file *file, const char __user *buf, size_t count, loff_t *pos) */
on_return(write, FILE_WRITE, 4, long_error, positive)
on_kreturn(write, FILE_WRITE, long_error, positive)
/* ssize_t vfs_writev(struct file *file, const struct iovec __user *vec, unsigned long vlen, loff_t *pos, rwf_t flags) */
on_return(writev, FILE_WRITEV, 5, long_error, positive)
on_kreturn(writev, FILE_WRITEV, long_error, positive)

/* int vfs_unlink(struct inode *dir, struct dentry *dentry, struct inode **delegated) */
on_return(unlink, FILE_UNLINK, 3, int_error, no_bytes)
/* int vfs_unlink(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry, struct inode **delegated)
 * 6521f8917082 ("namei: prepare for idmapped mounts"), 5.12 */
on_return(unlink, FILE_UNLINK, 4, int_error, no_bytes)
on_kreturn(unlink, FILE_UNLINK, int_error, no_bytes)

/* By system-call number: the record to count in, 0 (no record of this tier) for what is not watched. */
static const u8 native_calls[SYSCALL_LIMIT] = {
	[0] = FILE_SYS_READ,    [17] = FILE_SYS_READ,   [19] = FILE_SYS_READ,    [295] = FILE_SYS_READ,
	[327] = FILE_SYS_READ,  [1] = FILE_SYS_WRITE,   [18] = FILE_SYS_WRITE,   [20] = FILE_SYS_WRITE,
	[296] = FILE_SYS_WRITE, [328] = FILE_SYS_WRITE, [2] = FILE_SYS_OPEN,     [85] = FILE_SYS_OPEN,
	[257] = FILE_SYS_OPEN,  [437] = FILE_SYS_OPEN,  [3] = FILE_SYS_CLOSE,    [87] = FILE_SYS_UNLINK,
	[263] = FILE_SYS_UNLINK,
	/* x32: readv, writev, preadv, pwritev, preadv2, pwritev2 */
	[515] = FILE_SYS_READ,  [516] = FILE_SYS_WRITE, [534] = FILE_SYS_READ,   [535] = FILE_SYS_WRITE,
	[546] = FILE_SYS_READ,  [547] = FILE_SYS_WRITE,
};
static const u8 i386_calls[SYSCALL_LIMIT] = {
	[3] = FILE_SYS_READ,    [145] = FILE_SYS_READ,  [180] = FILE_SYS_READ,   [333] = FILE_SYS_READ,
	[378] = FILE_SYS_READ,  [4] = FILE_SYS_WRITE,   [146] = FILE_SYS_WRITE,  [181] = FILE_SYS_WRITE,
	[334] = FILE_SYS_WRITE, [379] = FILE_SYS_WRITE, [5] = FILE_SYS_OPEN,     [8] = FILE_SYS_OPEN,
	[295] = FILE_SYS_OPEN,  [437] = FILE_SYS_OPEN,  [6] = FILE_SYS_CLOSE,    [10] = FILE_SYS_UNLINK,
	[301] = FILE_SYS_UNLINK,
};
#define NATIVE_UNLINKAT 263
#define I386_UNLINKAT 301

/* TP_PROTO(struct pt_regs *regs, long ret) */
SEC("tp_btf/sys_exit") int sys_exit(u64 *ctx)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx[0];
	s64 result = ctx[1];
	u64 number = syscall_number(regs);
	u32 slot, unlinkat = NATIVE_UNLINKAT;

	if (number >= SYSCALL_LIMIT || !(native_calls[number] | i386_calls[number]))
		return 0;
	slot = native_calls[number];
	if (syscall_abi() == ABI_I386) {
		slot = i386_calls[number];
		unlinkat = I386_UNLINKAT;
	}
	/* unlinkat() of a directory is rmdir(). */
	if (!slot || (number == unlinkat && (regs->dx & AT_REMOVEDIR)) || !passes())
		return 0;
	add_result(slot, long_error(result),
		   slot == FILE_SYS_READ || slot == FILE_SYS_WRITE ? positive(result) : 0);
	return 0;
}
