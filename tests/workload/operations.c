/*
 * The modes `operations` and `again`: one kind of operation between two stops, so that a test can see what each does
 * to every counter. What they are for and what is expected of them stands in tests/src/visibility.rs.
 */
#include "process.h"
#include "uring.h"

/* A pipe holds that many pieces of a file. */
enum { BYTES = 3 };

static char buffer[64];
static char **paths;          /* DIR and STACKED */
word times;                   /* N */
static char **rest;           /* the names that are left, the current one first */
static long data, here, zero, full, readable; /* descriptors that several operations use */
static int opened[4][MOST];   /* descriptors to be closed */
static int sent[2], spliced[2], pair[2]; /* pipes and a socket pair */
static char *mapped;
static const struct iovec parts[2] = { { buffer, 1 }, { buffer, BYTES - 1 } };

static void prepare_common(void)
{
	expect("chdir", call(SYS_chdir, paths[0], 0, 0), 0);
	data = expect_fd("data file", call6(SYS_openat, (word)AT_FDCWD, (word)"data", O_CREAT | O_RDWR, 0600, 0, 0));
	expect("write", call(SYS_write, data, buffer, sizeof buffer), sizeof buffer);
	readable = expect_fd("data file", call(SYS_openat, AT_FDCWD, "data", O_RDONLY));
	here = expect_fd("directory", call(SYS_openat, AT_FDCWD, ".", O_RDONLY | O_DIRECTORY));
	zero = expect_fd("/dev/zero", call(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY));
	full = expect_fd("/dev/full", call(SYS_openat, AT_FDCWD, "/dev/full", O_RDWR));
	expect("pipe", call(SYS_pipe, sent, 0, 0), 0);
	expect("pipe", call(SYS_pipe, spliced, 0, 0), 0);
	expect("socketpair", call6(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (word)pair, 0, 0), 0);
}

static void open_each(int which, word flags)
{
	EACH opened[which][i] = (int)expect_fd("openat", call(SYS_openat, AT_FDCWD, "data", O_RDONLY | flags));
}

/* Files in the current folder, or in the stacked one. */
static void make_each(char kind, const char *folder)
{
	if (folder)
		expect("chdir", call(SYS_chdir, folder, 0, 0), 0);
	EACH close_fd(expect_fd("creat", call(SYS_creat, name(kind, i), 0600, 0)));
	if (folder)
		expect("chdir", call(SYS_chdir, paths[0], 0, 0), 0);
}

static void make_each_folder(char kind)
{
	EACH expect("mkdir", call(SYS_mkdir, name(kind, i), 0700, 0), 0);
}

/* Opening. What is opened stays open. */
static void do_open(void) { EACH expect_fd("open", call(SYS_open, "data", O_RDONLY, 0)); }
static void do_openat(void) { EACH expect_fd("openat", call(SYS_openat, AT_FDCWD, "data", O_RDONLY)); }
static void do_openat2(void)
{
	static const struct open_how how;
	EACH expect_fd("openat2", call6(SYS_openat2, (word)AT_FDCWD, (word)"data", (word)&how, sizeof how, 0, 0));
}
static void do_openat2_refused(void)
{
	static const struct open_how how;
	EACH expect("openat2", call6(SYS_openat2, (word)AT_FDCWD, (word)"data", (word)&how, 8, 0, 0), -EINVAL);
}
static void do_creat(void) { EACH expect_fd("creat", call(SYS_creat, name('c', i), 0600, 0)); }
static void do_open_missing(void)
{
	EACH expect("openat", call(SYS_openat, AT_FDCWD, "missing", O_RDONLY), -ENOENT);
}
static void do_open_int80(void) { EACH expect_fd("int80 open", call_int80(I386_open, (word)"data", O_RDONLY, 0)); }
static void do_open_uring(void)
{
	EACH expect_fd("io_uring openat", uring_call(URING_OPENAT, AT_FDCWD, "data", 0, 0, O_RDONLY));
}
static void prepare_open_interrupted(void) { prepare_interruptions(OPEN_INTERRUPTED, times); }
static void do_open_interrupted(void) { do_interruptions(OPEN_INTERRUPTED, times); }
static void do_memfd(void) { EACH expect_fd("memfd_create", call(SYS_memfd_create, "m", 0, 0)); }
static void do_pipe(void) { EACH expect("pipe", call(SYS_pipe, opened[3], 0, 0), 0); }
static void do_socket(void) { EACH expect_fd("socket", call(SYS_socket, AF_UNIX, SOCK_STREAM, 0)); }
static void do_dup(void) { EACH expect_fd("dup", call(SYS_dup, data, 0, 0)); }

