/*
 * The mode `crew`: a leader that starts fifty processes, moves some between control groups, and says what each has done
 * under which name in which group, itself included. What it is for stands in tests/src/who.rs.
 */
#include "crew.h"

enum { SYS_ftruncate = 77, SYS_readlink = 89, SYS_clock_gettime = 228, SYS_waitid = 247 };
enum { CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7, O_WRONLY = 1, EBUSY = 16 };
enum { P_PID = 1, WEXITED = 4, WNOHANG = 1, WNOWAIT = 0x01000000 };
#define CLONE_INTO_CGROUP 0x200000000ul

static word pause_ms;

static long now(int clock)
{
	struct timespec time;
	expect("clock_gettime", call(SYS_clock_gettime, clock, &time, 0), 0);
	return time.seconds * 1000000000 + time.nanoseconds;
}

static void sleep_ms(word ms)
{
	struct timespec time = { (long)(ms / 1000), (long)(ms % 1000) * 1000000 };
	call(SYS_nanosleep, &time, 0, 0);
}

/* The file of a group, or its folder; 0 is the leader's own. */
static const char *path_in(int group, const char *file)
{
	static char text[320];
	copy_text(text, crew->folder, sizeof text - 64);
	char *end = text + length(text);
	if (group) {
		*end++ = '/';
		*end++ = 'g';
		end = decimal(end, (word)group);
	}
	copy_text(end, file, 32);
	return text;
}

static void make_group(int group)
{
	expect("mkdir of a group", call(SYS_mkdir, path_in(group, ""), 0755, 0), 0);
}

/* Busy for a moment after its last process is reaped. */
static void remove_group(int group)
{
	long got;
	while ((got = call(SYS_rmdir, path_in(group, ""), 0, 0)) == -EBUSY)
		sleep_ms(1);
	expect("rmdir of a group", got, 0);
}

/* The member stands still: it is in a meeting. */
static void move_to(struct member *member, int group)
{
	char number[24];
	long size = decimal(number, (word)member->pid) - number;
	long file = expect_fd("a group's processes", open_counted(path_in(group, "/cgroup.procs"), O_WRONLY));
	expect("a move to a group", write_counted(file, number, (word)size), size);
	close_counted(file);
	begin_stage(member, stage_of(member)->name, group);
}

static void begin_life(struct member *member, int group)
{
	member->started = now(CLOCK_BOOTTIME);
	member->alive = 1;
	begin_stage(member, stage_of(me)->name, group);
}

/* With its group's folder as an open descriptor it is forked into the group. */
static void start_member(int index, int group)
{
	struct member *member = &crew->members[index];
	struct clone_args arguments = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
	long folder = -1, child;

	if (group) {
		folder = expect_fd("a group", open_counted(path_in(group, ""), O_RDONLY | O_DIRECTORY));
		arguments.cgroup = (word)folder;
	}
	begin_life(member, group);
	member->lived = now(CLOCK_MONOTONIC);
	child = group ? call(SYS_clone3, &arguments, sizeof arguments, 0) : clone_fork();
	if (child == 0) {
		join_crew(index);
		stage_of(me)->pid = me->pid;
		run_member();
	}
	expect_fd("a member", child);
	count(PROCESSES, 1);
	member->pid = child;
	if (group)
		close_counted(folder);
}

static void await_meeting(struct member *member, int meeting)
{
	while (!wait_for(&member->met, meeting))
		expect("a member that is to meet", call6(SYS_wait4, (word)member->pid, 0, WNOHANG, 0, 0, 0), 0);
}

/* Some of the numbers of a text: those behind the words. */
static void numbers_of(const char *text, const char *const *words, int many, long *numbers)
{
	for (int i = 0; i < many; i++)
		for (const char *at = text; *at; at++) {
			word n = length(words[i]), same = 0;
			while (same < n && at[same] == words[i][same])
				same++;
			if (same == n && (at == text || at[-1] == '\n'))
				numbers[i] = (long)parse(at + n);
		}
}

/* Dead, and not yet reaped. */
static void read_io(struct member *member)
{
	static const char *const words[4] = { "rchar: ", "wchar: ", "syscr: ", "syscw: " };
	char path[48] = "/proc/", text[512];
	copy_text(decimal(path + 6, (word)member->pid), "/io", 8);
	for (int i = 0; i < 4; i++)
		member->io[i] = -1;
	long file = open_counted(path, O_RDONLY);
	if (file < 0)
		return;
	long size = read_counted(file, text, sizeof text - 1);
	close_counted(file);
	if (size > 0) {
		text[size] = 0;
		numbers_of(text, words, 4, member->io);
	}
}

static void reap_member(int index)
{
	struct member *member = &crew->members[index];
	expect("waitid", call6(SYS_waitid, P_PID, (word)member->pid, 0, WEXITED | WNOWAIT, 0, 0), 0);
	member->lived = now(CLOCK_MONOTONIC) - member->lived;
	read_io(member);
	reap("a member", member->pid);
}

/* Where a member is moved to at each of its meetings, and what it is forked into; -1: it stays. Groups from 1 on are made
 * before and removed after it. The last of those in a group has the path of a group that was removed. */
struct way { int into, first, second; };

static struct way way_of(int index)
{
	static const struct way grouped[GROUPED] = { { 0, 1, 0 }, { 0, 2, 3 }, { 0, 4, -1 }, { 0, 5, -1 }, { 5, -1, -1 } };
	struct way stays = { 0, -1, -1 }, moved = { 0, 6, 7 };
	int place = index - SHORT - RENAMED;
	if (index == MEMBERS - 1)
		return moved;
	return place >= 0 && place < GROUPED ? grouped[place] : stays;
}

