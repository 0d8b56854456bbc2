/*
 * Calls that ask for data to be written to disks: the rows of tests/src/rows/sync.rs.
 */
#include "counts.h"
#include "process.h"
#include "uring.h"

enum {
	SYS_msync = 26, SYS_fsync = 74, SYS_fdatasync = 75, SYS_sync = 162, SYS_sync_file_range = 277, SYS_syncfs = 306,
	I386_sync = 36, I386_fsync = 118, I386_msync = 144, I386_fdatasync = 148, I386_sync_file_range = 314,
	I386_syncfs = 344,
	MS_ASYNC = 1, SYNC_FILE_RANGE_WRITE = 2, NO_SUCH_FLAG = 8, O_SYNC = 04010000, URING_FSYNC = 3,
};

/* Static, so below 4 GiB: an int80 call can address it. */
static char page[4096] __attribute__((aligned(4096)));
static long memory; /* a file that is nowhere but in memory: of it there is nothing to write */

static long range(word flags)
{
	return call6(SYS_sync_file_range, (word)memory, 0, 0, flags, 0, 0);
}

/* A call of either kind. */
static long either(int int80, long native, long i386, word a, word b, word c)
{
	return int80 ? call_int80(i386, a, b, c) : call(native, a, b, c);
}

static void prepare_sync(void)
{
	memory = expect_fd("memfd_create", call(SYS_memfd_create, "synced", 0, 0));
}

static void sync_all(int int80)
{
	prepare_sync();
	for (word i = 0; i < FSYNCS; i++)
		expect("fsync", call(SYS_fsync, memory, 0, 0), 0);
	for (word i = 0; i < BAD_FSYNCS; i++)
		expect("fsync", call(SYS_fsync, UNUSED_DESCRIPTOR, 0, 0), -EBADF);
	for (word i = 0; i < FDATASYNCS; i++)
		expect("fdatasync", call(SYS_fdatasync, memory, 0, 0), 0);
	for (word i = 0; i < BAD_FDATASYNCS; i++)
		expect("fdatasync", call(SYS_fdatasync, UNUSED_DESCRIPTOR, 0, 0), -EBADF);
	for (word i = 0; i < SYNCS; i++)
		expect("sync", call(SYS_sync, 0, 0, 0), 0);
	for (word i = 0; i < SYNCFSS; i++)
		expect("syncfs", call(SYS_syncfs, memory, 0, 0), 0);
	for (word i = 0; i < BAD_SYNCFSS; i++)
		expect("syncfs", call(SYS_syncfs, UNUSED_DESCRIPTOR, 0, 0), -EBADF);
	for (word i = 0; i < MSYNCS; i++)
		expect("msync", call(SYS_msync, page, sizeof page, MS_ASYNC), 0);
	for (word i = 0; i < BAD_MSYNCS; i++)
		expect("msync", call(SYS_msync, page + 1, sizeof page, MS_ASYNC), -EINVAL);
	for (word i = 0; i < RANGES; i++)
		expect("sync_file_range", range(SYNC_FILE_RANGE_WRITE), 0);
	for (word i = 0; i < BAD_RANGES; i++)
		expect("sync_file_range", range(NO_SUCH_FLAG), -EINVAL);
	for (word i = 0; i < INT80_SYNCS; i++) {
		word fd = (word)memory;
		expect("fsync", either(int80, SYS_fsync, I386_fsync, fd, 0, 0), 0);
		expect("fdatasync", either(int80, SYS_fdatasync, I386_fdatasync, fd, 0, 0), 0);
		expect("sync", either(int80, SYS_sync, I386_sync, 0, 0, 0), 0);
		expect("syncfs", either(int80, SYS_syncfs, I386_syncfs, fd, 0, 0), 0);
		expect("msync", either(int80, SYS_msync, I386_msync, (word)page, sizeof page, MS_ASYNC), 0);
		expect("sync_file_range",
		       either(int80, SYS_sync_file_range, I386_sync_file_range, UNUSED_DESCRIPTOR, 0, 0), -EBADF);
	}
}
PART_OF_THE_WHOLE(sync_all);