/* Closing. */
static void prepare_close(void) { open_each(0, 0); }
static void do_close(void) { EACH close_fd(opened[0][i]); }
static void do_close_bad(void) { EACH expect("close", call(SYS_close, UNUSED_DESCRIPTOR, 0, 0), -EBADF); }
static void prepare_close_int80(void) { open_each(1, 0); }
static void do_close_int80(void) { EACH expect("int80 close", call_int80(I386_close, (word)opened[1][i], 0, 0), 0); }
static void prepare_close_range(void) { open_each(2, 0); }
static void do_close_range(void)
{
	EACH expect("close_range", call(SYS_close_range, opened[2][i], opened[2][i], 0), 0);
}
static void do_dup2(void) { EACH expect("dup2", call(SYS_dup2, data, readable, 0), readable); }
static void prepare_close_uring(void)
{
	uring_prepare();
	open_each(3, 0);
}
static void do_close_uring(void) { EACH expect("io_uring close", uring_call(URING_CLOSE, opened[3][i], 0, 0, 0, 0), 0); }

/* Reading: BYTES each. */
static void do_read(void) { EACH expect("read", call(SYS_read, zero, buffer, BYTES), BYTES); }
static void do_pread(void) { EACH expect("pread64", call6(SYS_pread64, (word)data, (word)buffer, BYTES, 0, 0, 0), BYTES); }
static void do_readv(void) { EACH expect("readv", call(SYS_readv, zero, parts, 2), BYTES); }
static void do_preadv(void) { EACH expect("preadv", call6(SYS_preadv, (word)data, (word)parts, 2, 0, 0, 0), BYTES); }
static void do_preadv2(void) { EACH expect("preadv2", call6(SYS_preadv2, (word)data, (word)parts, 2, 0, 0, 0), BYTES); }
/* struct compat_iovec: what a 32-bit program gives. */
static struct { unsigned base, length; } parts_32[2];
static void prepare_vectors_32(void)
{
	for (int i = 0; i < 2; i++) {
		parts_32[i].base = (unsigned)(word)parts[i].base;
		parts_32[i].length = (unsigned)parts[i].length;
	}
}
static void do_readv_int80(void)
{
	EACH expect("int80 readv", call_int80(I386_readv, (word)zero, (word)parts_32, 2), BYTES);
}
static void do_read_int80(void)
{
	EACH expect("int80 read", call_int80(I386_read, (word)zero, (word)buffer, BYTES), BYTES);
}
static void do_read_end(void)
{
	EACH expect("pread64", call6(SYS_pread64, (word)data, (word)buffer, BYTES, 4096, 0, 0), 0);
}
static void do_read_directory(void) { EACH expect("read", call(SYS_read, here, buffer, BYTES), -EISDIR); }
static void do_read_bad(void) { EACH expect("read", call(SYS_read, UNUSED_DESCRIPTOR, buffer, BYTES), -EBADF); }
static void do_pread_negative(void)
{
	EACH expect("pread64", call6(SYS_pread64, (word)data, (word)buffer, BYTES, (word)-1, 0, 0), -EINVAL);
}
static void prepare_restarted(void) { prepare_interruptions(READ_RESTARTED, times); }
static void do_restarted(void) { do_interruptions(READ_RESTARTED, times); }
static void prepare_interrupted(void) { prepare_interruptions(READ_INTERRUPTED, times); }
static void do_interrupted(void) { do_interruptions(READ_INTERRUPTED, times); }
static void do_recv(void)
{
	EACH expect("recv", call6(SYS_recvfrom, (word)pair[1], (word)buffer, BYTES, 0, 0, 0), BYTES);
}
static void prepare_recv(void) { EACH expect("write", call(SYS_write, pair[0], buffer, BYTES), BYTES); }

