/*
 * The members of a crew that have eight threads each.
 */
#include "crew.h"

enum { OTHERS = 7, STACK = 16 << 10 };

static char stacks[OTHERS][STACK] __attribute__((aligned(16)));
/* Parts that the first thread has begun, and pieces of work that the others have done. */
static int begun, done;

/* Which of the five it is. */
enum { PLAIN, LEFT, THREAD_EXECUTES, LEADER_GONE, MOVED };
static int place;

static word number(int part, int thread)
{
	return (word)(200 + ((place * PARTS) + part) * (OTHERS + 1) + thread);
}

/* A new task on a stack of its own calls f(argument), which does not return. */
static void start_on(char *top, void (*f)(long), long argument)
{
	long result;
	register word r10 __asm__("r10") = 0;
	register word r8 __asm__("r8") = 0;
	((word *)top)[-2] = (word)f;
	((word *)top)[-1] = (word)argument;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "pop %%rax\n\t"
			 "pop %%rdi\n\t"
			 "call *%%rax\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "0"(SYS_clone),
			   "D"(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM),
			   "S"(top - 2 * sizeof(word)), "d"(0), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	if (result < 0)
		fail("clone of a thread", result);
	count(THREADS, 1);
	__atomic_fetch_add(&me->alive, 1, __ATOMIC_RELAXED);
}

/* Said before it is so: whoever looks may be woken in between. */
static void say_goodbye(void)
{
	count(EXITS, 1);
	__atomic_fetch_sub(&me->alive, 1, __ATOMIC_RELEASE);
}

static void leave_thread(void) __attribute__((noreturn));
static void leave_thread(void)
{
	for (;;)
		call(SYS_exit, 0, 0, 0);
}

static void sleep_for_good(void) __attribute__((noreturn));
static void sleep_for_good(void)
{
	for (;;)
		call(SYS_pause, 0, 0, 0);
}

static void wait_for_others(int pieces)
{
	while (!wait_for(&done, pieces))
		;
}

static void say_done(void)
{
	__atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
	wake(&done);
}

/* Another than the first thread executes, when all have done their work: it ends them. */
static void go_on_alone(void)
{
	wait_for_others(2 * OTHERS + (place == THREAD_EXECUTES));
	meet();
	execute_as(name_of("t", place));
}

static void run_thread_of(long thread)
{
	int parts = place == THREAD_EXECUTES || place == LEADER_GONE ? 2 : PARTS;
	for (int part = 0; part < parts; part++) {
		while (!wait_for(&begun, part + 1))
			;
		/* A thread's name is nobody's but its own. */
		if (place == MOVED && thread == 3 && part == 1)
			expect("prctl of a name", call(SYS_prctl, PR_SET_NAME, "thread", 0), 0);
		work(number(part, (int)thread));
		say_done();
	}
	if (parts == 2 && thread == 3)
		go_on_alone();
	if (place != PLAIN)
		sleep_for_good();
	say_goodbye();
	leave_thread();
}

static void run_part(int part)
{
	raise(&begun, part + 1);
	work(number(part, 0));
	wait_for_others((part + 1) * OTHERS);
}

/* Plain: the others exit one by one. Left: they are there when the process exits, and so are open files. Then one whose
 * thread executes, one whose first thread exits before that, and one that is moved between two groups. */
void run_threaded(void)
{
	place = (int)(me - crew->members) - (MEMBERS - THREADED);
	if ((place == THREAD_EXECUTES || place == LEADER_GONE) && me->execs == 0)
		execute_as(name_of("x", place));
	if (me->execs == 2) {
		work(number(2, 0));
		finish();
	}
	for (int thread = 1; thread <= OTHERS; thread++)
		start_on(stacks[thread - 1] + STACK, run_thread_of, thread);
	run_part(0);
	meet();
	if (place == LEADER_GONE) {
		say_goodbye();
		raise(&begun, 2);
		leave_thread();
	}
	run_part(1);
	if (place == THREAD_EXECUTES) {
		say_done();
		sleep_for_good();
	}
	meet();
	run_part(2);
	if (place == LEFT)
		leave_open(9);
	if (place == PLAIN)
		while (__atomic_load_n(&me->alive, __ATOMIC_ACQUIRE) > 1)
			call(SYS_sched_yield, 0, 0, 0);
	finish();
}