static void for_each_group(struct way way, void (*f)(int))
{
	int groups[] = { way.into, way.first, way.second };
	for (int i = 0; i < 3; i++)
		if (groups[i] > 0)
			f(groups[i]);
}

static void let_go(struct member *member, int meeting, int group)
{
	await_meeting(member, meeting);
	sleep_ms(pause_ms);
	if (group >= 0)
		move_to(member, group);
	raise(&member->let_go, meeting);
}

static void lead(void)
{
	int shorts = 0, others = MEMBERS - SHORT;
	for (int i = 0; i < others; i++) {
		int index = SHORT + i;
		struct member *member = &crew->members[index];
		struct way way = way_of(index);
		for_each_group(way, make_group);
		start_member(index, way.into);
		let_go(member, 1, way.first);
		let_go(member, 2, way.second);
		/* Beside its last part. */
		for (; shorts < SHORT * (i + 1) / others; shorts++) {
			start_member(shorts, 0);
			reap_member(shorts);
			sleep_ms(pause_ms);
		}
		reap_member(index);
		for_each_group(way, remove_group);
		sleep_ms(pause_ms);
	}
}

/* The report, a JSON object a line, in which every number has the same width whatever it is. */
static char report[512 << 10];
static char *report_end;

static void put(const char *text)
{
	word n = length(text);
	if (report_end + n >= report + sizeof report)
		fail("a report too long", report_end - report);
	for (word i = 0; i < n; i++)
		*report_end++ = text[i];
}

static void put_number(const char *name, long n)
{
	enum { WIDTH = 18 };
	char digits[24];
	put(name);
	if (n < 0)
		n = -n, copy_text(digits, "-", 2), decimal(digits + 1, (word)n);
	else
		decimal(digits, (word)n);
	for (word i = length(digits); i < WIDTH; i++)
		put(" ");
	put(digits);
}

static void put_stage(const struct stage *stage)
{
	static const char *const counted[COUNTS] = {
		"opens", "open_errors", "closes", "close_errors", "reads", "read_errors", "read_bytes", "bad_reads",
		"writes", "write_errors", "write_bytes", "bad_writes", "deletes", "delete_errors", "missing_deletes",
		"fsyncs", "fsync_errors", "processes", "threads", "start_errors", "exits",
	};
	char number[24];
	put_number("{\"pid\":", stage->pid);
	put(",\"comm\":\"");
	put(stage->name);
	put("\",\"cgroup\":\"");
	put(crew->path);
	if (stage->group) {
		decimal(number, (word)stage->group);
		put("/g");
		put(number);
	}
	put("\",\"counts\":{");
	for (int i = 0; i < COUNTS; i++) {
		put(i ? ",\"" : "\"");
		put(counted[i]);
		put_number("\":", stage->counts[i]);
	}
	put("}}\n");
}

static void put_member(const struct member *member)
{
	put_number("{\"pid\":", member->pid);
	put_number(",\"started\":", member->started);
	put_number(",\"lived\":", member->lived);
	put_number(",\"execs\":", member->execs);
	put_number(",\"io\":[", member->io[0]);
	for (int i = 1; i < 4; i++)
		put_number(",", member->io[i]);
	put("]}\n");
}

static long put_report(void)
{
	report_end = report;
	for (int i = 0; i < MEMBERS; i++)
		put_member(&crew->members[i]);
	for (int i = 0; i < crew->stages_used; i++)
		put_stage(&crew->stages[i]);
	return report_end - report;
}

static void prepare(char **arguments)
{
	long memory = expect_fd("memfd_create", call(SYS_memfd_create, "crew", 0, 0));
	expect("ftruncate", call(SYS_ftruncate, memory, sizeof *crew, 0), 0);
	expect("dup2", call(SYS_dup2, memory, SHARED_MEMORY, 0), SHARED_MEMORY);
	call(SYS_close, memory, 0, 0);
	join_crew(LEADER);
	copy_text(crew->prefix, arguments[3], sizeof crew->prefix);
	copy_text(crew->folder, arguments[4], sizeof crew->folder);
	copy_text(crew->path, arguments[5], sizeof crew->path);
	pause_ms = parse(arguments[6]);
	expect_fd("readlink", call(SYS_readlink, "/proc/self/exe", crew->program, sizeof crew->program - 1));
	expect("chdir", call(SYS_chdir, arguments[2], 0, 0), 0);
	expect("mkdir", call(SYS_mkdir, "folder", 0700, 0), 0);
	long data = expect_fd("data file", call6(SYS_openat, (word)AT_FDCWD, (word)"data", O_CREAT | O_RDWR, 0600, 0, 0));
	expect("write", call(SYS_write, data, report, 4096), 4096);
	call(SYS_close, data, 0, 0);
	me->started = now(CLOCK_BOOTTIME);
	me->alive = 1;
	begin_stage(me, name_of("lead", -1), 0);
}

void run_crew(char **arguments)
{
	prepare(arguments);
	stop();
	lead();
	/* What it does from here on is known before. */
	count(EXITS, 1);
	long size = put_report();
	count(WRITES, 1);
	count(WRITE_BYTES, size);
	expect("a report of the same size", put_report(), size);
	expect("writing the report", call(SYS_write, 1, report, size), size);
	leave(0);
}