/* Writing: BYTES each. */
static void do_write(void) { EACH expect("write", call(SYS_write, data, buffer, BYTES), BYTES); }
static void do_pwrite(void)
{
	EACH expect("pwrite64", call6(SYS_pwrite64, (word)data, (word)buffer, BYTES, 0, 0, 0), BYTES);
}
static void do_writev(void) { EACH expect("writev", call(SYS_writev, data, parts, 2), BYTES); }
static void do_pwritev(void) { EACH expect("pwritev", call6(SYS_pwritev, (word)data, (word)parts, 2, 0, 0, 0), BYTES); }
static void do_pwritev2(void)
{
	EACH expect("pwritev2", call6(SYS_pwritev2, (word)data, (word)parts, 2, 0, 0, 0), BYTES);
}
static void do_writev_int80(void)
{
	EACH expect("int80 writev", call_int80(I386_writev, (word)data, (word)parts_32, 2), BYTES);
}
static void do_write_int80(void)
{
	EACH expect("int80 write", call_int80(I386_write, (word)data, (word)buffer, BYTES), BYTES);
}
static void do_write_full(void) { EACH expect("write", call(SYS_write, full, buffer, BYTES), -ENOSPC); }
static void do_write_bad(void) { EACH expect("write", call(SYS_write, UNUSED_DESCRIPTOR, buffer, BYTES), -EBADF); }
static void do_write_readable(void) { EACH expect("write", call(SYS_write, zero, buffer, BYTES), -EBADF); }
static void prepare_write_interrupted(void) { prepare_interruptions(WRITE_INTERRUPTED, times); }
static void do_write_interrupted(void) { do_interruptions(WRITE_INTERRUPTED, times); }
static void do_send(void) { EACH expect("send", call6(SYS_sendto, (word)pair[1], (word)buffer, BYTES, 0, 0, 0), BYTES); }

/* Moving bytes past read and write. */
static void do_sendfile(void)
{
	EACH {
		word from = 0;
		expect("sendfile", call6(SYS_sendfile, (word)sent[1], (word)data, (word)&from, BYTES, 0, 0), BYTES);
	}
}
static void do_splice(void)
{
	EACH {
		word from = 0;
		expect("splice", call6(SYS_splice, (word)data, (word)&from, (word)spliced[1], 0, BYTES, 0), BYTES);
	}
}
static void do_copy(void)
{
	EACH {
		word from = 0, at = 32;
		expect("copy_file_range",
		       call6(SYS_copy_file_range, (word)data, (word)&from, (word)data, (word)&at, BYTES, 0), BYTES);
	}
}
static void prepare_mapped(void)
{
	long at = call6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, (word)data, 0);
	if (at < 0 && at > -4096)
		fail("mmap", at);
	mapped = (char *)at;
}
static void do_mapped(void) { EACH ((volatile char *)mapped)[i]++; }

struct aio_request {
	word data;
	unsigned key, flags;
	unsigned short operation, priority;
	int fd;
	word buffer, bytes, offset, reserved, rest;
};
struct aio_result { word data, request; long result, rest; };
static word aio;
static void prepare_aio(void)
{
	if (!aio)
		expect("io_setup", call(SYS_io_setup, 1, &aio, 0), 0);
}
static void aio_each(unsigned short operation)
{
	static struct aio_request request;
	static struct aio_result result;
	struct aio_request *one[1] = { &request };
	request.operation = operation;
	request.fd = (int)data;
	request.buffer = (word)buffer;
	request.bytes = BYTES;
	EACH {
		expect("io_submit", call(SYS_io_submit, aio, 1, one), 1);
		expect("io_getevents", call6(SYS_io_getevents, aio, 1, 1, (word)&result, 0, 0), 1);
		expect("the request", result.result, BYTES);
	}
}
static void do_read_aio(void) { aio_each(0); }
static void do_write_aio(void) { aio_each(1); }

