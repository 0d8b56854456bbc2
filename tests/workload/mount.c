/*
 * Calls that attach file systems and detach them: the rows of tests/src/rows/mount.rs.
 */
#include "counts.h"
#include "process.h"

enum {
	SYS_mount = 165, SYS_umount2 = 166, SYS_open_tree = 428, SYS_move_mount = 429, SYS_fsopen = 430,
	SYS_fsconfig = 431, SYS_fsmount = 432, SYS_fspick = 433, SYS_mount_setattr = 442, SYS_open_tree_attr = 467,
	I386_mount = 21, I386_umount = 22, I386_umount2 = 52,
	EPERM = 1, E2BIG = 7, EFAULT = 14, EEXIST = 17,
};

/* No address, descriptor, size or flags, in 32 bits neither. */
#define NOTHING ((word)-1)

/* A call that must be refused, whatever is looked at first: what it is given, who makes it, whether there is such a
 * call. */
static void refused(const char *what, long result)
{
	if (result != -EINVAL && result != -EFAULT && result != -EPERM && result != -ENOSYS && result != -E2BIG &&
	    result != -EBADF)
		fail(what, result);
}

static long try(long number)
{
	return call6(number, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING);
}

static long either(int int80, long native, long i386)
{
	return int80 ? call_int80(i386, NOTHING, NOTHING, NOTHING) : try(native);
}

static void mount_all(int int80)
{
	for (word i = 0; i < MOUNTS; i++)
		refused("mount", try(SYS_mount));
	for (word i = 0; i < UMOUNTS; i++)
		refused("umount2", try(SYS_umount2));
	for (word i = 0; i < OPEN_TREES; i++)
		refused("open_tree", try(SYS_open_tree));
	for (word i = 0; i < MOVE_MOUNTS; i++)
		refused("move_mount", try(SYS_move_mount));
	for (word i = 0; i < FSOPENS; i++)
		refused("fsopen", try(SYS_fsopen));
	for (word i = 0; i < FSCONFIGS; i++)
		refused("fsconfig", try(SYS_fsconfig));
	for (word i = 0; i < FSMOUNTS; i++)
		refused("fsmount", try(SYS_fsmount));
	for (word i = 0; i < FSPICKS; i++)
		refused("fspick", try(SYS_fspick));
	for (word i = 0; i < SETATTRS; i++)
		refused("mount_setattr", try(SYS_mount_setattr));
	for (word i = 0; i < INT80_MOUNTS; i++) {
		refused("mount", either(int80, SYS_mount, I386_mount));
		refused("umount2", either(int80, SYS_umount2, I386_umount2));
		refused("umount", either(int80, SYS_umount2, I386_umount));
		refused("open_tree", either(int80, SYS_open_tree, SYS_open_tree));
		refused("move_mount", either(int80, SYS_move_mount, SYS_move_mount));
		refused("fsopen", either(int80, SYS_fsopen, SYS_fsopen));
		refused("fsconfig", either(int80, SYS_fsconfig, SYS_fsconfig));
		refused("fsmount", either(int80, SYS_fsmount, SYS_fsmount));
		refused("fspick", either(int80, SYS_fspick, SYS_fspick));
		refused("mount_setattr", either(int80, SYS_mount_setattr, SYS_mount_setattr));
	}
}
PART_OF_THE_WHOLE(mount_all);

/* An unmount of what a mount of the same row put there; the calls of the other are seen, too. */
static void prepare_mount(void)
{
	long made = call(SYS_mkdir, "mounted", 0700, 0);
	if (made != 0 && made != -EEXIST)
		fail("mkdir", made);
}
static void do_mount(void)
{
	EACH {
		expect("mount", call6(SYS_mount, (word)"none", (word)"mounted", (word)"tmpfs", 0, 0, 0), 0);
		expect("umount2", call(SYS_umount2, "mounted", 0, 0), 0);
	}
}
static void do_mount_bad(void) { EACH refused("mount", try(SYS_mount)); }
static void do_mount_int80(void) { EACH refused("mount", call_int80(I386_mount, NOTHING, NOTHING, NOTHING)); }
static void do_umount_bad(void) { EACH refused("umount2", try(SYS_umount2)); }
static void do_umount2_int80(void) { EACH refused("umount2", call_int80(I386_umount2, NOTHING, NOTHING, NOTHING)); }
static void do_umount_int80(void) { EACH refused("umount", call_int80(I386_umount, NOTHING, NOTHING, NOTHING)); }
static void do_open_tree(void) { EACH expect_fd("open_tree", call(SYS_open_tree, AT_FDCWD, ".", 0)); }
static void do_open_tree_bad(void) { EACH refused("open_tree", try(SYS_open_tree)); }
static void do_fsopen(void) { EACH expect_fd("fsopen", call(SYS_fsopen, "tmpfs", 0, 0)); }
static void do_fspick(void) { EACH refused("fspick", try(SYS_fspick)); }
static void do_fsconfig(void) { EACH refused("fsconfig", try(SYS_fsconfig)); }
static void do_fsmount(void) { EACH refused("fsmount", try(SYS_fsmount)); }
static void do_move_mount(void) { EACH refused("move_mount", try(SYS_move_mount)); }
static void do_mount_setattr(void) { EACH refused("mount_setattr", try(SYS_mount_setattr)); }
static void do_open_tree_attr(void) { EACH refused("open_tree_attr", try(SYS_open_tree_attr)); }

OPERATIONS(mount) = {
	{ "mount", prepare_mount, do_mount },
	{ "mount-bad", 0, do_mount_bad },
	{ "mount-int80", 0, do_mount_int80 },
	{ "umount-bad", 0, do_umount_bad },
	{ "umount2-int80", 0, do_umount2_int80 },
	{ "umount-int80", 0, do_umount_int80 },
	{ "open-tree", 0, do_open_tree },
	{ "open-tree-bad", 0, do_open_tree_bad },
	{ "move-mount-bad", 0, do_move_mount },
	{ "fsopen", 0, do_fsopen },
	{ "fsconfig-bad", 0, do_fsconfig },
	{ "fsmount-bad", 0, do_fsmount },
	{ "fspick-bad", 0, do_fspick },
	{ "mount-setattr-bad", 0, do_mount_setattr },
	{ "open-tree-attr-bad", 0, do_open_tree_attr },
};
