/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every completion carries its loop_op as user data; 0 marks a completion nobody waits for (a cancel).
 * Other threads reach the loop by one list and one eventfd, whose read is a request like any other.
 */
#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

#define LOOP_TURN_MAX 1024 /* completions dispatched before new submissions enter the kernel */

struct loop_call {
	struct loop_call *next;
	void (*fn)(void *arg);
	void *arg;
	bool ran;
};

struct loop {
	struct io_uring ring;
	bool enabled;            /* io */
	pthread_t thread;        /* const once enabled */
	struct loop_event wake;  /* io */
	struct loop_task *tasks; /* io */

	pthread_mutex_t lock; /* leaf; guards calls and each call's ran */
	pthread_cond_t ran;
	struct loop_call *calls;
	bool stop; /* atomic */
};

/* The operations that loop.h offers, and nothing else: the kernel refuses the rest (-EACCES). */
static const uint8_t permitted[] = {
	IORING_OP_READ,    IORING_OP_WRITE,     IORING_OP_READV,    IORING_OP_WRITEV,
	IORING_OP_FSYNC,   IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_ACCEPT,
	IORING_OP_SEND,    IORING_OP_RECV,      IORING_OP_TIMEOUT,  IORING_OP_ASYNC_CANCEL,
	IORING_OP_SENDMSG, IORING_OP_RECVMSG,
};

static int loop_restrict(struct loop *loop)
{
	struct io_uring_restriction rule[ARRAY_LEN(permitted) + 2];

	memset(rule, 0, sizeof(rule));
	for (size_t i = 0; i < ARRAY_LEN(permitted); i++) {
		rule[i].opcode = IORING_RESTRICTION_SQE_OP;
		rule[i].sqe_op = permitted[i];
	}
	rule[ARRAY_LEN(permitted)].opcode = IORING_RESTRICTION_REGISTER_OP;
	rule[ARRAY_LEN(permitted)].register_op = IORING_REGISTER_ENABLE_RINGS;
	rule[ARRAY_LEN(permitted) + 1].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	return io_uring_register_restrictions(&loop->ring, rule, ARRAY_LEN(rule));
}

static int loop_setup_ring(struct loop *loop, unsigned entries, struct errmsg *why)
{
	/* One issuer, completions run when we ask for them: no interrupts of a running turn. */
	unsigned flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP;
	int err = io_uring_queue_init(entries, &loop->ring,
				      flags | IORING_SETUP_SINGLE_ISSUER |
					      IORING_SETUP_DEFER_TASKRUN);

	if (err == -EINVAL) /* before Linux 6.1 */
		err = io_uring_queue_init(entries, &loop->ring, flags);
	if (err == -ENOSYS || err == -EPERM)
		return err_set(
			why, err,
			"io_uring is not available (see the sysctl kernel.io_uring_disabled, or "
			"the seccomp filter this process runs under)");
	if (err)
		return err_set(why, err, "io_uring_setup with %u entries", entries);
	err = loop_restrict(loop);
	if (err) {
		io_uring_queue_exit(&loop->ring);
		return err_set(why, err, "io_uring: register restrictions");
	}
	return 0;
}

static void loop_run_calls(struct loop_event *wake)
{
	struct loop *loop = wake->loop;

	for (;;) {
		struct loop_call *call;
		{
			cleanup_unlock pthread_mutex_t *held = hold(&loop->lock);
			call = loop->calls;
			if (call)
				loop->calls = call->next;
		}
		if (!call)
			return;
		call->fn(call->arg);
		cleanup_unlock pthread_mutex_t *held = hold(&loop->lock);
		call->ran = true;
		pthread_cond_broadcast(&loop->ran);
	}
}