/* The first requests may start the ring's worker threads, which then stay. */
static void prepare_uring(void)
{
	uring_prepare();
	expect("io_uring read", uring_call(URING_READ, data, buffer, BYTES, 0, 0), BYTES);
	expect("io_uring write", uring_call(URING_WRITE, data, buffer, BYTES, 0, 0), BYTES);
	close_fd(expect_fd("io_uring openat", uring_call(URING_OPENAT, AT_FDCWD, "data", 0, 0, O_RDONLY)));
}
static void do_read_uring(void) { EACH expect("io_uring read", uring_call(URING_READ, data, buffer, BYTES, 0, 0), BYTES); }
static void do_write_uring(void)
{
	EACH expect("io_uring write", uring_call(URING_WRITE, data, buffer, BYTES, 0, 0), BYTES);
}

/* Deleting. */
static void prepare_unlink(void) { make_each('u', 0); }
static void do_unlink(void) { EACH expect("unlink", call(SYS_unlink, name('u', i), 0, 0), 0); }
static void prepare_unlinkat(void) { make_each('v', 0); }
static void do_unlinkat(void) { EACH expect("unlinkat", call(SYS_unlinkat, AT_FDCWD, name('v', i), 0), 0); }
static void prepare_unlink_int80(void) { make_each('x', 0); }
static void do_unlink_int80(void)
{
	/* Below 4 GiB, as every static object here. */
	EACH expect("int80 unlink", call_int80(I386_unlink, (word)name('x', i), 0, 0), 0);
}
static void do_unlink_missing(void) { EACH expect("unlink", call(SYS_unlink, "missing", 0, 0), -ENOENT); }
static void prepare_unlink_folder(void) { make_each_folder('d'); }
static void do_unlink_folder(void) { EACH expect("unlink", call(SYS_unlink, name('d', i), 0, 0), -EISDIR); }
static void prepare_rmdir(void) { make_each_folder('e'); }
static void do_rmdir(void) { EACH expect("rmdir", call(SYS_rmdir, name('e', i), 0, 0), 0); }
static void prepare_unlinkat_folder(void) { make_each_folder('g'); }
static void do_unlinkat_folder(void)
{
	EACH expect("unlinkat", call(SYS_unlinkat, AT_FDCWD, name('g', i), AT_REMOVEDIR), 0);
}
static void prepare_unlinkat_int80(void) { make_each('y', 0); }
static void do_unlinkat_int80(void)
{
	EACH expect("int80 unlinkat", call_int80(I386_unlinkat, AT_FDCWD, (word)name('y', i), 0), 0);
}
static void prepare_unlinkat_folder_int80(void) { make_each_folder('z'); }
static void do_unlinkat_folder_int80(void)
{
	EACH expect("int80 unlinkat", call_int80(I386_unlinkat, AT_FDCWD, (word)name('z', i), AT_REMOVEDIR), 0);
}
static void prepare_rename(void)
{
	make_each('r', 0);
	make_each('s', 0);
}
static void do_rename(void)
{
	EACH {
		char from[32], *at = from;
		for (const char *c = name('r', i); (*at++ = *c++);)
			;
		expect("rename", call(SYS_rename, from, name('s', i), 0), 0);
	}
}
static void prepare_unlink_stacked(void) { make_each('o', paths[1]); }
static void do_unlink_stacked(void)
{
	expect("chdir", call(SYS_chdir, paths[1], 0, 0), 0);
	EACH expect("unlink", call(SYS_unlink, name('o', i), 0, 0), 0);
	expect("chdir", call(SYS_chdir, paths[0], 0, 0), 0);
}
static void prepare_unlink_uring(void)
{
	uring_prepare();
	make_each('w', 0);
	/* A worker thread does it, as above. */
	expect("io_uring unlinkat", uring_call(URING_UNLINKAT, AT_FDCWD, "missing", 0, 0, 0), -ENOENT);
}
static void do_unlink_uring(void)
{
	EACH expect("io_uring unlinkat", uring_call(URING_UNLINKAT, AT_FDCWD, name('w', i), 0, 0, 0), 0);
}

