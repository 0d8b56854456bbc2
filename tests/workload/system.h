/*
 * The system without a C library: calls, their numbers and structures, a few lines of text handling, and how the
 * workload fails. x86_64 only.
 */
#ifndef EBPF_PROCESS_SYSTEM_H
#define EBPF_PROCESS_SYSTEM_H

typedef unsigned long word;

enum {
	SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_lseek = 8, SYS_mmap = 9, SYS_rt_sigaction = 13,
	SYS_pread64 = 17, SYS_pwrite64 = 18, SYS_readv = 19, SYS_writev = 20, SYS_pipe = 22, SYS_sched_yield = 24,
	SYS_dup = 32, SYS_dup2 = 33, SYS_pause = 34, SYS_nanosleep = 35, SYS_getpid = 39, SYS_sendfile = 40,
	SYS_socket = 41, SYS_sendto = 44, SYS_recvfrom = 45, SYS_socketpair = 53, SYS_clone = 56, SYS_fork = 57,
	SYS_vfork = 58, SYS_execve = 59, SYS_exit = 60, SYS_wait4 = 61, SYS_kill = 62, SYS_fcntl = 72, SYS_chdir = 80, SYS_rename = 82,
	SYS_mkdir = 83, SYS_rmdir = 84, SYS_creat = 85, SYS_unlink = 87, SYS_ptrace = 101,
	SYS_mknod = 133, SYS_prctl = 157, SYS_futex = 202,
	SYS_io_setup = 206, SYS_io_getevents = 208, SYS_io_submit = 209, SYS_exit_group = 231, SYS_openat = 257,
	SYS_unlinkat = 263, SYS_splice = 275, SYS_pipe2 = 293, SYS_preadv = 295, SYS_pwritev = 296, SYS_memfd_create = 319,
	SYS_copy_file_range = 326, SYS_preadv2 = 327, SYS_pwritev2 = 328, SYS_io_uring_setup = 425,
	SYS_io_uring_enter = 426, SYS_io_uring_register = 427, SYS_clone3 = 435, SYS_close_range = 436, SYS_openat2 = 437,
	I386_fork = 2, I386_read = 3, I386_write = 4, I386_open = 5, I386_close = 6, I386_unlink = 10, I386_getpid = 20,
	I386_clone = 120, I386_readv = 145, I386_writev = 146, I386_unlinkat = 301, I386_clone3 = 435,
};

enum { ENOENT = 2, EINTR = 4, EBADF = 9, EAGAIN = 11, EISDIR = 21, EINVAL = 22, ENOSPC = 28, ENOSYS = 38 };
enum { O_RDONLY = 0, O_RDWR = 2, O_CREAT = 0100, O_NONBLOCK = 04000, O_DIRECTORY = 0200000, O_CLOEXEC = 02000000 };
enum { F_SETFL = 4, S_IFIFO = 0010000, WAIT_ALL = 0x40000000 };
enum { AT_FDCWD = -100, AT_REMOVEDIR = 0x200 };
enum { SIGKILL = 9, SIGUSR1 = 10, SIGCHLD = 17, SIGSTOP = 19 };
enum { PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_ANONYMOUS = 0x20, MAP_POPULATE = 0x8000 };
enum { AF_UNIX = 1, SOCK_STREAM = 1, PR_SET_PDEATHSIG = 1, PR_SET_NAME = 15, PR_SET_PTRACER = 0x59616d61 };
enum {
	PTRACE_GETREGS = 12, PTRACE_DETACH = 17, PTRACE_SYSCALL = 24, PTRACE_SEIZE = 0x4206, PTRACE_INTERRUPT = 0x4207,
	PTRACE_O_TRACESYSGOOD = 1, SYSCALL_STOP = 0x85, /* SIGTRAP, marked */
};

#define CLONE_VM 0x100ul
#define CLONE_FS 0x200ul
#define CLONE_FILES 0x400ul
#define CLONE_SIGHAND 0x800ul
#define CLONE_THREAD 0x10000ul
#define CLONE_SYSVSEM 0x40000ul
#define CLONE_PARENT_SETTID 0x100000ul
#define CLONE_CHILD_CLEARTID 0x200000ul
#define CLONE_CHILD_SETTID 0x1000000ul
#define SA_RESTORER 0x04000000ul
#define SA_RESTART 0x10000000ul

struct iovec { void *base; word length; };
struct timespec { long seconds, nanoseconds; };
struct open_how { word flags, mode, resolve; };
struct clone_args {
	word flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
struct kernel_sigaction { void (*handler)(int); word flags; void (*restorer)(void); word mask; };

static inline long call6(long n, word a, word b, word c, word d, word e, word f)
{
	long result;
	register word r10 __asm__("r10") = d;
	register word r8 __asm__("r8") = e;
	register word r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(result)
			 : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#define call(n, a, b, c) call6(n, (word)(a), (word)(b), (word)(c), 0, 0, 0)

static inline long call_int80(long n, word a, word b, word c)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result)
			 : "0"(n), "b"(a), "c"(b), "d"(c)
			 : "r8", "r9", "r10", "r11", "memory");
	return (int)result;
}

static inline word length(const char *text)
{
	word n = 0;
	while (text[n])
		n++;
	return n;
}

static inline int equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static inline int has_slash(const char *text)
{
	for (; *text; text++)
		if (*text == '/')
			return 1;
	return 0;
}

static inline word parse(const char *text)
{
	word n = 0;
	for (; *text >= '0' && *text <= '9'; text++)
		n = n * 10 + (word)(*text - '0');
	return n;
}

/* Writes n in decimal to `to`, with a terminating zero; returns its end. */
static inline char *decimal(char *to, word n)
{
	char digits[24];
	int i = 0;
	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i)
		*to++ = digits[--i];
	*to = 0;
	return to;
}

static inline void leave(int status) __attribute__((noreturn));
static inline void leave(int status)
{
	for (;;)
		call(SYS_exit_group, status, 0, 0);
}

static inline void fail(const char *what, long got) __attribute__((noreturn));
static inline void fail(const char *what, long got)
{
	char number[32], *end = decimal(number, (word)(got < 0 ? -got : got));
	*end++ = '\n';
	call(SYS_write, 2, "workload: ", 10);
	call(SYS_write, 2, what, length(what));
	call(SYS_write, 2, got < 0 ? ": got -" : ": got ", got < 0 ? 7 : 6);
	call(SYS_write, 2, number, end - number);
	leave(1);
}

static inline void expect(const char *what, long got, long wanted)
{
	if (got != wanted)
		fail(what, got);
}

static inline long expect_fd(const char *what, long got)
{
	if (got < 0)
		fail(what, got);
	return got;
}

#endif
