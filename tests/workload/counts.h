/*
 * What the workload does: how often, and with how many bytes.
 *
 * The one place for these numbers. workload.c includes this file, and build.rs turns each line
 * `#define NAME NUMBER / * what it counts * /` into a Rust constant with that comment. Most are primes,
 * so that two counters that were swapped or added twice do not come out equal by accident.
 */
#ifndef EBPF_PROCESS_COUNTS_H
#define EBPF_PROCESS_COUNTS_H

/* Opening and closing. */
#define OPENS 11 /* open(2) of an existing file */
#define OPENATS 13 /* openat(2) of an existing file */
#define OPENAT2S 17 /* openat2(2) of an existing file */
#define CREATS 42 /* creat(2) of a new file, one for each file that is unlinked later */
#define HELD_OPENS 4 /* descriptors kept for the whole run: data file, its directory, /dev/zero, /dev/full */
#define MISSING_OPENS 29 /* openat(2) of a name that does not exist: ENOENT */
#define BAD_CLOSES 31 /* close(2) of a descriptor that is not open: EBADF */

/* Writing. */
#define WRITES 41 /* write(2) to the data file */
#define WRITE_SIZE 103 /* bytes of each write(2) */
#define PWRITES 43 /* pwrite64(2) over the beginning of the data file */
#define PWRITE_SIZE 107 /* bytes of each pwrite64(2) */
#define WRITEVS 47 /* writev(2) of two parts to the data file */
#define WRITEV_FIRST 5 /* bytes of the first part of each writev(2) */
#define WRITEV_SECOND 18 /* bytes of the second part of each writev(2) */
#define PWRITEVS 53 /* pwritev(2) of two parts over the beginning of the data file */
#define PWRITEV_FIRST 13 /* bytes of the first part of each pwritev(2) */
#define PWRITEV_SECOND 17 /* bytes of the second part of each pwritev(2) */
#define PWRITEV2S 6 /* pwritev2(2) of two parts, the sizes of pwritev(2) */
#define FULL_WRITES 89 /* write(2) to /dev/full: ENOSPC */

/* Reading. */
#define READS 37 /* read(2) that gets all it asked for */
#define READ_SIZE 109 /* bytes of each full read(2) */
#define SHORT_READS 59 /* read(2) that asks for more than there is left */
#define SHORT_SIZE 61 /* bytes that each short read(2) gets */
#define END_READS 64 /* read(2) at the end of the file: 0 bytes, no error */
#define DIRECTORY_READS 67 /* read(2) of a directory: EISDIR */
#define BAD_READS 71 /* read(2) of a descriptor that is not open: EBADF */
#define PREADS 73 /* pread64(2) at the beginning of the data file */
#define PREAD_SIZE 113 /* bytes of each pread64(2) */
#define READVS 79 /* readv(2) of two parts */
#define READV_FIRST 19 /* bytes of the first part of each readv(2) */
#define READV_SECOND 23 /* bytes of the second part of each readv(2) */
#define PREADVS 83 /* preadv(2) of two parts */
#define PREADV_FIRST 33 /* bytes of the first part of each preadv(2) */
#define PREADV_SECOND 27 /* bytes of the second part of each preadv(2) */
#define PREADV2S 8 /* preadv2(2) of two parts, the sizes of preadv(2) */
#define RESTARTED_READS 3 /* read(2) of one byte that a signal interrupts once and the kernel restarts: two calls each */
#define INTERRUPTED_READS 5 /* read(2) that a signal interrupts for good: EINTR */

/* Deleting. */
#define UNLINKS 19 /* unlink(2) of a file */
#define UNLINKATS 23 /* unlinkat(2) of a file */
#define RMDIRS 9 /* unlinkat(2) with `AT_REMOVEDIR`: no file is deleted */
#define MISSING_UNLINKS 97 /* unlink(2) of a name that does not exist: ENOENT */

/* The 32-bit entry of a 64-bit process; without it in the kernel the same calls go the ordinary way. */
#define INT80_READS 7 /* int80 read of /dev/zero */
#define INT80_READ_SIZE 39 /* bytes of each int80 read */
#define INT80_CLOSES 10 /* int80 close of a descriptor opened for it by openat(2) */
#define INT80_GETPIDS 12 /* int80 getpid, whose number is that of the 64-bit writev: nothing to count */

/* Starting. */
#define CLONE_FORKS 16 /* clone(2) as a C library's fork does it */
#define FORKS 3 /* fork(2) */
#define VFORKS 14 /* vfork(2) */
#define CLONE3_FORKS 5 /* clone3(2) of a process */
#define EXECS 15 /* clone(2) of a process that executes the workload again */
#define SIGNALLERS 2 /* clone(2) of the processes that interrupt reads */
#define THREADS 34 /* clone(2) of a thread */
#define BAD_PROCESS_CLONES 26 /* clone(2) of a process with flags that contradict: EINVAL */
#define BAD_THREAD_CLONES 22 /* clone(2) of a thread with flags that contradict: EINVAL */
#define BAD_PROCESS_CLONE3S 4 /* clone3(2) of a process with flags that contradict: EINVAL */
#define BAD_THREAD_CLONE3S 2 /* clone3(2) of a thread with flags that contradict: EINVAL */
#define REJECTED_CLONE3S 20 /* clone3(2) of a process whose arguments are refused before the fork function */

/* Writing to disks. */
#define FSYNCS 127 /* fsync(2) of a file in memory */
#define BAD_FSYNCS 101 /* fsync(2) of a descriptor that is not open: EBADF */
#define FDATASYNCS 131 /* fdatasync(2) of a file in memory */
#define BAD_FDATASYNCS 103 /* fdatasync(2) of a descriptor that is not open: EBADF */
#define SYNCS 2 /* sync(2) */
#define SYNCFSS 137 /* syncfs(2) of a file in memory */
#define BAD_SYNCFSS 107 /* syncfs(2) of a descriptor that is not open: EBADF */
#define MSYNCS 139 /* msync(2) of a page */
#define BAD_MSYNCS 113 /* msync(2) of what is no page: EINVAL */
#define RANGES 149 /* `sync_file_range(2)` of a file in memory */
#define BAD_RANGES 105 /* `sync_file_range(2)` with flags that do not exist: EINVAL */
#define INT80_SYNCS 4 /* int80 calls of each of these; the last is of a descriptor that is not open: EBADF */

/* Mounting: all of these are refused, or the kernel does not have them. */
#define MOUNTS 151 /* mount(2) of what is no address */
#define UMOUNTS 157 /* umount2(2) with flags that do not exist */
#define OPEN_TREES 163 /* `open_tree(2)` with flags that do not exist */
#define MOVE_MOUNTS 167 /* `move_mount(2)` with flags that do not exist */
#define FSOPENS 173 /* fsopen(2) with flags that do not exist */
#define FSCONFIGS 179 /* fsconfig(2) of a bad descriptor */
#define FSMOUNTS 181 /* fsmount(2) with flags that do not exist */
#define FSPICKS 191 /* fspick(2) with flags that do not exist */
#define SETATTRS 193 /* `mount_setattr(2)` with flags that do not exist */
#define INT80_MOUNTS 3 /* int80 calls of each of these, and umount(2) */

#endif
