/*
 * The members of a crew and their lives, by their place in it: see run_member.
 */
#include "crew.h"

enum { SYS_symlink = 88, EEXIST = 17 };
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, EVERYBODY = 1 << 30 };

struct crew *crew;
struct member *me;

static int index_of_me(void)
{
	return (int)(me - crew->members);
}

void join_crew(int index)
{
	if (!crew) {
		long at = call6(SYS_mmap, 0, sizeof *crew, PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_MEMORY, 0);
		if (at < 0 && at > -4096)
			fail("mmap of what the crew shares", at);
		crew = (struct crew *)at;
	}
	me = &crew->members[index];
	me->pid = call(SYS_getpid, 0, 0, 0);
	/* Whose leader is killed must not stay behind. */
	if (index != LEADER)
		expect("prctl", call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0), 0);
}

int wait_for(int *at, int wanted)
{
	struct timespec second = { 1, 0 };
	for (int now; (now = __atomic_load_n(at, __ATOMIC_ACQUIRE)) < wanted;) {
		long got = call6(SYS_futex, (word)at, FUTEX_WAIT, (word)now, (word)&second, 0, 0);
		if (got != 0 && got != -EAGAIN && got != -EINTR)
			return 0;
	}
	return 1;
}

void wake(int *at)
{
	call(SYS_futex, at, FUTEX_WAKE, EVERYBODY);
}

void raise(int *at, int to)
{
	__atomic_store_n(at, to, __ATOMIC_RELEASE);
	wake(at);
}

void meet(void)
{
	int meeting = ++me->part;
	raise(&me->met, meeting);
	while (!wait_for(&me->let_go, meeting))
		;
}

const char *name_of(const char *suffix, long number)
{
	static char text[48];
	char *end = text;
	for (const char *from = crew->prefix; *from;)
		*end++ = *from++;
	*end++ = '-';
	while (*suffix)
		*end++ = *suffix++;
	*end = 0;
	if (number >= 0)
		decimal(end, (word)number);
	return text;
}

void rename_to(const char *name)
{
	expect("prctl of a name", call(SYS_prctl, PR_SET_NAME, name, 0), 0);
	begin_stage(me, name, stage_of(me)->group);
	me->named = 1;
}

/* What was done since the fork, under the name of the parent, belongs to the name of the first exec. */
void execute_as(const char *name)
{
	char number[24], *arguments[] = { "workload", "crewed", number, 0 }, *no_environment[] = { 0 };
	decimal(number, (word)index_of_me());
	long got = call(SYS_symlink, crew->program, name, 0);
	if (got != -EEXIST)
		expect("symlink", got, 0);
	/* All tasks but the one that executes end, before the name changes. */
	count(EXITS, me->alive - 1);
	me->alive = 1;
	me->execs++;
	if (me->named)
		begin_stage(me, name, stage_of(me)->group);
	else
		name_stage(stage_of(me), name);
	me->named = 1;
	fail("execve", call(SYS_execve, stage_of(me)->name, arguments, no_environment));
}

void finish(void)
{
	count(EXITS, me->alive);
	leave(0);
}

/* The numbers of each part of each member are its own. */
static void work_of_part(int part)
{
	work((word)(1 + index_of_me() + MEMBERS * part));
}

/* Up to 5 ms: a fork alone, or with an exec under a name of its own, or between two pieces of work under one that
 * several have. */
static void run_short(int index)
{
	if (index % 3 == 1 && me->execs == 0)
		execute_as(name_of("s", index));
	work_of_part(me->execs);
	if (index % 3 == 2 && me->execs == 0)
		execute_as(name_of("pair", -1));
	if (index % 5 == 0)
		leave_open((word)index % 7 + 1);
	finish();
}

/* prctl: once, once with open files, twice, to and fro, and before anything was done. */
static void rename_in_turn(int place)
{
	if (place == 4)
		rename_to(name_of("r", 90));
	work_of_part(0);
	meet();
	rename_to(name_of("r", place));
	work_of_part(1);
	meet();
	if (place == 2)
		rename_to(name_of("q", place));
	if (place == 3)
		rename_to(name_of("lead", -1));
	work_of_part(2);
	if (place == 1)
		leave_open(3);
	finish();
}

/* Under three names, with work before the first one too, or the last two alike. */
static void execute_in_turn(int place)
{
	static const char *const names[] = { "a", "b", "c" };
	if (me->execs == 0) {
		if (place % 2)
			leave_open(2);
		execute_as(name_of(names[0], place));
	}
	work_of_part(me->execs - 1);
	if (me->execs == PARTS)
		finish();
	meet();
	execute_as(name_of(names[place == 4 ? 1 : me->execs], place));
}

/* Starts in a group that the leader moves it to, or forks it into; some are moved once more. */
static void run_grouped(int place)
{
	if (me->part == 0) {
		meet();
		if (place == 2)
			execute_as(name_of("g", place));
	}
	work_of_part(1);
	meet();
	work_of_part(2);
	if (place == 3)
		leave_open(5);
	finish();
}

void run_member(void)
{
	int index = index_of_me();
	if (index < SHORT)
		run_short(index);
	if ((index -= SHORT) < RENAMED / 2)
		rename_in_turn(index);
	if ((index -= RENAMED / 2) < RENAMED / 2)
		execute_in_turn(index);
	if ((index -= RENAMED / 2) < GROUPED)
		run_grouped(index);
	run_threaded();
}

void go_on_in_crew(int index)
{
	join_crew(index);
	run_member();
}
