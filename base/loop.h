/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - the reactor: one io_uring, one thread, every event a completion
 *
 * File I/O, socket I/O, eventfds and timers are requests on one ring.  A request is a `struct loop_op`
 * embedded in its owner; its done() runs on the loop's thread exactly once for every submission, also
 * after a cancel.  Submissions gather in the submission queue and enter the kernel once a turn: a batch
 * of kicks costs one system call.
 *
 * The ring is created disabled, so that restrictions (IORING_REGISTER_RESTRICTIONS: only the operations
 * below, only IORING_REGISTER_* that we need) are in force before the first request.  Requests may be
 * prepared before the loop runs; they enter the kernel at its first turn.
 *
 * Thread: the one that runs the loop ("io"), unless a function says "any".
 * Limits: the kernel must have io_uring (Linux 5.19 or later for all operations used here).
 */
#ifndef SPORE_BASE_LOOP_H
#define SPORE_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

struct loop;
struct loop_op;

/* @res: bytes or 0, or -errno; -ECANCELED after loop_cancel().  May submit `op` again, or free its owner. */
typedef void loop_done_fn(struct loop_op *op, int res);

struct loop_op {
	loop_done_fn *done; /* set by the owner before the first submission */
	bool busy;          /* loop: submitted and not yet completed */
};

/*
 * loop_create() - make a ring of at least `entries` submissions
 * Any thread; the one that takes the first turn owns the ring from then on.
 * Return: 0, -errno (ENOSYS or EPERM where the host forbids io_uring; the text says so).
 */
int loop_create(struct loop **out, unsigned entries, struct errmsg *why);
/* Not while another thread runs it.  Requests in flight are cancelled without their done(). NULL is fine. */
void loop_destroy(struct loop *loop);

/* Takes turns until loop_stop().  Return: 0, or -errno when the ring itself failed. */
int loop_run(struct loop *loop);
/* Any thread.  Ends loop_run() after its current turn. */
void loop_stop(struct loop *loop);
/*
 * One turn: submit, wait for at least one completion if `wait` is LOOP_WAIT, dispatch.  0 or -errno.
 * A done() may take turns itself, to drain its own requests: others' done() then run inside it.
 */
enum loop_wait { LOOP_POLL, LOOP_WAIT };
int loop_step(struct loop *loop, enum loop_wait wait);

/*
 * loop_call() - run fn(arg) on the loop's thread and wait for it
 * Any thread but the loop's own, holding no lock.  Works before loop_run() begins (it then waits for it).
 */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/* True on the thread that runs the loop: `assert(loop_here(dev->loop))` opens every io-only function. */
bool loop_here(const struct loop *loop);

/* --- requests: `op` must not be busy; buffers stay valid until done() ------------------------------ */
void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len,
	       uint64_t off);
void loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len,
		uint64_t off);
void loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		unsigned count, uint64_t off);
void loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		 unsigned count, uint64_t off);
void loop_fdatasync(struct loop *loop, struct loop_op *op, int fd);
void loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t off,
		    uint64_t len);
/* One shot: res is the revents mask. */
void loop_poll(struct loop *loop, struct loop_op *op, int fd, short events);
/* A connection: res is the new fd (close-on-exec, non-blocking). */
void loop_accept(struct loop *loop, struct loop_op *op, int fd);
void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len);
void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len);
/*
 * Gathering and scattering, and at once or not at all: where they would wait, res is -EAGAIN.  (The other
 * requests wait, also on a non-blocking socket.)  Neither raises SIGPIPE, as loop_writev() would.
 * `msg` stays valid until done().
 */
struct msghdr;
void loop_sendmsg_now(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg);
void loop_recvmsg_now(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg);

/* Fires once at `deadline_ns` of CLOCK_MONOTONIC with res -ETIME; loop_cancel() ends it early. */
struct loop_timer {
	struct loop_op op;
	struct {
		int64_t sec, nsec;
	} at; /* loop: a __kernel_timespec */
};
void loop_timer(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns);

/* Asks a busy request to end soon: done() still comes exactly once, with its result or -ECANCELED. */
void loop_cancel(struct loop *loop, struct loop_op *op);

/*
 * Work for the end of the current turn: what a batch of completions made due is done once (an interrupt
 * for many requests).  run() happens on the loop's thread, once for all loop_defer() calls before it.
 */
struct loop_task {
	void (*run)(struct loop_task *task); /* set by the owner */
	bool queued;                         /* loop */
	struct loop_task *next;              /* loop */
};
void loop_defer(struct loop *loop, struct loop_task *task);

/* An eventfd that is read again after every time it fired, until loop_event_stop(). */
struct loop_event {
	struct loop_op op;
	struct loop *loop;
	int fd;
	uint64_t value; /* how often it was signalled since the last time */
	void (*fire)(struct loop_event *event);
};
void loop_event_start(struct loop *loop, struct loop_event *event, int fd,
		      void (*fire)(struct loop_event *event));
/* fire() never runs again; the request itself may still be in flight: see loop_event.op.busy. */
void loop_event_stop(struct loop_event *event);

#endif
