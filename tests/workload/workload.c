/*
 * A process whose system calls are known to the unit: no C library, no start-up of its own.
 *
 *   workload DIR [no-int80]   stops itself; continued, it does in DIR (a tmpfs) what counts.h says; stops itself
 *                             again; continued, it exits with 0. With no-int80 the 32-bit calls are made as 64-bit
 *                             ones, for a kernel without IA32 emulation.
 *   workload read N           stops itself, reads N times one byte of /dev/zero, stops itself, exits.
 *   workload delete DIR N     stops itself; continued, it makes and unlinks a file in DIR N times, stops itself again,
 *                             and when it is continued exits.
 *   workload blocked N        N children block in a read of an empty pipe each; stops itself when all of them do;
 *                             continued, it kills them and exits.
 *   workload launch DIR MADE EXISTING REFUSED PROGRAMS
 *                             stops itself; continued, it makes so many symbolic links in DIR, fails so many times at a
 *                             name that is taken and so many times where the file system has none, and executes itself
 *                             so many times, with 2 + PROGRAMS arguments at first and 3 at last; stops itself; exits.
 *   workload crew DIR PREFIX FOLDER PATH MS
 *                             stops itself; continued, it starts 50 processes in DIR (a tmpfs), whose names begin with
 *                             PREFIX, with so many milliseconds between two steps; its control group is at FOLDER, and
 *                             is PATH; says what each has done on stdout, and exits. It has to be called PREFIX-lead.
 *   workload churn PROGRAM N PER_SECOND
 *                             stops itself; continued, it executes PROGRAM, which is this one, in N children one after
 *                             the other, so many a second (0: as fast as it can); each reads one byte of /dev/zero.
 *   workload churn-groups PROGRAM N PER_SECOND FOLDER
 *                             the same, each in a control group of its own in FOLDER that is removed after it.
 *   workload population N MS  N children read one byte of /dev/zero each, every MS milliseconds or once (0); stops itself
 *                             when they are there; continued, it kills them and exits.
 *   workload idle             stops itself; continued, it waits until it is killed.
 *   workload exit             exits at once.
 *   workload operations DIR STACKED N NAME...
 *                             prepares the operations NAME... of operations.c in DIR (a tmpfs), one of them in STACKED
 *                             (a stacked file system, or - for none); stops itself; continued, it does the next one
 *                             N times and stops itself; after the last one it exits.
 *
 * The first argument is a folder when it holds a slash, else a mode. Anything unexpected is said on stderr and ends the process with 1.
 * Children may make any calls: only those of the first process are known.
 */
#include "counts.h"
#include "process.h"

#define PATH_DATA "data"
#define PATH_MISSING "missing"

/* Static, so below 4 GiB: an int80 call can address it. */
static char buffer[8192];
static long zero; /* /dev/zero, while the whole workload runs */

static long open_data(void)
{
	return expect_fd("openat", call(SYS_openat, AT_FDCWD, PATH_DATA, O_RDONLY));
}

static void seek(long fd, word to)
{
	expect("lseek", call(SYS_lseek, fd, to, 0), (long)to);
}

static void open_and_close(void)
{
	struct open_how how = { O_RDONLY, 0, 0 };
	for (word i = 0; i < OPENS; i++)
		close_fd(expect_fd("open", call(SYS_open, PATH_DATA, O_RDONLY, 0)));
	for (word i = 0; i < OPENATS; i++)
		close_fd(open_data());
	for (word i = 0; i < OPENAT2S; i++)
		close_fd(expect_fd("openat2", call6(SYS_openat2, (word)AT_FDCWD, (word)PATH_DATA, (word)&how, sizeof how, 0, 0)));
	for (word i = 0; i < CREATS; i++)
		close_fd(expect_fd("creat", call(SYS_creat, name('f', i), 0600, 0)));
	for (word i = 0; i < MISSING_OPENS; i++)
		expect("openat of a missing name", call(SYS_openat, AT_FDCWD, PATH_MISSING, O_RDONLY), -ENOENT);
	for (word i = 0; i < BAD_CLOSES; i++)
		expect("close of a bad descriptor", call(SYS_close, UNUSED_DESCRIPTOR, 0, 0), -EBADF);
}

