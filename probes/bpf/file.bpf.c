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
on_return(open, FILE_OPEN, 4, add_status)
/* long do_sys_openat2(int dfd, const char __user *filename, struct open_how *how)
 * fddb5d430ad9 ("open: introduce openat2(2) syscall"), 5.6 */
on_return(open, FILE_OPEN, 3, add_status)
on_kreturn(open, FILE_OPEN, add_status)

/* int __close_fd(struct files_struct *files, unsigned fd) */
on_return(close, FILE_CLOSE, 2, add_status)
/* int close_fd(unsigned fd): 8760c909f54a ("file: Rename __close_fd to close_fd and remove the files parameter"), 5.11 */
on_return(close, FILE_CLOSE, 1, add_status)
on_kreturn(close, FILE_CLOSE, add_status)
/* struct file *file_close_fd(unsigned int fd): a88c955fcfb4 ("file: s/close_fd_get_file()/file_close_fd()/g"), 6.8 */
on_return(close_file, FILE_CLOSE, 1, add_pointer)
on_kreturn(close_file, FILE_CLOSE, add_pointer)

/* ssize_t vfs_read(struct file *file, char __user *buf, size_t count, loff_t *pos) */
on_return(read, FILE_READ, 4, add_size)
on_kreturn(read, FILE_READ, add_size)
/* ssize_t vfs_readv(struct file *file, const struct iovec __user *vec, unsigned long vlen, loff_t *pos, rwf_t flags) */
on_return(readv, FILE_READV, 5, add_size)
on_kreturn(readv, FILE_READV, add_size)
/* ssize_t vfs_write(struct file *file, const char __user *buf, size_t count, loff_t *pos) */
on_return(write, FILE_WRITE, 4, add_size)
on_kreturn(write, FILE_WRITE, add_size)
/* ssize_t vfs_writev(struct file *file, const struct iovec __user *vec, unsigned long vlen, loff_t *pos, rwf_t flags) */
on_return(writev, FILE_WRITEV, 5, add_size)
on_kreturn(writev, FILE_WRITEV, add_size)

/* int vfs_unlink(struct inode *dir, struct dentry *dentry, struct inode **delegated) */
on_return(unlink, FILE_UNLINK, 3, add_status)
/* int vfs_unlink(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry, struct inode **delegated)
 * 6521f8917082 ("namei: prepare for idmapped mounts"), 5.12 */
on_return(unlink, FILE_UNLINK, 4, add_status)
on_kreturn(unlink, FILE_UNLINK, add_status)

/* What is not a record: unlinkat() may delete a directory, which is rmdir(). */
#define CALL_UNLINKAT FILE_SLOTS

static const union watched calls[SYSCALL_LIMIT] = {
	[0].native = FILE_SYS_READ,
	[1].native = FILE_SYS_WRITE,
	[2].native = FILE_SYS_OPEN,
	[3].native = FILE_SYS_CLOSE,
	[17].native = FILE_SYS_READ,
	[18].native = FILE_SYS_WRITE,
	[19].native = FILE_SYS_READ,
	[20].native = FILE_SYS_WRITE,
	[85].native = FILE_SYS_OPEN,
	[87].native = FILE_SYS_UNLINK,
	[257].native = FILE_SYS_OPEN,
	[263].native = CALL_UNLINKAT,
	[295].native = FILE_SYS_READ,
	[296].native = FILE_SYS_WRITE,
	[327].native = FILE_SYS_READ,
	[328].native = FILE_SYS_WRITE,
	[437].native = FILE_SYS_OPEN,
	/* x32: readv, writev, preadv, pwritev, preadv2, pwritev2 */
	[515].native = FILE_SYS_READ,
	[516].native = FILE_SYS_WRITE,
	[534].native = FILE_SYS_READ,
	[535].native = FILE_SYS_WRITE,
	[546].native = FILE_SYS_READ,
	[547].native = FILE_SYS_WRITE,

	[3].i386 = FILE_SYS_READ,
	[4].i386 = FILE_SYS_WRITE,
	[5].i386 = FILE_SYS_OPEN,
	[6].i386 = FILE_SYS_CLOSE,
	[8].i386 = FILE_SYS_OPEN,
	[10].i386 = FILE_SYS_UNLINK,
	[145].i386 = FILE_SYS_READ,
	[146].i386 = FILE_SYS_WRITE,
	[180].i386 = FILE_SYS_READ,
	[181].i386 = FILE_SYS_WRITE,
	[295].i386 = FILE_SYS_OPEN,
	[301].i386 = CALL_UNLINKAT,
	[333].i386 = FILE_SYS_READ,
	[334].i386 = FILE_SYS_WRITE,
	[378].i386 = FILE_SYS_READ,
	[379].i386 = FILE_SYS_WRITE,
	[437].i386 = FILE_SYS_OPEN,
};

/* TP_PROTO(struct pt_regs *regs, long ret). Arguments are read from ctx where they are needed:
 * what must outlive a helper costs every system call a register to save. */
SEC("tp_btf/sys_exit") int sys_exit(u64 *ctx)
{
	enum abi abi;
	u64 slot = watched_call((void *)ctx[0], calls, &abi);

	if (!slot || !passes())
		return 0;
	if (slot == FILE_SYS_READ) {
		add_size(record_of(FILE_SYS_READ), ctx[1]);
	} else if (slot == FILE_SYS_WRITE) {
		add_size(record_of(FILE_SYS_WRITE), ctx[1]);
	} else if (slot != CALL_UNLINKAT) {
		add_status(record_at(slot), ctx[1]);
	} else if (!(((const struct pt_regs *)ctx[0])->dx & AT_REMOVEDIR)) {
		add_status(record_of(FILE_SYS_UNLINK), ctx[1]);
	}
	return 0;
}