/* Starting. */
static void end_child(const char *what, long child)
{
	if (child == 0)
		leave(0);
	reap(what, child);
}
static void do_clone(void) { EACH end_child("clone", clone_fork()); }
static void do_fork(void) { EACH end_child("fork", call(SYS_fork, 0, 0, 0)); }
static void do_vfork(void) { EACH end_child("vfork", call(SYS_vfork, 0, 0, 0)); }
static void do_clone3(void)
{
	static const struct clone_args arguments = { .exit_signal = SIGCHLD };
	EACH end_child("clone3", call(SYS_clone3, &arguments, sizeof arguments, 0));
}
static void do_fork_int80(void) { EACH end_child("int80 fork", call_int80(I386_fork, 0, 0, 0)); }
static void prepare_fork_interrupted(void) { prepare_interruptions(FORK_INTERRUPTED, times); }
static void do_fork_interrupted(void) { do_interruptions(FORK_INTERRUPTED, times); }
static void do_thread(void) { EACH run_thread(); }
static void do_clone_bad(void) { EACH expect("clone", call(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0), -EINVAL); }
static void do_clone_bad_int80(void)
{
	EACH expect("int80 clone", call_int80(I386_clone, CLONE_SIGHAND | SIGCHLD, 0, 0), -EINVAL);
}
static void do_thread_bad(void) { EACH expect("clone", call(SYS_clone, CLONE_THREAD, 0, 0), -EINVAL); }
static void do_thread_bad_int80(void)
{
	EACH expect("int80 clone", call_int80(I386_clone, CLONE_THREAD, 0, 0), -EINVAL);
}
static void do_clone3_bad(void)
{
	static const struct clone_args arguments = { .flags = CLONE_SIGHAND, .exit_signal = SIGCHLD };
	EACH expect("clone3", call(SYS_clone3, &arguments, sizeof arguments, 0), -EINVAL);
}
static void do_clone3_thread_bad(void)
{
	static const struct clone_args arguments = { .flags = CLONE_THREAD };
	EACH expect("clone3", call(SYS_clone3, &arguments, sizeof arguments, 0), -EINVAL);
}
static void do_clone3_bad_int80(void)
{
	static const struct clone_args arguments = { .flags = CLONE_SIGHAND, .exit_signal = SIGCHLD };
	EACH expect("int80 clone3", call_int80(I386_clone3, (word)&arguments, sizeof arguments, 0), -EINVAL);
}
static void do_clone3_thread_bad_int80(void)
{
	static const struct clone_args arguments = { .flags = CLONE_THREAD };
	EACH expect("int80 clone3", call_int80(I386_clone3, (word)&arguments, sizeof arguments, 0), -EINVAL);
}
static void do_clone3_refused(void)
{
	static const struct clone_args arguments = { .exit_signal = SIGCHLD };
	EACH expect("clone3", call(SYS_clone3, &arguments, 8, 0), -EINVAL);
}