/* Leaves a file of WRITES * WRITE_SIZE + WRITEVS * (WRITEV_FIRST + WRITEV_SECOND) bytes. */
static void write_all(long data, long full)
{
	struct iovec parts[2] = { { buffer, WRITEV_FIRST }, { buffer, WRITEV_SECOND } };
	struct iovec at[2] = { { buffer, PWRITEV_FIRST }, { buffer, PWRITEV_SECOND } };
	for (word i = 0; i < WRITES; i++)
		expect("write", call(SYS_write, data, buffer, WRITE_SIZE), WRITE_SIZE);
	for (word i = 0; i < WRITEVS; i++)
		expect("writev", call(SYS_writev, data, parts, 2), WRITEV_FIRST + WRITEV_SECOND);
	for (word i = 0; i < PWRITES; i++)
		expect("pwrite64", call6(SYS_pwrite64, (word)data, (word)buffer, PWRITE_SIZE, 0, 0, 0), PWRITE_SIZE);
	for (word i = 0; i < PWRITEVS; i++)
		expect("pwritev", call6(SYS_pwritev, (word)data, (word)at, 2, 0, 0, 0), PWRITEV_FIRST + PWRITEV_SECOND);
	for (word i = 0; i < PWRITEV2S; i++)
		expect("pwritev2", call6(SYS_pwritev2, (word)data, (word)at, 2, 0, 0, 0), PWRITEV_FIRST + PWRITEV_SECOND);
	for (word i = 0; i < FULL_WRITES; i++)
		expect("write to a full device", call(SYS_write, full, buffer, WRITE_SIZE), -ENOSPC);
}

static void read_all(long data, long directory)
{
	const word size = WRITES * WRITE_SIZE + WRITEVS * (WRITEV_FIRST + WRITEV_SECOND);
	struct iovec parts[2] = { { buffer, READV_FIRST }, { buffer, READV_SECOND } };
	struct iovec at[2] = { { buffer, PREADV_FIRST }, { buffer, PREADV_SECOND } };
	for (word i = 0; i < READS; i++) {
		seek(data, 0);
		expect("read", call(SYS_read, data, buffer, READ_SIZE), READ_SIZE);
	}
	for (word i = 0; i < SHORT_READS; i++) {
		seek(data, size - SHORT_SIZE);
		expect("short read", call(SYS_read, data, buffer, sizeof buffer), SHORT_SIZE);
	}
	for (word i = 0; i < END_READS; i++)
		expect("read at the end", call(SYS_read, data, buffer, READ_SIZE), 0);
	for (word i = 0; i < DIRECTORY_READS; i++)
		expect("read of a directory", call(SYS_read, directory, buffer, READ_SIZE), -EISDIR);
	for (word i = 0; i < BAD_READS; i++)
		expect("read of a bad descriptor", call(SYS_read, UNUSED_DESCRIPTOR, buffer, READ_SIZE), -EBADF);
	for (word i = 0; i < PREADS; i++)
		expect("pread64", call6(SYS_pread64, (word)data, (word)buffer, PREAD_SIZE, 0, 0, 0), PREAD_SIZE);
	for (word i = 0; i < READVS; i++) {
		seek(data, 0);
		expect("readv", call(SYS_readv, data, parts, 2), READV_FIRST + READV_SECOND);
	}
	for (word i = 0; i < PREADVS; i++)
		expect("preadv", call6(SYS_preadv, (word)data, (word)at, 2, 0, 0, 0), PREADV_FIRST + PREADV_SECOND);
	for (word i = 0; i < PREADV2S; i++)
		expect("preadv2", call6(SYS_preadv2, (word)data, (word)at, 2, 0, 0, 0), PREADV_FIRST + PREADV_SECOND);
}

static void unlink_all(void)
{
	_Static_assert(CREATS == UNLINKS + UNLINKATS, "every file that is made is deleted");
	for (word i = 0; i < UNLINKS; i++)
		expect("unlink", call(SYS_unlink, name('f', i), 0, 0), 0);
	for (word i = 0; i < UNLINKATS; i++)
		expect("unlinkat", call(SYS_unlinkat, AT_FDCWD, name('f', UNLINKS + i), 0), 0);
	for (word i = 0; i < RMDIRS; i++) {
		expect("mkdir", call(SYS_mkdir, name('d', i), 0700, 0), 0);
		expect("unlinkat of a directory", call(SYS_unlinkat, AT_FDCWD, name('d', i), AT_REMOVEDIR), 0);
	}
	for (word i = 0; i < MISSING_UNLINKS; i++)
		expect("unlink of a missing name", call(SYS_unlink, PATH_MISSING, 0, 0), -ENOENT);
}