int loop_create(struct loop **out, unsigned entries, struct errmsg *why)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return err_set(why, ENOMEM, "loop");
	int err = loop_setup_ring(loop, entries, why);
	if (err) {
		free(loop);
		return err;
	}
	VERIFY(pthread_mutex_init(&loop->lock, NULL) == 0);
	VERIFY(pthread_cond_init(&loop->ran, NULL) == 0);
	loop->wake.fd = eventfd(0, EFD_CLOEXEC);
	if (loop->wake.fd < 0) {
		err = err_set(why, errno, "loop: eventfd");
		loop_destroy(loop);
		return err;
	}
	loop_event_start(loop, &loop->wake, loop->wake.fd, loop_run_calls);
	*out = loop;
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	io_uring_queue_exit(&loop->ring);
	if (loop->wake.fd >= 0)
		close(loop->wake.fd);
	pthread_cond_destroy(&loop->ran);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static void loop_wake(struct loop *loop)
{
	uint64_t one = 1;
	VERIFY(write(loop->wake.fd, &one, sizeof(one)) == sizeof(one));
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
	loop_wake(loop);
}

bool loop_here(const struct loop *loop)
{
	return __atomic_load_n(&loop->enabled, __ATOMIC_ACQUIRE) &&
	       pthread_equal(loop->thread, pthread_self());
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct loop_call call = {.fn = fn, .arg = arg};

	assert(!loop_here(loop));
	VERIFY(pthread_mutex_lock(&loop->lock) == 0);
	struct loop_call **tail = &loop->calls;
	while (*tail)
		tail = &(*tail)->next;
	*tail = &call;
	loop_wake(loop);
	while (!call.ran)
		VERIFY(pthread_cond_wait(&loop->ran, &loop->lock) == 0);
	pthread_mutex_unlock(&loop->lock);
}

static int loop_enable(struct loop *loop)
{
	int err = io_uring_enable_rings(&loop->ring);
	if (err)
		return err;
	loop->thread = pthread_self();
	__atomic_store_n(&loop->enabled, true, __ATOMIC_RELEASE);
	return 0;
}

/* One at a time: done() may take turns itself (a device that drains), which dispatch what follows. */
static bool loop_dispatch(struct loop *loop)
{
	struct io_uring_cqe *cqe;

	if (io_uring_peek_batch_cqe(&loop->ring, &cqe, 1) == 0)
		return false;
	struct loop_op *op = io_uring_cqe_get_data(cqe);
	int res = cqe->res;

	io_uring_cqe_seen(&loop->ring, cqe);
	if (op) {
		op->busy = false;
		op->done(op, res);
	}
	return true;
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
	assert(task->run);
	if (task->queued)
		return;
	task->queued = true;
	task->next = loop->tasks;
	loop->tasks = task;
}

/* Tasks that tasks defer run at the end of the next turn, which does not wait then. */
static void loop_run_tasks(struct loop *loop)
{
	struct loop_task *task = loop->tasks;

	loop->tasks = NULL;
	while (task) {
		struct loop_task *next = task->next;
		task->queued = false;
		task->run(task);
		task = next;
	}
}

int loop_step(struct loop *loop, enum loop_wait wait)
{
	if (!loop->enabled) {
		int err = loop_enable(loop);
		if (err)
			return err;
	}
	int err = wait == LOOP_WAIT && !loop->tasks ? io_uring_submit_and_wait(&loop->ring, 1)
						    : io_uring_submit_and_get_events(&loop->ring);
	if (err < 0 && err != -EINTR && err != -EAGAIN && err != -EBUSY)
		return err;
	for (unsigned n = 0; n < LOOP_TURN_MAX && loop_dispatch(loop); n++)
		;
	loop_run_tasks(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	while (!__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE)) {
		int err = loop_step(loop, LOOP_WAIT);
		if (err)
			return err;
	}
	return 0;
}

/* A free submission slot; when the queue is full, what is there enters the kernel first. */
static struct io_uring_sqe *loop_sqe(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	while (!sqe) {
		assert(loop->enabled);
		int err = io_uring_submit(&loop->ring);
		VERIFY(err >= 0 || err == -EINTR || err == -EAGAIN || err == -EBUSY);
		sqe = io_uring_get_sqe(&loop->ring);
	}
	if (op) {
		assert(!op->busy);
		assert(op->done);
		op->busy = true;
	}
	return sqe;
}

