/*
 * The mode `launch`: symbolic links, and then this program again and again with fewer and fewer arguments. For the
 * counters of the kernel probe outside of our tree (tests/out-of-tree-probe).
 */
#include "process.h"

enum { SYS_symlink = 88, SYS_symlinkat = 266, EPERM = 1, EEXIST = 17 };

/* Becomes this program again, with `left` in its second argument and as many arguments behind it. */
static void execute_with(word left)
{
	enum { MOST = 512 };
	static char *arguments[MOST], *no_environment[] = { 0 };
	static char number[24];
	word i = 0;

	if (left > MOST - 4)
		fail("too many programs", (long)left);
	decimal(number, left);
	arguments[i++] = "workload";
	arguments[i++] = "launched";
	arguments[i++] = number;
	while (i < 3 + left)
		arguments[i++] = "";
	fail("execve", call(SYS_execve, "/proc/self/exe", arguments, no_environment));
}

void run_launch(const char *directory, word made, word existing, word refused, word programs)
{
	expect("chdir", call(SYS_chdir, directory, 0, 0), 0);
	stop();
	for (word i = 0; i < made; i++)
		if (i % 2)
			expect("symlink", call(SYS_symlink, "nowhere", name('l', i), 0), 0);
		else
			expect("symlinkat", call(SYS_symlinkat, "nowhere", AT_FDCWD, name('l', i)), 0);
	for (word i = 0; i < existing; i++)
		expect("symlink of a name that is taken", call(SYS_symlink, "nowhere", name('l', 0), 0), -EEXIST);
	/* A file system without symbolic links, which only the function that makes them finds out. */
	for (word i = 0; i < refused; i++)
		expect("symlink in sysfs", call(SYS_symlink, "nowhere", "/sys/kernel/ebpf-process", 0), -EPERM);
	if (programs)
		execute_with(programs - 1);
	stop();
}

void run_launched(word left)
{
	if (left)
		execute_with(left - 1);
	stop();
}