/* Executing: this program again, which does it again until it was done N times, and then goes on after the name. */
static void execute(int by_thread, word left)
{
	enum { ARGUMENTS = 64 };
	static char *arguments[ARGUMENTS], *no_environment[] = { 0 };
	static char number[24], total[24];
	word i = 0;

	decimal(number, left);
	decimal(total, times);
	arguments[i++] = "workload";
	arguments[i++] = "again";
	arguments[i++] = by_thread ? "thread" : "leader";
	arguments[i++] = number;
	arguments[i++] = paths[0];
	arguments[i++] = paths[1];
	arguments[i++] = total;
	for (char **word = rest; *word && i < ARGUMENTS - 1; word++)
		arguments[i++] = *word;
	if (!by_thread)
		fail("execve", call(SYS_execve, "/proc/self/exe", arguments, no_environment));

	register const char *path __asm__("r12") = "/proc/self/exe";
	register char **with __asm__("r13") = arguments;
	register char **environment __asm__("r14") = no_environment;
	long result;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "mov %%r12, %%rdi\n\t"
			 "mov %%r13, %%rsi\n\t"
			 "mov %%r14, %%rdx\n\t"
			 "mov %[execve], %%eax\n\t"
			 "syscall\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "0"(SYS_clone), "D"(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM),
			   "S"(thread_stack + sizeof thread_stack), "r"(path), "r"(with), "r"(environment),
			   [execve] "i"(SYS_execve)
			 : "rcx", "rdx", "r11", "memory");
	if (result < 0)
		fail("clone of a thread", result);
	/* The thread's execve ends this one. */
	for (;;)
		call(SYS_pause, 0, 0, 0);
}
static void prepare_exec(void) { open_each(0, O_CLOEXEC); }
static void do_exec(void) { execute(0, times - 1); }
static void do_exec_thread(void) { execute(1, times - 1); }
static void do_exec_missing(void)
{
	static char *arguments[] = { "missing", 0 }, *no_environment[] = { 0 };
	EACH expect("execve", call(SYS_execve, "missing", arguments, no_environment), -ENOENT);
}
static void do_exit(void) { leave(0); }

