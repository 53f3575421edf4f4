/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conlog.h"

static_assert(CONSOLE_RING <= CONLOG_WRITE_MAX, "what a log may be ahead of its head");

struct console {
	struct loop *loop;      /* const */
	int fd;                 /* const */
	uint32_t log_cap;       /* const: of the console log that `fd` is; 0: a stream */
	struct loop_event wake; /* io */
	struct loop_op op;      /* io: the write in flight */
	bool failed;            /* io: nobody reads any more */
	uint64_t log_total;     /* io: bytes in the log */
	uint64_t log_head;      /* io: the same as its file's head has it, little-endian */

	pthread_mutex_t lock; /* leaf */
	uint64_t head, tail;  /* lock: bytes ever taken, ever written out */
	uint64_t dropped;     /* lock */
	uint8_t ring[CONSOLE_RING];
};

static void console_written(struct loop_op *op, int res);
static void console_head_written(struct loop_op *op, int res);

static bool head_owed(const struct console *con)
{
	return con->log_cap && !con->failed && le64toh(con->log_head) != con->log_total;
}

/* The bytes are in the log: now its head may say so. */
static void console_write_head(struct console *con)
{
	con->log_head = htole64(con->log_total);
	con->op.done = console_head_written;
	loop_write(con->loop, &con->op, con->fd, &con->log_head, sizeof(con->log_head),
		   offsetof(struct conlog_head, total));
}

/* `len` bytes of the ring at `at`: to the stream's position, or to the log's. */
static void console_write_bytes(struct console *con, uint32_t at, uint64_t len)
{
	uint64_t off = (uint64_t)-1;

	if (con->log_cap) {
		uint64_t to = con->log_total % con->log_cap;
		off = CONLOG_DATA_AT + to;
		if (len > con->log_cap - to)
			len = con->log_cap - to;
	}
	con->op.done = console_written;
	loop_write(con->loop, &con->op, con->fd, con->ring + at, (uint32_t)len, off);
}

/* Starts a write of what lies in one piece, if none is under way. */
static void console_write(struct console *con)
{
	cleanup_unlock pthread_mutex_t *held = hold(&con->lock);

	if (con->failed)
		con->tail = con->head;
	if (con->op.busy)
		return;
	if (head_owed(con)) {
		console_write_head(con);
		return;
	}
	if (con->tail == con->head)
		return;
	uint32_t at = (uint32_t)(con->tail % CONSOLE_RING);
	uint64_t len = con->head - con->tail;
	if (len > CONSOLE_RING - at)
		len = CONSOLE_RING - at;
	console_write_bytes(con, at, len);
}

static void console_head_written(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, op);

	if (res == -ECANCELED)
		return;
	if (res < 0 && res != -EINTR && res != -EAGAIN)
		con->failed = true;
	else if (res != (int)sizeof(con->log_head))
		con->log_head = ~con->log_head; /* not there: owed again */
	console_write(con);
}

static void console_written(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, op);

	if (res == -ECANCELED)
		return;
	if (res > 0) {
		cleanup_unlock pthread_mutex_t *held = hold(&con->lock);
		con->tail += (uint64_t)res;
		con->log_total += (uint64_t)res;
	} else if (res != -EINTR && res != -EAGAIN) {
		con->failed = true; /* EPIPE, ENOSPC ...: the guest runs on without a console */
	}
	console_write(con);
}

static void console_woken(struct loop_event *event)
{
	console_write(container_of(event, struct console, wake));
}

int console_create(struct console **out, struct loop *loop, int fd, enum console_kind kind,
		   struct errmsg *why)
{
	cleanup_free struct console *made = calloc(1, sizeof(*made));
	cleanup_close int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (!made || wake < 0)
		return err_set(why, made ? errno : ENOMEM, "serial console");
	if (kind == CONSOLE_LOG) {
		int err = conlog_open(fd, &made->log_cap, &made->log_total, why);
		if (err)
			return err;
		made->log_head = htole64(made->log_total);
	}
	struct console *con = steal_ptr(&made);
	VERIFY(pthread_mutex_init(&con->lock, NULL) == 0);
	con->loop = loop;
	con->fd = fd;
	loop_event_start(loop, &con->wake, steal_fd(&wake), console_woken);
	*out = con;
	return 0;
}

void console_destroy(struct console *con)
{
	if (!con)
		return;
	close(con->wake.fd);
	pthread_mutex_destroy(&con->lock);
	free(con);
}

static uint32_t console_append(struct console *con, const uint8_t *bytes, uint32_t len)
{
	uint64_t room = CONSOLE_RING - (con->head - con->tail);
	uint32_t take = len < room ? len : (uint32_t)room;

	for (uint32_t i = 0; i < take; i++)
		con->ring[(con->head + i) % CONSOLE_RING] = bytes[i];
	con->head += take;
	con->dropped += len - take;
	return take;
}

void console_put(struct console *con, const void *bytes, uint32_t len)
{
	bool was_empty;
	{
		cleanup_unlock pthread_mutex_t *held = hold(&con->lock);
		was_empty = con->head == con->tail;
		console_append(con, bytes, len);
	}
	if (was_empty) { /* else a write is under way, or woken for */
		uint64_t one = 1;
		VERIFY(write(con->wake.fd, &one, sizeof(one)) == sizeof(one));
	}
}

static bool console_empty(struct console *con)
{
	cleanup_unlock pthread_mutex_t *held = hold(&con->lock);
	return con->head == con->tail && !con->op.busy && !head_owed(con);
}

struct console_deadline {
	struct loop_timer timer;
	bool passed;
};

static void console_deadline_passed(struct loop_op *op, int res)
{
	(void)res;
	container_of(op, struct console_deadline, timer.op)->passed = true;
}

void console_drain(struct console *con, uint64_t deadline_ns)
{
	struct console_deadline end = {.timer.op.done = console_deadline_passed};

	assert(loop_here(con->loop));
	console_write(con);
	if (console_empty(con))
		return;
	loop_timer(con->loop, &end.timer, deadline_ns);
	while (!end.passed && !console_empty(con) && !loop_step(con->loop, LOOP_WAIT))
		console_write(con);
	loop_cancel(con->loop, &end.timer.op);
	while (end.timer.op.busy && !loop_step(con->loop, LOOP_WAIT))
		;
}

void console_counts(const struct console *con, uint64_t *taken, uint64_t *dropped)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&con->lock;
	cleanup_unlock pthread_mutex_t *held = hold(lock);

	*taken = con->head;
	*dropped = con->dropped;
}
