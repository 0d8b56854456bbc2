/*
 * The modes for very many processes: `churn`, one short-lived one after the other; `churn-groups`, the same, each in a
 * control group of its own that is made before and removed after it; `population`, which live at the same time.
 */
#include "process.h"

enum { SYS_clock_gettime = 228, CLOCK_MONOTONIC = 1, EBUSY = 16 };
#define CLONE_INTO_CGROUP 0x200000000ul

static long now(void)
{
	struct timespec time;
	expect("clock_gettime", call(SYS_clock_gettime, CLOCK_MONOTONIC, &time, 0), 0);
	return time.seconds * 1000000000 + time.nanoseconds;
}

static void sleep_for(long nanoseconds)
{
	struct timespec time = { nanoseconds / 1000000000, nanoseconds % 1000000000 };
	if (nanoseconds > 0)
		call(SYS_nanosleep, &time, 0, 0);
}

/* What a short-lived process does: one byte of a file that is opened and closed. */
void run_churned(void)
{
	char byte;
	long fd = expect_fd("/dev/zero", call(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY));
	expect("read", call(SYS_read, fd, &byte, 1), 1);
	close_fd(fd);
}

/* Starts a process in the control group that is open as `group`, or in its parent's, and waits for its end. */
static void live_and_die(const char *program, long group)
{
	static char *no_environment[] = { 0 };
	char *arguments[] = { "workload", "churned", 0 };
	struct clone_args clone = { .exit_signal = SIGCHLD };

	if (group >= 0) {
		clone.flags = CLONE_INTO_CGROUP;
		clone.cgroup = (word)group;
	}
	long child = call(SYS_clone3, &clone, sizeof clone, 0);
	if (child == 0)
		fail("execve", call(SYS_execve, program, arguments, no_environment));
	reap("a short-lived process", child);
}

/* The i-th of `per_second` is not before its time. */
static void keep_pace(long start, word i, word per_second)
{
	if (per_second)
		sleep_for(start + (long)(i * 1000000000 / per_second) - now());
}

void run_churn(const char *program, word count, word per_second)
{
	stop();
	long start = now();
	for (word i = 0; i < count; i++) {
		keep_pace(start, i, per_second);
		live_and_die(program, -1);
	}
}

void run_churn_groups(const char *program, word count, word per_second, const char *folder)
{
	expect("chdir", call(SYS_chdir, folder, 0, 0), 0);
	stop();
	long start = now();
	for (word i = 0; i < count; i++) {
		long removed;
		keep_pace(start, i, per_second);
		expect("mkdir", call(SYS_mkdir, name('g', i), 0755, 0), 0);
		long group = expect_fd("group", call(SYS_openat, AT_FDCWD, name('g', i), O_RDONLY | O_DIRECTORY));
		live_and_die(program, group);
		close_fd(group);
		/* For a moment after its last process is reaped it is busy. */
		while ((removed = call(SYS_rmdir, name('g', i), 0, 0)) == -EBUSY)
			call(SYS_sched_yield, 0, 0, 0);
		expect("rmdir", removed, 0);
	}
}

/* A process that does the same again every so many milliseconds, or once if that is 0. */
static void live(word every)
{
	/* Not without the parent, nor all at the same moment. */
	expect("prctl", call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0), 0);
	for (;;) {
		run_churned();
		if (every)
			sleep_for((long)every * 1000000);
		else
			call(SYS_pause, 0, 0, 0);
	}
}

void run_population(word count, word every)
{
	enum { MOST_LIVING = 32768 };
	static int children[MOST_LIVING];
	if (count > MOST_LIVING)
		fail("too many processes", (long)count);
	for (word i = 0; i < count; i++) {
		long child = clone_fork();
		if (child == 0)
			live(every);
		children[i] = (int)expect_fd("clone", child);
	}
	stop();
	for (word i = 0; i < count; i++)
		call(SYS_kill, children[i], SIGKILL, 0);
	for (word i = 0; i < count; i++)
		expect("wait4", call(SYS_wait4, children[i], 0, 0), children[i]);
}