static void int80_all(int int80)
{
	for (word i = 0; i < INT80_READS; i++)
		expect("int80 read", int80 ? call_int80(I386_read, (word)zero, (word)buffer, INT80_READ_SIZE)
					   : call(SYS_read, zero, buffer, INT80_READ_SIZE), INT80_READ_SIZE);
	for (word i = 0; i < INT80_CLOSES; i++) {
		long fd = open_data();
		expect("int80 close", int80 ? call_int80(I386_close, (word)fd, 0, 0) : call(SYS_close, fd, 0, 0), 0);
	}
	if (int80)
		for (word i = 0; i < INT80_GETPIDS; i++)
			expect("int80 getpid", call_int80(I386_getpid, 0, 0, 0), call(SYS_getpid, 0, 0, 0));
}

PART_OF_THE_WHOLE(int80_all);

static void start_all(void)
{
	struct clone_args fork_args = { .exit_signal = SIGCHLD };
	struct clone_args bad_process = { .flags = CLONE_SIGHAND, .exit_signal = SIGCHLD };
	struct clone_args bad_thread = { .flags = CLONE_THREAD };
	struct clone_args rejected = { .exit_signal = SIGCHLD };
	char *exec_arguments[] = { "workload", "exit", 0 };
	char *no_environment[] = { 0 };
	long child;

	for (word i = 0; i < CLONE_FORKS; i++) {
		if ((child = clone_fork()) == 0)
			leave(0);
		reap("clone of a process", child);
	}
	for (word i = 0; i < FORKS; i++) {
		if ((child = call(SYS_fork, 0, 0, 0)) == 0)
			leave(0);
		reap("fork", child);
	}
	for (word i = 0; i < VFORKS; i++) {
		if ((child = call(SYS_vfork, 0, 0, 0)) == 0)
			leave(0);
		reap("vfork", child);
	}
	for (word i = 0; i < CLONE3_FORKS; i++) {
		if ((child = call(SYS_clone3, &fork_args, sizeof fork_args, 0)) == 0)
			leave(0);
		reap("clone3", child);
	}
	for (word i = 0; i < EXECS; i++) {
		if ((child = clone_fork()) == 0)
			fail("execve", call(SYS_execve, "/proc/self/exe", exec_arguments, no_environment));
		reap("a child that executes", child);
	}
	for (word i = 0; i < THREADS; i++)
		run_thread();
	for (word i = 0; i < BAD_PROCESS_CLONES; i++)
		expect("clone of a bad process", call(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0), -EINVAL);
	for (word i = 0; i < BAD_THREAD_CLONES; i++)
		expect("clone of a bad thread", call(SYS_clone, CLONE_THREAD, 0, 0), -EINVAL);
	for (word i = 0; i < BAD_PROCESS_CLONE3S; i++)
		expect("clone3 of a bad process", call(SYS_clone3, &bad_process, sizeof bad_process, 0), -EINVAL);
	for (word i = 0; i < BAD_THREAD_CLONE3S; i++)
		expect("clone3 of a bad thread", call(SYS_clone3, &bad_thread, sizeof bad_thread, 0), -EINVAL);
	for (word i = 0; i < REJECTED_CLONE3S; i++)
		expect("clone3 of a size too small", call(SYS_clone3, &rejected, sizeof rejected.flags, 0), -EINVAL);
}

/* Where the linker puts the parts of all files. */
extern const part __start_parts[], __stop_parts[];

static void run_all(const char *directory, int int80)
{
	long data, here, full;
	stop();
	expect("chdir", call(SYS_chdir, directory, 0, 0), 0);
	data = expect_fd("data file", call6(SYS_openat, (word)AT_FDCWD, (word)PATH_DATA, O_CREAT | O_RDWR, 0600, 0, 0));
	here = expect_fd("directory", call(SYS_openat, AT_FDCWD, ".", O_RDONLY | O_DIRECTORY));
	zero = expect_fd("/dev/zero", call(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY));
	full = expect_fd("/dev/full", call(SYS_openat, AT_FDCWD, "/dev/full", O_RDWR));
	write_all(data, full);
	open_and_close();
	read_all(data, here);
	unlink_all();
	for (const part *each = __start_parts; each < __stop_parts; each++)
		(*each)(int80);
	start_all();
	prepare_interruptions(READ_RESTARTED, RESTARTED_READS);
	do_interruptions(READ_RESTARTED, RESTARTED_READS);
	prepare_interruptions(READ_INTERRUPTED, INTERRUPTED_READS);
	do_interruptions(READ_INTERRUPTED, INTERRUPTED_READS);
	close_interrupted_pipe();
	close_fd(data);
	close_fd(here);
	close_fd(zero);
	close_fd(full);
	stop();
}

