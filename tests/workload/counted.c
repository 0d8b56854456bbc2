/*
 * Calls that count themselves in the stage of the process that makes them: see crew.h.
 */
#include "crew.h"

enum { SYS_fsync = 74 };
enum { SMALLEST = 7 }; /* bytes of a write, at least */

static char buffer[8192];

struct stage *stage_of(const struct member *member)
{
	return &crew->stages[member->stage];
}

void count(enum count what, long n)
{
	__atomic_fetch_add(&stage_of(me)->counts[what], n, __ATOMIC_RELAXED);
}

void copy_text(char *to, const char *from, word size)
{
	word i = 0;
	for (; i + 1 < size && from[i]; i++)
		to[i] = from[i];
	if (from[i])
		fail("a text too long", (long)length(from));
	to[i] = 0;
}

void name_stage(struct stage *stage, const char *name)
{
	copy_text(stage->name, name, sizeof stage->name);
}

void begin_stage(struct member *member, const char *name, int group)
{
	int stage = __atomic_fetch_add(&crew->stages_used, 1, __ATOMIC_RELAXED);
	if (stage >= MOST_STAGES)
		fail("too many stages", stage);
	crew->stages[stage].pid = member->pid;
	crew->stages[stage].group = group;
	name_stage(&crew->stages[stage], name);
	member->stage = stage;
}

long open_counted(const char *path, word flags)
{
	long fd = call6(SYS_openat, (word)AT_FDCWD, (word)path, flags, 0600, 0, 0);
	count(OPENS, 1);
	if (fd < 0)
		count(OPEN_ERRORS, 1);
	return fd;
}

void close_counted(long fd)
{
	long got = call(SYS_close, fd, 0, 0);
	count(CLOSES, 1);
	if (got < 0)
		count(CLOSE_ERRORS, 1);
}

long read_counted(long fd, void *to, word size)
{
	long got = call(SYS_read, fd, to, size);
	if (got == -EBADF) {
		count(BAD_READS, 1);
		return got;
	}
	count(READS, 1);
	count(got < 0 ? READ_ERRORS : READ_BYTES, got < 0 ? 1 : got);
	return got;
}

long write_counted(long fd, const void *from, word size)
{
	long got = call(SYS_write, fd, from, size);
	/* One that is open for reading comes as far as the function that is counted. */
	if (got == -EBADF && fd == UNUSED_DESCRIPTOR) {
		count(BAD_WRITES, 1);
		return got;
	}
	count(WRITES, 1);
	count(got < 0 ? WRITE_ERRORS : WRITE_BYTES, got < 0 ? 1 : got);
	return got;
}

static void unlink_counted(const char *path, long wanted)
{
	expect("unlink", call(SYS_unlink, path, 0, 0), wanted);
	if (wanted == -ENOENT) {
		count(MISSING_DELETES, 1);
		return;
	}
	count(DELETES, 1);
	if (wanted < 0)
		count(DELETE_ERRORS, 1);
}

static void fsync_counted(long fd, long wanted)
{
	expect("fsync", call(SYS_fsync, fd, 0, 0), wanted);
	count(FSYNCS, 1);
	if (wanted < 0)
		count(FSYNC_ERRORS, 1);
}

static void clone_badly(void)
{
	expect("clone of a bad process", call(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0), -EINVAL);
	count(START_ERRORS, 1);
}

#define TIMES(n) for (word i_ = (n); i_ > 0; i_--)

static void read_all(word k)
{
	long here = expect_fd("directory", open_counted(".", O_RDONLY | O_DIRECTORY));
	TIMES(k % 3 + 1)
		expect("read of a directory", read_counted(here, buffer, 1), -EISDIR);
	close_counted(here);
	TIMES(k + 2) {
		long data = expect_fd("data file", open_counted("data", O_RDONLY));
		expect("read", read_counted(data, buffer, k + 1), (long)k + 1);
		TIMES(k % 2)
			expect("write to a file open for reading", write_counted(data, buffer, 1), -EBADF);
		close_counted(data);
	}
	TIMES(k % 4)
		expect("read of a bad descriptor", read_counted(UNUSED_DESCRIPTOR, buffer, 1), -EBADF);
}

static void write_all(word k)
{
	char path[24] = "w";
	decimal(path + 1, k);
	long file = expect_fd("creat", open_counted(path, O_CREAT | O_RDWR));
	TIMES(k + 4)
		expect("write", write_counted(file, buffer, k + SMALLEST), (long)k + SMALLEST);
	TIMES(k % 3 + 1)
		fsync_counted(file, 0);
	close_counted(file);
	unlink_counted(path, 0);
	TIMES(k % 5)
		expect("write to a bad descriptor", write_counted(UNUSED_DESCRIPTOR, buffer, 1), -EBADF);
}

static void fail_all(word k)
{
	TIMES(k % 5 + 1)
		expect("openat of a missing name", open_counted("missing", O_RDONLY), -ENOENT);
	TIMES(k % 4)
		close_counted(UNUSED_DESCRIPTOR);
	TIMES(k % 3)
		unlink_counted("missing", -ENOENT);
	TIMES(k % 2)
		unlink_counted("folder", -EISDIR);
	TIMES(k % 2)
		fsync_counted(UNUSED_DESCRIPTOR, -EBADF);
	TIMES(k % 3)
		clone_badly();
}

void work(word k)
{
	read_all(k);
	write_all(k);
	fail_all(k);
}

void leave_open(word n)
{
	TIMES(n)
		expect_fd("data file", open_counted("data", O_RDONLY));
}