#define LOOP_SUBMIT(prep, ...)                                  \
	do {                                                    \
		struct io_uring_sqe *sqe_ = loop_sqe(loop, op); \
		prep(sqe_, __VA_ARGS__);                        \
		io_uring_sqe_set_data(sqe_, op);                \
	} while (0)

void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len, uint64_t off)
{
	LOOP_SUBMIT(io_uring_prep_read, fd, buf, len, off);
}

void loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len,
		uint64_t off)
{
	LOOP_SUBMIT(io_uring_prep_write, fd, buf, len, off);
}

void loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		unsigned count, uint64_t off)
{
	LOOP_SUBMIT(io_uring_prep_readv, fd, iov, count, off);
}

void loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		 unsigned count, uint64_t off)
{
	LOOP_SUBMIT(io_uring_prep_writev, fd, iov, count, off);
}

void loop_fdatasync(struct loop *loop, struct loop_op *op, int fd)
{
	LOOP_SUBMIT(io_uring_prep_fsync, fd, IORING_FSYNC_DATASYNC);
}

void loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t off,
		    uint64_t len)
{
	LOOP_SUBMIT(io_uring_prep_fallocate, fd, mode, (off_t)off, (off_t)len);
}

void loop_poll(struct loop *loop, struct loop_op *op, int fd, short events)
{
	LOOP_SUBMIT(io_uring_prep_poll_add, fd, (unsigned)(unsigned short)events);
}

void loop_accept(struct loop *loop, struct loop_op *op, int fd)
{
	LOOP_SUBMIT(io_uring_prep_accept, fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len)
{
	LOOP_SUBMIT(io_uring_prep_send, fd, buf, len, MSG_NOSIGNAL);
}

void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len)
{
	LOOP_SUBMIT(io_uring_prep_recv, fd, buf, len, 0);
}

void loop_sendmsg_now(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg)
{
	LOOP_SUBMIT(io_uring_prep_sendmsg, fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void loop_recvmsg_now(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg)
{
	LOOP_SUBMIT(io_uring_prep_recvmsg, fd, msg, MSG_DONTWAIT);
}

void loop_timer(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
	struct loop_op *op = &timer->op;
	struct __kernel_timespec *ts = (struct __kernel_timespec *)&timer->at;

	_Static_assert(sizeof(timer->at) == sizeof(*ts), "loop_timer.at is a __kernel_timespec");
	ts->tv_sec = (int64_t)(deadline_ns / 1000000000);
	ts->tv_nsec = (int64_t)(deadline_ns % 1000000000);
	LOOP_SUBMIT(io_uring_prep_timeout, ts, 0, IORING_TIMEOUT_ABS);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	if (!op->busy)
		return;
	struct io_uring_sqe *sqe = loop_sqe(loop, NULL);
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

static void loop_event_done(struct loop_op *op, int res)
{
	struct loop_event *event = container_of(op, struct loop_event, op);

	if (!event->fire || res == -ECANCELED)
		return;
	assert(res == sizeof(event->value)); /* an eventfd of ours: nothing else can happen */
	event->fire(event);
	if (event->fire && !op->busy)
		loop_read(event->loop, op, event->fd, &event->value, sizeof(event->value), 0);
}

void loop_event_start(struct loop *loop, struct loop_event *event, int fd,
		      void (*fire)(struct loop_event *event))
{
	event->op.done = loop_event_done;
	event->loop = loop;
	event->fd = fd;
	event->fire = fire;
	loop_read(loop, &event->op, fd, &event->value, sizeof(event->value), 0);
}

void loop_event_stop(struct loop_event *event)
{
	event->fire = NULL;
	loop_cancel(event->loop, &event->op);
}
