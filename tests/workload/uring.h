/*
 * One io_uring of one entry: each call submits one request and waits for its result.
 */
#ifndef EBPF_PROCESS_URING_H
#define EBPF_PROCESS_URING_H

#include "system.h"

enum { URING_OPENAT = 18, URING_CLOSE = 19, URING_READ = 22, URING_WRITE = 23, URING_UNLINKAT = 36 };

struct uring_request {
	unsigned char operation, flags;
	unsigned short priority;
	int fd;
	word offset, address;
	unsigned length, operation_flags;
	word rest[4];
};
struct uring_result { word data; int result; unsigned flags; };
struct uring_parameters {
	unsigned entries, results, flags, thread_cpu, thread_idle, features, workers_of, reserved[3];
	struct { unsigned head, tail, mask, entries, flags, dropped, array, reserved[3]; } submission;
	struct { unsigned head, tail, mask, entries, overflow, results, flags, reserved[3]; } completion;
};

static struct {
	long fd;
	char *submission, *completion;
	struct uring_request *requests;
	struct uring_parameters at;
} uring;

static inline char *uring_map(word size, word what)
{
	long at = call6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, (word)uring.fd, what);
	if (at < 0 && at > -4096)
		fail("mmap of io_uring", at);
	return (char *)at;
}

/* Every call but the first does nothing. */
static inline void uring_prepare(void)
{
	if (uring.fd)
		return;
	uring.fd = expect_fd("io_uring_setup", call(SYS_io_uring_setup, 1, &uring.at, 0));
	/* One worker thread of each kind. Kernels that cannot limit them have none of the process's own. */
	static const unsigned most[2] = { 1, 1 };
	call6(SYS_io_uring_register, (word)uring.fd, 19 /* IORING_REGISTER_IOWQ_MAX_WORKERS */, (word)most, 2, 0, 0);
	uring.submission = uring_map(4096, 0);
	uring.completion = uring_map(4096, 0x8000000);
	uring.requests = (void *)uring_map(sizeof *uring.requests, 0x10000000);
}

static inline long uring_call(int operation, long fd, const void *address, word length, word offset, unsigned flags)
{
	volatile unsigned *tail = (void *)(uring.submission + uring.at.submission.tail);
	volatile unsigned *head = (void *)(uring.completion + uring.at.completion.head);
	volatile unsigned *mask = (void *)(uring.completion + uring.at.completion.mask);
	volatile struct uring_result *results = (void *)(uring.completion + uring.at.completion.results);
	struct uring_request *request = uring.requests;
	long result;

	request->operation = (unsigned char)operation;
	request->fd = (int)fd;
	request->address = (word)address;
	request->length = (unsigned)length;
	request->offset = offset;
	request->operation_flags = flags;
	((volatile unsigned *)(uring.submission + uring.at.submission.array))[0] = 0;
	*tail = *tail + 1;
	expect("io_uring_enter", call6(SYS_io_uring_enter, (word)uring.fd, 1, 1, 1 /* wait */, 0, 0), 1);
	result = results[*head & *mask].result;
	*head = *head + 1;
	return result;
}

#endif
