/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - frames in and out of one connection; see conn.h for its states
 *
 * Every payload passes agent_msg_check() before anything looks at it.  A peer that breaks the
 * protocol gets an ERROR and the end; it costs one buffer of a frame and one of CONN_OUT_MAX.
 * Thread: the agent's only one.
 */
#include "agent/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/proc.h"
#include "agent/worker.h"

#define IN_FIRST 4096 /* bytes: enough for nearly every request */

static void conn_ready(struct source *source, uint32_t events);

int conn_create(struct agent *agent, int fd)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn) {
		close(fd);
		return -ENOMEM;
	}
	conn->agent = agent;
	conn->source.fd = -1;
	conn->source.ready = conn_ready;
	conn->deadline = now_ms() + AGENT_REQUEST_MS;
	int err = loop_add(&agent->loop, &conn->source, fd, EPOLLIN);
	if (err < 0) {
		close(fd);
		free(conn);
		return err;
	}
	conn->next = agent->conns;
	agent->conns = conn;
	agent->conn_count++;
	return 0;
}

static void drop_request(struct conn *conn)
{
	if (conn->request)
		conn->agent->blob_bytes -= conn->request->exec.blob_len;
	free(conn->request);
	conn->request = NULL;
}

static void conn_release(struct conn *conn)
{
	struct conn **at = &conn->agent->conns;

	while (*at != conn)
		at = &(*at)->next;
	*at = conn->next;
	conn->agent->conn_count--;
	drop_request(conn);
	free(conn->in);
	free(conn->out);
	free(conn);
}

void conn_destroy(struct conn *conn)
{
	proc_leave(conn);
	loop_del(&conn->agent->loop, &conn->source);
	conn_release(conn);
}

/* --- out -------------------------------------------------------------------------------------- */

static size_t out_left(const struct conn *conn)
{
	return conn->out_len - conn->out_at;
}

/* Room for `need` bytes at the end of the queue. */
static bool out_reserve(struct conn *conn, size_t need)
{
	if (conn->out_at) {
		memmove(conn->out, conn->out + conn->out_at, out_left(conn));
		conn->out_len -= conn->out_at;
		conn->out_at = 0;
	}
	if (need <= conn->out_cap - conn->out_len)
		return true;
	if (need > CONN_OUT_MAX - conn->out_len)
		return false;

	size_t cap = conn->out_cap ? conn->out_cap : 512;
	while (cap < conn->out_len + need)
		cap *= 2;
	uint8_t *out = realloc(conn->out, cap);
	if (!out)
		return false;
	conn->out = out;
	conn->out_cap = cap;
	return true;
}

bool conn_put(struct conn *conn, uint16_t type, uint16_t stream, const void *fixed,
	      const void *tail, size_t tail_len)
{
	/* No fixed struct is larger than EXEC's. */
	size_t need = sizeof(struct agent_frame) + sizeof(struct agent_exec) + tail_len;

	if (!out_reserve(conn, need))
		return false;
	long len = agent_msg_put(conn->out + conn->out_len, conn->out_cap - conn->out_len, type,
				 stream, fixed, tail, tail_len);
	assert(len > 0);
	conn->out_len += (size_t)len;
	return true;
}

void conn_put_value(struct conn *conn, uint16_t type, uint16_t stream, uint64_t value)
{
	struct agent_value message = {value};
	conn_put(conn, type, stream, &message, NULL, 0);
}

void conn_error(struct conn *conn, int err, uint16_t stage, const char *fmt, ...)
{
	struct agent_error error = {.err = abs(err), .stage = stage};
	char text[512];
	va_list ap;

	if (error.err == 0 || error.err >= 4096)
		error.err = EIO;
	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	assert(len >= 0);
	conn_put(conn, AGENT_ERROR, 0, &error, text, strlen(text) + 1);
}

