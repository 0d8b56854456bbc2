/*
 * What the processes of the mode `crew` share: who has done what, in a memory that outlives an exec.
 */
#ifndef EBPF_PROCESS_CREW_H
#define EBPF_PROCESS_CREW_H

#include "process.h"

/* What is counted of a stage; `counted` in crew.c has their names, in this order. */
enum count {
	OPENS, OPEN_ERRORS, CLOSES, CLOSE_ERRORS,
	READS, READ_ERRORS, READ_BYTES, BAD_READS, /* bad: of a descriptor that is not open, so not among READS */
	WRITES, WRITE_ERRORS, WRITE_BYTES, BAD_WRITES,
	DELETES, DELETE_ERRORS, MISSING_DELETES, /* missing: not among DELETES */
	FSYNCS, FSYNC_ERRORS,
	PROCESSES, THREADS, START_ERRORS, EXITS,
	COUNTS
};

/* A process under one name in one control group. */
struct stage {
	long pid;
	char name[16];
	int group; /* 0 is the leader's own, others are below it */
	long counts[COUNTS];
};

struct member {
	long pid;
	long started; /* since boot, in nanoseconds: a moment before its fork */
	long lived;   /* from before its fork until it was found dead, in nanoseconds */
	long io[4];   /* of /proc/PID/io at its end: rchar, wchar, syscr, syscw; -1 where the kernel does not tell */
	int stage;    /* the current one */
	int named;    /* whether it has a name of its own: by an exec, or because it renamed itself */
	int part;     /* how many of its parts are over, which an exec has to know */
	int execs;
	int alive;    /* its tasks */
	int met, let_go; /* meetings with the leader that the member has reached, and that the leader has ended */
};

enum {
	SHORT = 30, RENAMED = 10, GROUPED = 5, THREADED = 5,
	MEMBERS = SHORT + RENAMED + GROUPED + THREADED,
	LEADER = MEMBERS, /* its place behind the others */
	PARTS = 3,        /* what a member does in turn, all but the short ones with a meeting between two */
	MOST_STAGES = 512,
	SHARED_MEMORY = 100, /* the descriptor of what is shared, in all of them */
};

struct crew {
	char prefix[10];
	char folder[256]; /* where the leader's control group is, and its path in the hierarchy */
	char path[256];
	char program[256];
	int stages_used;
	struct stage stages[MOST_STAGES];
	struct member members[MEMBERS + 1];
};

extern struct crew *crew;
extern struct member *me;

/* Counting, for whoever calls. */
void count(enum count what, long n);
/* Begins a stage of a member that does nothing just now. */
void begin_stage(struct member *member, const char *name, int group);
void name_stage(struct stage *stage, const char *name);
struct stage *stage_of(const struct member *member);

void copy_text(char *to, const char *from, word size);

/* Calls that count themselves; any result is taken. */
long open_counted(const char *path, word flags);
void close_counted(long fd);
long read_counted(long fd, void *to, word size);
long write_counted(long fd, const void *from, word size);
/* Everything that a member does at a time, in numbers that follow from `k` and that no other k has. */
void work(word k);
/* Opens files that stay open. */
void leave_open(word n);

/* The name behind the crew's prefix, and with a number. */
const char *name_of(const char *suffix, long number);
/* Where two wait for each other: sleeps until *at is no longer below `wanted`; false when a second is over. */
int wait_for(int *at, int wanted);
void raise(int *at, int to);
void wake(int *at);
/* Attaches to what is shared, after a fork or an exec. */
void join_crew(int index);

/* A member's life, and how it goes on in the image that it executes: what it has done says where it is. */
void run_member(void) __attribute__((noreturn));
/* Ends a part: until the leader lets it go on. */
void meet(void);
/* Another name, by prctl and by exec. */
void rename_to(const char *name);
void execute_as(const char *name) __attribute__((noreturn));
/* The last exit of a process, with the tasks that it ends. */
void finish(void) __attribute__((noreturn));
/* The members with threads. */
void run_threaded(void) __attribute__((noreturn));

#endif