OPERATIONS(operations) = {
	{ "open", 0, do_open },
	{ "openat", 0, do_openat },
	{ "openat2", 0, do_openat2 },
	{ "openat2-refused", 0, do_openat2_refused },
	{ "creat", 0, do_creat },
	{ "open-missing", 0, do_open_missing },
	{ "open-int80", 0, do_open_int80 },
	{ "open-uring", prepare_uring, do_open_uring },
	{ "open-interrupted", prepare_open_interrupted, do_open_interrupted },
	{ "memfd", 0, do_memfd },
	{ "pipe", 0, do_pipe },
	{ "socket", 0, do_socket },
	{ "dup", 0, do_dup },
	{ "close", prepare_close, do_close },
	{ "close-bad", 0, do_close_bad },
	{ "close-int80", prepare_close_int80, do_close_int80 },
	{ "close-range", prepare_close_range, do_close_range },
	{ "close-uring", prepare_close_uring, do_close_uring },
	{ "dup2", 0, do_dup2 },
	{ "read", 0, do_read },
	{ "pread", 0, do_pread },
	{ "readv", 0, do_readv },
	{ "preadv", 0, do_preadv },
	{ "preadv2", 0, do_preadv2 },
	{ "read-int80", 0, do_read_int80 },
	{ "readv-int80", prepare_vectors_32, do_readv_int80 },
	{ "read-end", 0, do_read_end },
	{ "read-directory", 0, do_read_directory },
	{ "read-bad", 0, do_read_bad },
	{ "pread-negative", 0, do_pread_negative },
	{ "read-restarted", prepare_restarted, do_restarted },
	{ "read-interrupted", prepare_interrupted, do_interrupted },
	{ "read-aio", prepare_aio, do_read_aio },
	{ "read-uring", prepare_uring, do_read_uring },
	{ "recv", prepare_recv, do_recv },
	{ "write", 0, do_write },
	{ "pwrite", 0, do_pwrite },
	{ "writev", 0, do_writev },
	{ "pwritev", 0, do_pwritev },
	{ "pwritev2", 0, do_pwritev2 },
	{ "write-int80", 0, do_write_int80 },
	{ "writev-int80", prepare_vectors_32, do_writev_int80 },
	{ "write-full", 0, do_write_full },
	{ "write-bad", 0, do_write_bad },
	{ "write-readable", 0, do_write_readable },
	{ "write-interrupted", prepare_write_interrupted, do_write_interrupted },
	{ "write-aio", prepare_aio, do_write_aio },
	{ "write-uring", prepare_uring, do_write_uring },
	{ "send", 0, do_send },
	{ "sendfile", 0, do_sendfile },
	{ "splice", 0, do_splice },
	{ "copy", 0, do_copy },
	{ "mapped", prepare_mapped, do_mapped },
	{ "unlink", prepare_unlink, do_unlink },
	{ "unlinkat", prepare_unlinkat, do_unlinkat },
	{ "unlink-int80", prepare_unlink_int80, do_unlink_int80 },
	{ "unlink-missing", 0, do_unlink_missing },
	{ "unlink-folder", prepare_unlink_folder, do_unlink_folder },
	{ "unlink-stacked", prepare_unlink_stacked, do_unlink_stacked },
	{ "unlink-uring", prepare_unlink_uring, do_unlink_uring },
	{ "rmdir", prepare_rmdir, do_rmdir },
	{ "unlinkat-folder", prepare_unlinkat_folder, do_unlinkat_folder },
	{ "unlinkat-int80", prepare_unlinkat_int80, do_unlinkat_int80 },
	{ "unlinkat-folder-int80", prepare_unlinkat_folder_int80, do_unlinkat_folder_int80 },
	{ "rename", prepare_rename, do_rename },
	{ "clone", 0, do_clone },
	{ "fork", 0, do_fork },
	{ "vfork", 0, do_vfork },
	{ "clone3", 0, do_clone3 },
	{ "fork-int80", 0, do_fork_int80 },
	{ "fork-interrupted", prepare_fork_interrupted, do_fork_interrupted },
	{ "thread", 0, do_thread },
	{ "clone-bad", 0, do_clone_bad },
	{ "clone-bad-int80", 0, do_clone_bad_int80 },
	{ "thread-bad", 0, do_thread_bad },
	{ "thread-bad-int80", 0, do_thread_bad_int80 },
	{ "clone3-bad", 0, do_clone3_bad },
	{ "clone3-bad-int80", 0, do_clone3_bad_int80 },
	{ "clone3-thread-bad", 0, do_clone3_thread_bad },
	{ "clone3-thread-bad-int80", 0, do_clone3_thread_bad_int80 },
	{ "clone3-refused", 0, do_clone3_refused },
	{ "exec-missing", 0, do_exec_missing },
	{ "exec", prepare_exec, do_exec },
	{ "exec-thread", 0, do_exec_thread },
	{ "exit", 0, do_exit },
};

/* Where the linker puts the tables of all files. */
extern const struct operation __start_operations[], __stop_operations[];

static const struct operation *operation(const char *name)
{
	for (const struct operation *each = __start_operations; each < __stop_operations; each++)
		if (equal(each->name, name))
			return each;
	fail(name, 0);
}

/* Does what is left, each followed by a stop. */
static void run_rest(void)
{
	for (; *rest; ) {
		const struct operation *next = operation(*rest++);
		next->run();
		stop();
	}
}

/* operations DIR STACKED N NAME... */
void run_operations(char **arguments)
{
	paths = arguments + 2;
	times = parse(arguments[4]);
	rest = arguments + 5;
	if (times == 0 || times > MOST)
		fail("operations: N", (long)times);
	prepare_common();
	for (char **each = rest; *each; each++)
		if (operation(*each)->prepare)
			operation(*each)->prepare();
	stop();
	run_rest();
}

/* again WHO LEFT DIR STACKED N NAME... */
void run_again(char **arguments)
{
	word left = parse(arguments[3]);
	paths = arguments + 4;
	times = parse(arguments[6]);
	rest = arguments + 7;
	if (left)
		execute(equal(arguments[2], "thread"), left - 1);
	/* What was prepared is gone with the old image, but for descriptors: the names that are left need nothing else. */
	stop();
	run_rest();
}