int conn_flush(struct conn *conn)
{
	while (out_left(conn)) {
		ssize_t n = send(conn->source.fd, conn->out + conn->out_at, out_left(conn),
				 MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		conn->out_at += (size_t)n;
	}
	conn->out_at = conn->out_len = 0;
	return 1;
}

static bool queue_rest(struct conn *conn, const struct iovec *iov, int count, size_t skip)
{
	for (int i = 0; i < count; i++) {
		const uint8_t *base = iov[i].iov_base;
		size_t len = iov[i].iov_len;
		size_t gone = skip < len ? skip : len;

		skip -= gone;
		if (len == gone)
			continue;
		if (!out_reserve(conn, len - gone))
			return false;
		memcpy(conn->out + conn->out_len, base + gone, len - gone);
		conn->out_len += len - gone;
	}
	return true;
}

int conn_send_data(struct conn *conn, uint16_t stream, const struct iovec *iov, int count,
		   size_t len)
{
	struct agent_frame frame = {.len = (uint32_t)len, .type = AGENT_DATA, .stream = stream};
	struct iovec all[3] = {{&frame, sizeof(frame)}};
	struct msghdr msg = {.msg_iov = all, .msg_iovlen = 1 + (size_t)count};

	assert(out_left(conn) == 0);
	assert(count <= 2);
	memcpy(all + 1, iov, (size_t)count * sizeof(*iov));
	ssize_t n = sendmsg(conn->source.fd, &msg, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	size_t sent = n < 0 ? 0 : (size_t)n;
	if (sent == sizeof(frame) + len)
		return 1;
	return queue_rest(conn, all, 1 + count, sent) ? 0 : -ENOMEM;
}

void conn_finish(struct conn *conn)
{
	proc_leave(conn);
	drop_request(conn);
	conn->state = CONN_LINGER;
	conn->deadline = now_ms() + AGENT_STALL_MS;
	conn_update(conn);
}

static bool wants_input(const struct conn *conn)
{
	if (conn->state == CONN_LINGER)
		return !conn->input_ended;
	if (conn->state == CONN_LIST || conn->state == CONN_START)
		return false;
	return out_left(conn) < CONN_OUT_BUSY;
}

void conn_update(struct conn *conn)
{
	uint32_t events = wants_input(conn) ? EPOLLIN : 0;

	if (out_left(conn))
		events |= EPOLLOUT;
	loop_set(&conn->agent->loop, &conn->source, events);
}

/* --- in --------------------------------------------------------------------------------------- */

/* -1: the connection is gone or handed on; 0: enough for now; 1: go on with the next frame. */
enum step { STEP_GONE = -1, STEP_STOP = 0, STEP_NEXT = 1 };

static enum step refuse(struct conn *conn, int err, const char *what, uint16_t type)
{
	conn_error(conn, err, AGENT_STAGE_REQUEST, "%s (%s)", what, agent_msg_name(type));
	conn_finish(conn);
	return STEP_STOP;
}

static enum step on_hello(struct conn *conn, const struct agent_frame *frame, const void *payload)
{
	struct agent_hello hello;
	struct agent_hello_ok ok = {.magic = AGENT_MAGIC, .version = AGENT_VERSION_MAX};

	if (frame->type != AGENT_HELLO)
		return refuse(conn, -EPROTO, "the first message must be HELLO", frame->type);
	memcpy(&hello, payload, sizeof(hello));
	if (hello.version_min > AGENT_VERSION_MAX || hello.version_max < AGENT_VERSION_MIN)
		return refuse(conn, -EPROTONOSUPPORT, "no protocol version in common", frame->type);
	if (hello.version_max < ok.version)
		ok.version = hello.version_max;
	conn_put(conn, AGENT_HELLO_OK, 0, &ok, NULL, 0);
	conn->state = CONN_REQUEST;
	return STEP_NEXT;
}

static enum step on_exec(struct conn *conn, const void *payload)
{
	struct agent_exec exec;
	struct agent *agent = conn->agent;

	memcpy(&exec, payload, sizeof(exec));
	if (exec.blob_len > AGENT_BLOB_TOTAL_MAX - agent->blob_bytes) {
		conn_error(conn, EAGAIN, AGENT_STAGE_BUSY, "too many requests are arriving");
		conn_finish(conn);
		return STEP_STOP;
	}
	conn->request = malloc(sizeof(*conn->request) + exec.blob_len);
	if (!conn->request)
		return refuse(conn, -ENOMEM, "memory for a request", AGENT_EXEC);
	conn->request->exec = exec;
	conn->request->got = 0;
	agent->blob_bytes += exec.blob_len;
	conn->state = CONN_BLOB;
	conn->deadline = now_ms() + AGENT_REQUEST_MS;
	return STEP_NEXT;
}

static enum step on_blob(struct conn *conn, const struct agent_frame *frame, const void *payload)
{
	struct exec_request *request = conn->request;
	const struct agent_exec *exec = &request->exec;

	if (frame->type != AGENT_BLOB)
		return refuse(conn, -EPROTO, "BLOB must follow EXEC", frame->type);
	if (frame->len > exec->blob_len - request->got)
		return refuse(conn, -E2BIG, "more strings than EXEC said", frame->type);
	memcpy(request->blob + request->got, payload, frame->len);
	request->got += frame->len;
	if (request->got < exec->blob_len)
		return STEP_NEXT;
	if (agent_blob_check(request->blob, request->got, 3 + exec->argc + exec->envc) < 0)
		return refuse(conn, -EPROTO, "strings do not match EXEC", frame->type);
	conn->deadline = 0;
	conn->agent->blob_bytes -= exec->blob_len;
	conn->request = NULL;
	proc_start(conn, request);
	return STEP_NEXT;
}

static enum step on_worker(struct conn *conn, const struct agent_frame *frame, const void *payload)
{
	size_t used = sizeof(*frame) + frame->len;
	int err = conn_flush(conn);

	if (err < 0) {
		conn_destroy(conn);
		return STEP_GONE;
	}
	err = worker_start(conn, frame, payload, conn->in + used, conn->in_len - used);
	if (err < 0) {
		conn_error(conn, err, AGENT_STAGE_BUSY, "%s: %s", agent_msg_name(frame->type),
			   strerror(-err));
		conn_finish(conn);
		return STEP_STOP;
	}
	loop_del(&conn->agent->loop, &conn->source);
	conn_release(conn);
	return STEP_GONE;
}

static enum step on_request(struct conn *conn, const struct agent_frame *frame, const void *payload)
{
	struct agent_attach attach;

	if (!agent_msg_is_request(frame->type))
		return refuse(conn, -EPROTO, "not a request", frame->type);
	conn->deadline = 0;
	switch (frame->type) {
	case AGENT_EXEC: return on_exec(conn, payload);
	case AGENT_ATTACH:
		memcpy(&attach, payload, sizeof(attach));
		proc_attach(conn, &attach, agent_msg_string(frame, payload, 0));
		return STEP_NEXT;
	case AGENT_PROC_LIST:
		conn->state = CONN_LIST;
		conn->list_id = conn->list_count = 0;
		proc_list(conn);
		return STEP_NEXT;
	default: break;
	}
	if (!agent_msg_repeats(frame->type) && frame->type != AGENT_POWER)
		return on_worker(conn, frame, payload);
	machine_request(conn, frame, payload);
	return STEP_NEXT;
}

static enum step on_frame(struct conn *conn, const struct agent_frame *frame,
			  const uint8_t *payload)
{
	if (conn->state == CONN_LINGER)
		return STEP_NEXT;
	int err = agent_msg_check(frame, payload);
	if (err < 0)
		return refuse(conn, err, "malformed message", frame->type);
	switch (conn->state) {
	case CONN_HELLO: return on_hello(conn, frame, payload);
	case CONN_REQUEST: return on_request(conn, frame, payload);
	case CONN_BLOB: return on_blob(conn, frame, payload);
	default: break;
	}
	if (!proc_frame(conn, frame, payload))
		return refuse(conn, -EPROTO, "does not belong into this session", frame->type);
	return STEP_NEXT;
}

/* A session's frames that come while the child is set up wait in the buffer. */
static bool takes_frames(const struct conn *conn)
{
	if (conn->state == CONN_LIST || conn->state == CONN_START)
		return false;
	return conn->state == CONN_LINGER || out_left(conn) < CONN_OUT_BUSY;
}

/* Takes all whole frames that are there.  False: the connection is gone. */
static bool take_frames(struct conn *conn)
{
	while (conn->in_len >= sizeof(struct agent_frame) && takes_frames(conn)) {
		struct agent_frame frame;
		memcpy(&frame, conn->in, sizeof(frame));
		int err = conn->state == CONN_LINGER ? 0
						     : agent_frame_check(&frame, AGENT_FROM_CLIENT);
		if (err < 0)
			refuse(conn, err, "unknown or oversized message", frame.type);
		if (conn->state == CONN_LINGER) {
			conn->in_len = 0;
			break;
		}
		size_t used = sizeof(frame) + frame.len;
		if (conn->in_len < used)
			break;
		if (on_frame(conn, &frame, conn->in + sizeof(frame)) == STEP_GONE)
			return false;
		conn->in_len -= used;
		memmove(conn->in, conn->in + used, conn->in_len);
	}
	return true;
}

/* Room for the frame that is arriving. */
static bool in_reserve(struct conn *conn)
{
	size_t cap = IN_FIRST;
	struct agent_frame frame;

	if (conn->in_len >= sizeof(frame)) {
		memcpy(&frame, conn->in, sizeof(frame));
		if (frame.len <= AGENT_FRAME_MAX && sizeof(frame) + frame.len > cap)
			cap = sizeof(frame) + AGENT_FRAME_MAX;
	}
	if (cap <= conn->in_cap)
		return true;
	uint8_t *in = realloc(conn->in, cap);
	if (!in)
		return false;
	conn->in = in;
	conn->in_cap = cap;
	return true;
}

/* The client has ended its side.  False: the connection is gone. */
static bool on_end_of_input(struct conn *conn)
{
	bool answers_left =
		out_left(conn) && (conn->state == CONN_REQUEST || conn->state == CONN_LIST ||
				   conn->state == CONN_LINGER);

	if (!answers_left) {
		conn_destroy(conn);
		return false;
	}
	conn->input_ended = true;
	if (conn->state == CONN_REQUEST)
		conn_finish(conn);
	return true;
}

static bool fill(struct conn *conn)
{
	if (conn->input_ended)
		return true;
	if (!in_reserve(conn) || conn->in_len == conn->in_cap) {
		conn_destroy(conn); /* no memory; or hung up while frames still waited */
		return false;
	}
	ssize_t n = recv(conn->source.fd, conn->in + conn->in_len, conn->in_cap - conn->in_len, 0);
	if (n == 0)
		return on_end_of_input(conn);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		conn_destroy(conn);
		return false;
	}
	if (n > 0)
		conn->in_len += (size_t)n;
	return true;
}

static bool whole_frame(const struct conn *conn)
{
	struct agent_frame frame;

	if (conn->in_len < sizeof(frame))
		return false;
	memcpy(&frame, conn->in, sizeof(frame));
	return frame.len > AGENT_FRAME_MAX || conn->in_len - sizeof(frame) >= frame.len;
}

/* Writes, and goes on with what waited for room.  False: the connection is gone. */
static bool settle(struct conn *conn)
{
	if (conn->state == CONN_LIST)
		proc_list(conn);
	if (conn->state == CONN_SESSION && !proc_serve(conn))
		return false;
	int done = conn_flush(conn);
	if (done < 0) {
		conn_destroy(conn);
		return false;
	}
	if (done == 1 && conn->state == CONN_LINGER && !conn->half_closed) {
		shutdown(conn->source.fd, SHUT_WR);
		conn->half_closed = true;
		conn->deadline = now_ms() + CONN_LINGER_MS;
	}
	if (conn->half_closed && conn->input_ended) {
		conn_destroy(conn);
		return false;
	}
	if (conn->state == CONN_REQUEST && conn->in_len && !conn->deadline)
		conn->deadline = now_ms() + AGENT_REQUEST_MS;
	conn_update(conn);
	return true;
}

bool conn_run(struct conn *conn)
{
	do {
		if (!take_frames(conn) || !settle(conn))
			return false;
	} while (whole_frame(conn) && takes_frames(conn));
	return true;
}

static void conn_ready(struct source *source, uint32_t events)
{
	struct conn *conn = (struct conn *)source;

	if (events & EPOLLERR) {
		conn_destroy(conn);
		return;
	}
	if (events & (EPOLLIN | EPOLLHUP) && !fill(conn))
		return;
	conn_run(conn);
}

void conn_timers(struct agent *agent, uint64_t now, uint64_t *next)
{
	struct conn *after;

	for (struct conn *conn = agent->conns; conn; conn = after) {
		after = conn->next;
		if (!conn->deadline)
			continue;
		if (conn->deadline <= now)
			conn_destroy(conn);
		else if (conn->deadline < *next)
			*next = conn->deadline;
	}
}