static void do_fsync(void) { EACH expect("fsync", call(SYS_fsync, memory, 0, 0), 0); }
static void do_fsync_bad(void) { EACH expect("fsync", call(SYS_fsync, UNUSED_DESCRIPTOR, 0, 0), -EBADF); }
static void do_fsync_int80(void) { EACH expect("fsync", call_int80(I386_fsync, (word)memory, 0, 0), 0); }
static void prepare_fsync_uring(void)
{
	prepare_sync();
	uring_prepare();
	expect("io_uring fsync", uring_call(URING_FSYNC, memory, 0, 0, 0, 0), 0);
}
static void do_fsync_uring(void) { EACH expect("io_uring fsync", uring_call(URING_FSYNC, memory, 0, 0, 0, 0), 0); }
static void do_fdatasync(void) { EACH expect("fdatasync", call(SYS_fdatasync, memory, 0, 0), 0); }
static void do_fdatasync_bad(void)
{
	EACH expect("fdatasync", call(SYS_fdatasync, UNUSED_DESCRIPTOR, 0, 0), -EBADF);
}
static void do_sync(void) { EACH expect("sync", call(SYS_sync, 0, 0, 0), 0); }
static void do_sync_int80(void) { EACH expect("sync", call_int80(I386_sync, 0, 0, 0), 0); }
static void do_syncfs(void) { EACH expect("syncfs", call(SYS_syncfs, memory, 0, 0), 0); }
static void do_syncfs_bad(void) { EACH expect("syncfs", call(SYS_syncfs, UNUSED_DESCRIPTOR, 0, 0), -EBADF); }
static void do_msync(void) { EACH expect("msync", call(SYS_msync, page, sizeof page, MS_ASYNC), 0); }
static void do_msync_bad(void) { EACH expect("msync", call(SYS_msync, page + 1, sizeof page, MS_ASYNC), -EINVAL); }
static void do_range(void) { EACH expect("sync_file_range", range(SYNC_FILE_RANGE_WRITE), 0); }
static void do_range_bad(void) { EACH expect("sync_file_range", range(NO_SUCH_FLAG), -EINVAL); }
static void do_range_int80(void)
{
	EACH expect("sync_file_range", call_int80(I386_sync_file_range, UNUSED_DESCRIPTOR, 0, 0), -EBADF);
}
static long synced;
static void prepare_write_synced(void)
{
	synced = expect_fd("openat", call6(SYS_openat, (word)AT_FDCWD, (word)"synced", O_CREAT | O_RDWR | O_SYNC, 0600, 0, 0));
}
static void do_write_synced(void) { EACH expect("write", call(SYS_write, synced, page, 3), 3); }

OPERATIONS(sync) = {
	{ "fsync", prepare_sync, do_fsync },
	{ "fsync-bad", 0, do_fsync_bad },
	{ "fsync-int80", prepare_sync, do_fsync_int80 },
	{ "fsync-uring", prepare_fsync_uring, do_fsync_uring },
	{ "write-synced", prepare_write_synced, do_write_synced },
	{ "fdatasync", prepare_sync, do_fdatasync },
	{ "fdatasync-bad", 0, do_fdatasync_bad },
	{ "sync", 0, do_sync },
	{ "sync-int80", 0, do_sync_int80 },
	{ "syncfs", prepare_sync, do_syncfs },
	{ "syncfs-bad", 0, do_syncfs_bad },
	{ "msync", 0, do_msync },
	{ "msync-bad", 0, do_msync_bad },
	{ "sync-file-range", prepare_sync, do_range },
	{ "sync-file-range-bad", prepare_sync, do_range_bad },
	{ "sync-file-range-int80", 0, do_range_int80 },
};
