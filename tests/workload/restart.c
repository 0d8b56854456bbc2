/*
 * Reads of a pipe that a signal interrupts once each: two calls, no error. A child sends the signals and feeds the pipe.
 *
 * The child acts only when the parent sleeps in the read it means: after `begun` says so, the parent's only
 * interruptible sleep is that read, before the signal and after it.
 */
#include "process.h"

/* Shared with the child: reads begun, signals handled. */
static volatile struct { word begun, handled; } *turn;
static int ends[2];
static long signaller;

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

void prepare_restarts(word reads)
{
	struct kernel_sigaction action = { on_signal, SA_RESTART | SA_RESTORER, restore, 0 };
	long parent = call(SYS_getpid, 0, 0, 0);

	turn = (void *)call6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, (word)-1, 0);
	if ((long)turn < 0 && (long)turn > -4096)
		fail("mmap", (long)turn);
	expect("rt_sigaction", call6(SYS_rt_sigaction, SIGUSR1, (word)&action, 0, 8, 0, 0), 0);
	expect("pipe", call(SYS_pipe, ends, 0, 0), 0);
	if ((signaller = clone_fork()) != 0)
		return;
	/* A parent that is killed must not leave it behind. */
	expect("prctl", call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0), 0);
	for (word i = 1; i <= reads; i++) {
		wait_for(&turn->begun, i);
		wait_until_asleep(parent);
		expect("kill", call(SYS_kill, parent, SIGUSR1, 0), 0);
		wait_for(&turn->handled, i);
		wait_until_asleep(parent);
		expect("write to the pipe", call(SYS_write, ends[1], "x", 1), 1);
	}
	leave(0);
}

void read_restarted(word reads)
{
	char byte;
	for (word i = 1; i <= reads; i++) {
		turn->begun = i;
		expect("restarted read", call(SYS_read, ends[0], &byte, 1), 1);
		expect("signals handled", (long)turn->handled, (long)i);
	}
	reap("the signaller", signaller);
}

void close_restarts(void)
{
	close_fd(ends[0]);
	close_fd(ends[1]);
}
