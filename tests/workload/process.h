/*
 * What the modes of the workload have in common: stops, children, threads.
 */
#ifndef EBPF_PROCESS_PROCESS_H
#define EBPF_PROCESS_PROCESS_H

#include "system.h"

#define UNUSED_DESCRIPTOR 999 /* never open here */

/* What a row of tests/src/rows/ is about; what is prepared is done before anybody looks. Each file has a table of them:
 * OPERATIONS(FILE) = { { "name", prepare, run }, ... }. */
struct operation {
	const char *name;
	void (*prepare)(void);
	void (*run)(void);
};
#define OPERATIONS(file)                                                                                               \
	static const struct operation operations_of_##file[] __attribute__((section("operations"), used, aligned(8)))

extern word times; /* how often an operation is to be done, up to MOST */
enum { MOST = 16 };
#define EACH for (word i = 0; i < times; i++)

/* What counts.h says of a probe, done in the whole workload; without int80 its 32-bit calls go the ordinary way. */
typedef void (*part)(int int80);
#define PART_OF_THE_WHOLE(function)                                                                                    \
	static const part part_##function __attribute__((section("parts"), used, aligned(8))) = function

static char thread_stack[8192] __attribute__((aligned(16)));

static inline void stop(void)
{
	expect("stop", call(SYS_kill, call(SYS_getpid, 0, 0, 0), SIGSTOP, 0), 0);
}

static inline void close_fd(long fd)
{
	expect("close", call(SYS_close, fd, 0, 0), 0);
}

/* The name of the i-th file or directory: one letter and a number. */
static inline const char *name(char kind, word i)
{
	static char text[32];
	text[0] = kind;
	decimal(text + 1, i);
	return text;
}

static inline void reap(const char *what, long child)
{
	int status = -1;
	if (child < 0)
		fail(what, child);
	expect(what, call6(SYS_wait4, (word)child, (word)&status, 0, 0, 0, 0), child);
	expect(what, status, 0);
}

/* As a C library's fork: no shared memory, the child's number stored and cleared in its own copy. */
static inline long clone_fork(void)
{
	static int tid;
	return call6(SYS_clone, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, (word)&tid, 0, 0);
}

/* The letter of a process's state in /proc (R, S, D, T, ...), 0 when it cannot be read. */
static inline char state_of(long pid)
{
	char path[48] = "/proc/", text[128];
	char *end = decimal(path + 6, (word)pid);
	const char *stat = "/stat";
	while ((*end++ = *stat++))
		;
	long fd = call(SYS_openat, AT_FDCWD, path, O_RDONLY);
	if (fd < 0)
		return 0;
	long n = call(SYS_read, fd, text, sizeof text);
	call(SYS_close, fd, 0, 0);
	/* "pid (name) S ...": the name is ours and holds no bracket. */
	for (long i = 0; i + 2 < n; i++)
		if (text[i] == ')')
			return text[i + 2];
	return 0;
}

static inline void wait_until_asleep(long pid)
{
	while (state_of(pid) != 'S')
		call(SYS_sched_yield, 0, 0, 0);
}

/* A new thread cannot return through a stack it shares with nobody: the child's half stays in assembly. */
static inline long start_thread(volatile int *tid)
{
	long result;
	register word r10 __asm__("r10") = (word)tid;
	register word r8 __asm__("r8") = 0;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%edi, %%edi\n\t"
			 "mov %[exit], %%eax\n\t"
			 "syscall\n"
			 "1:"
			 : "=a"(result)
			 : "0"(SYS_clone),
			   "D"(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			       CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID),
			   "S"(thread_stack + sizeof thread_stack), "d"(tid), "r"(r10), "r"(r8), [exit] "i"(SYS_exit)
			 : "rcx", "r11", "memory");
	return result;
}

static inline void run_thread(void)
{
	static volatile int tid;
	if (start_thread(&tid) < 0)
		fail("clone of a thread", tid);
	for (int now; (now = tid) != 0;) {
		long r = call6(SYS_futex, (word)&tid, 0 /* FUTEX_WAIT */, (word)now, 0, 0, 0);
		if (r != 0 && r != -EAGAIN && r != -EINTR)
			fail("futex", r);
	}
}

/* Calls that a signal interrupts once each (interrupt.c): what they need and the child that sends the signals, the calls
 * themselves, and the end of the pipe that is read. `calls` is the same in both. */
enum { READ_RESTARTED, READ_INTERRUPTED, WRITE_INTERRUPTED, OPEN_INTERRUPTED, FORK_INTERRUPTED, INTERRUPTIONS };
void prepare_interruptions(int kind, word calls);
void do_interruptions(int kind, word calls);
void close_interrupted_pipe(void);

/* The mode `operations` (operations.c), and how it goes on in the image that it executes. */
void run_operations(char **arguments);
void run_again(char **arguments);

/* The mode `launch` (launch.c), and how it goes on in the images that it executes. */
void run_launch(const char *directory, word made, word existing, word refused, word programs);
void run_launched(word left);

/* The modes `churn`, `churn-groups` and `population`, and `churned`, what each of their processes does (churn.c). */
void run_churn(const char *program, word count, word per_second);
void run_churn_groups(const char *program, word count, word per_second, const char *folder);
void run_population(word count, word every);
void run_churned(void);

/* The mode `crew` (crew.c), and how a member goes on in the images that it executes (member.c). */
void run_crew(char **arguments);
void go_on_in_crew(int index) __attribute__((noreturn));

#endif
