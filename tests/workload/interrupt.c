/*
 * Calls that a signal interrupts once each. A child for each kind of call sends the signals.
 *
 * A call that sleeps: the child acts only when the parent sleeps in the call it means. After `begun` says so, the
 * parent's only interruptible sleep is that call, before the signal and, where the kernel makes the call again, after it.
 *
 * A fork does not sleep: its child holds the parent at the entry of the call by ptrace, and sends the signal there.
 */
#include "process.h"

#define FIFO "fifo"

/* Shared with the child of a kind. */
static struct turn { volatile word begun, handled, traced; } *turns, *turn;
static long signallers[INTERRUPTIONS];
static int ends[2], clogged[2];

static void on_signal(int number)
{
	(void)number;
	turn->handled++;
}

void restore(void);
__asm__(".globl restore\nrestore:\n\tmov $15, %eax\n\tsyscall\n");

/* The parent may stand still for long: looking costs little. */
static void wait_for(volatile word *number, word wanted)
{
	static const struct timespec pause = { 0, 1000000 };
	while (*number != wanted)
		call(SYS_nanosleep, &pause, 0, 0);
}

/* Signals a parent that sleeps; feeds it where it reads on. */
static void interrupt_sleeps(long parent, word calls, int feeds)
{
	for (word i = 1; i <= calls; i++) {
		wait_for(&turn->begun, i);
		wait_until_asleep(parent);
		expect("kill", call(SYS_kill, parent, SIGUSR1, 0), 0);
		wait_for(&turn->handled, i);
		if (!feeds)
			continue;
		wait_until_asleep(parent);
		expect("write to the pipe", call(SYS_write, ends[1], "x", 1), 1);
	}
}

static int wait_for_stop(long parent)
{
	int status = 0;
	expect("wait4 of the traced", call6(SYS_wait4, (word)parent, (word)&status, WAIT_ALL, 0, 0, 0), parent);
	return status >> 8;
}

/* Signals a parent at the first entry of each of its forks; the restarted call is let pass. */
static void interrupt_forks(long parent, word calls)
{
	word registers[27], sent = 0, signal = 0;

	wait_for(&turn->begun, 1);
	expect("ptrace seize", call6(SYS_ptrace, PTRACE_SEIZE, (word)parent, 0, PTRACE_O_TRACESYSGOOD, 0, 0), 0);
	expect("ptrace interrupt", call(SYS_ptrace, PTRACE_INTERRUPT, parent, 0), 0);
	wait_for_stop(parent);
	turn->traced = 1;
	for (;;) {
		expect("ptrace syscall", call6(SYS_ptrace, PTRACE_SYSCALL, (word)parent, 0, signal, 0, 0), 0);
		int stopped = wait_for_stop(parent);
		signal = 0;
		if (stopped >> 8)
			continue;
		if (stopped != SYSCALL_STOP) {
			signal = (word)stopped;
			continue;
		}
		if (turn->begun > calls)
			break;
		expect("ptrace registers", call6(SYS_ptrace, PTRACE_GETREGS, (word)parent, 0, (word)registers, 0, 0), 0);
		/* orig_ax and ax: at the entry of a call its result is not there yet. */
		if (registers[15] == SYS_fork && (long)registers[10] == -ENOSYS && sent < turn->begun) {
			sent++;
			expect("kill", call(SYS_kill, parent, SIGUSR1, 0), 0);
		}
	}
	expect("ptrace detach", call(SYS_ptrace, PTRACE_DETACH, parent, 0), 0);
}

/* A pipe that takes nothing more. */
static void clog(void)
{
	static char page[4096];

	expect("pipe2", call(SYS_pipe2, clogged, O_NONBLOCK, 0), 0);
	while (call(SYS_write, clogged[1], page, sizeof page) > 0)
		;
	expect("fcntl", call(SYS_fcntl, clogged[1], F_SETFL, 0), 0);
}

void prepare_interruptions(int kind, word calls)
{
	long parent = call(SYS_getpid, 0, 0, 0);

	if (!turns) {
		turns = (void *)call6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, (word)-1, 0);
		if ((long)turns < 0 && (long)turns > -4096)
			fail("mmap", (long)turns);
		expect("pipe", call(SYS_pipe, ends, 0, 0), 0);
	}
	if (kind == WRITE_INTERRUPTED)
		clog();
	if (kind == OPEN_INTERRUPTED)
		expect("mknod", call(SYS_mknod, FIFO, S_IFIFO | 0600, 0), 0);
	turn = turns + kind;
	if ((signallers[kind] = clone_fork()) != 0) {
		/* Where Yama allows a tracer only by name; elsewhere it is no option, and not needed. */
		call(SYS_prctl, PR_SET_PTRACER, signallers[kind], 0);
		return;
	}
	/* A parent that is killed must not leave it behind. */
	expect("prctl", call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0), 0);
	if (kind == FORK_INTERRUPTED)
		interrupt_forks(parent, calls);
	else
		interrupt_sleeps(parent, calls, kind == READ_RESTARTED);
	leave(0);
}

static void interrupted_call(int kind)
{
	char byte;
	long child;

	switch (kind) {
	case READ_RESTARTED:
		expect("restarted read", call(SYS_read, ends[0], &byte, 1), 1);
		break;
	case READ_INTERRUPTED:
		expect("interrupted read", call(SYS_read, ends[0], &byte, 1), -EINTR);
		break;
	case WRITE_INTERRUPTED:
		expect("interrupted write", call(SYS_write, clogged[1], "x", 1), -EINTR);
		break;
	case OPEN_INTERRUPTED:
		expect("interrupted open", call(SYS_openat, AT_FDCWD, FIFO, O_RDONLY), -EINTR);
		break;
	case FORK_INTERRUPTED:
		if ((child = call(SYS_fork, 0, 0, 0)) == 0)
			leave(0);
		reap("a fork that was interrupted", child);
	}
}

void do_interruptions(int kind, word calls)
{
	struct kernel_sigaction action = { on_signal, SA_RESTORER, restore, 0 };

	if (kind == READ_RESTARTED)
		action.flags |= SA_RESTART;
	expect("rt_sigaction", call6(SYS_rt_sigaction, SIGUSR1, (word)&action, 0, 8, 0, 0), 0);
	turn = turns + kind;
	for (word i = 1; i <= calls; i++) {
		turn->begun = i;
		if (kind == FORK_INTERRUPTED)
			wait_for(&turn->traced, 1);
		interrupted_call(kind);
		expect("signals handled", (long)turn->handled, (long)i);
	}
	/* The tracer lets go at the next call. */
	turn->begun = calls + 1;
	reap("the signaller", signallers[kind]);
}

void close_interrupted_pipe(void)
{
	close_fd(ends[0]);
	close_fd(ends[1]);
}