static void run_reads(word count)
{
	long zero = expect_fd("/dev/zero", call(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY));
	stop();
	for (word i = 0; i < count; i++)
		expect("read", call(SYS_read, zero, buffer, 1), 1);
	stop();
}

static void run_deletes(const char *directory, word count)
{
	expect("chdir", call(SYS_chdir, directory, 0, 0), 0);
	stop();
	for (word i = 0; i < count; i++) {
		close_fd(expect_fd("creat", call(SYS_creat, "deleted", 0600, 0)));
		expect("unlink", call(SYS_unlink, "deleted", 0, 0), 0);
	}
	stop();
}

static void run_blocked(word count)
{
	enum { MOST = 512 };
	static int children[MOST];
	if (count > MOST)
		fail("too many readers", (long)count);
	for (word i = 0; i < count; i++) {
		long child = clone_fork();
		if (child == 0) {
			int ends[2];
			/* A parent that is killed must not leave its readers behind. */
			expect("prctl", call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0), 0);
			expect("pipe", call(SYS_pipe, ends, 0, 0), 0);
			fail("a read that nobody feeds", call(SYS_read, ends[0], buffer, 1));
		}
		children[i] = (int)expect_fd("clone", child);
	}
	for (word i = 0; i < count; i++)
		wait_until_asleep(children[i]);
	stop();
	for (word i = 0; i < count; i++)
		call(SYS_kill, children[i], SIGKILL, 0);
	for (word i = 0; i < count; i++)
		expect("wait4", call(SYS_wait4, children[i], 0, 0), children[i]);
}

/* A child under a given number, which must be free, that reads. */
static void run_reborn(int pid, word count)
{
	struct clone_args arguments = { .exit_signal = SIGCHLD, .set_tid = (word)&pid, .set_tid_size = 1 };
	long zero = expect_fd("/dev/zero", call(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY));
	long child;

	stop();
	if ((child = call(SYS_clone3, &arguments, sizeof arguments, 0)) == 0) {
		for (word i = 0; i < count; i++)
			expect("read", call(SYS_read, zero, buffer, 1), 1);
		leave(0);
	}
	expect("clone3 with a number", child, pid);
	reap("a child with a number", child);
	stop();
}

static void run_idle(void)
{
	stop();
	for (;;)
		call(SYS_pause, 0, 0, 0);
}

__attribute__((noreturn, used)) static void run(word *stack)
{
	word count = stack[0];
	char **arguments = (char **)(stack + 1);
	const char *mode = count > 1 ? arguments[1] : "";
	const char *option = count > 2 ? arguments[2] : "";

	if (has_slash(mode))
		run_all(mode, !equal(option, "no-int80"));
	else if (equal(mode, "read"))
		run_reads(parse(option));
	else if (equal(mode, "delete") && count > 3)
		run_deletes(option, parse(arguments[3]));
	else if (equal(mode, "blocked"))
		run_blocked(parse(option));
	else if (equal(mode, "reborn") && count > 3)
		run_reborn((int)parse(option), parse(arguments[3]));
	else if (equal(mode, "idle"))
		run_idle();
	else if (equal(mode, "operations") && count > 5)
		run_operations(arguments);
	else if (equal(mode, "again") && count > 6)
		run_again(arguments);
	else if (equal(mode, "launch") && count > 6)
		run_launch(option, parse(arguments[3]), parse(arguments[4]), parse(arguments[5]), parse(arguments[6]));
	else if (equal(mode, "launched") && count > 2)
		run_launched(parse(option));
	else if (equal(mode, "crew") && count > 6)
		run_crew(arguments);
	else if (equal(mode, "crewed") && count > 2)
		go_on_in_crew((int)parse(option));
	else if (equal(mode, "churn") && count > 4)
		run_churn(option, parse(arguments[3]), parse(arguments[4]));
	else if (equal(mode, "churn-groups") && count > 5)
		run_churn_groups(option, parse(arguments[3]), parse(arguments[4]), arguments[5]);
	else if (equal(mode, "churned"))
		run_churned();
	else if (equal(mode, "population") && count > 3)
		run_population(parse(option), parse(arguments[3]));
	else if (!equal(mode, "exit"))
		fail("usage: workload DIR [no-int80] | read N | delete DIR N | blocked N | reborn PID N | idle | exit | "
		     "operations DIR STACKED N NAME... | launch DIR MADE EXISTING REFUSED PROGRAMS | "
		     "crew DIR PREFIX FOLDER PATH MS | churn PROGRAM N PER_SECOND | "
		     "churn-groups PROGRAM N PER_SECOND FOLDER | population N MS", (long)count);
	leave(0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n\thlt\n");
