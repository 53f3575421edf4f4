/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - frames in and out of one connection; see client.h for its states
 *
 * Every payload passes agent_msg_check() before anything looks at it.  A peer that breaks the
 * protocol gets an ERROR and the end; it costs one buffer of a frame and one of CLIENT_OUT_MAX.
 * Thread: the agent's only one.
 */
#include "agent/client.h"

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

static void client_ready(struct source *source, uint32_t events);

int client_create(struct agent *agent, int fd)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client) {
		close(fd);
		return -ENOMEM;
	}
	client->agent = agent;
	client->source.fd = -1;
	client->source.ready = client_ready;
	client->deadline = now_ms() + AGENT_REQUEST_MS;
	int err = events_add(&agent->loop, &client->source, fd, EPOLLIN);
	if (err < 0) {
		close(fd);
		free(client);
		return err;
	}
	client->next = agent->clients;
	agent->clients = client;
	agent->client_count++;
	return 0;
}

static void drop_request(struct client *client)
{
	if (client->request)
		client->agent->blob_bytes -= client->request->exec.blob_len;
	free(client->request);
	client->request = NULL;
}

static void client_release(struct client *client)
{
	struct client **at = &client->agent->clients;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	client->agent->client_count--;
	drop_request(client);
	free(client->in);
	free(client->out);
	free(client);
}

/*
 * The machine was asleep, or is a copy, and every vsock connection was reset (virtio 1.2, 5.10.6.7: Linux sets
 * sk_err to ECONNRESET, net/vmw_vsock/virtio_transport.c; a read then gives ENOTCONN).  When the other side closes,
 * or is gone, a read gives its last bytes, then 0.
 */
static bool was_reset(int fd)
{
	int domain = 0, err = 0;
	socklen_t len = sizeof(domain);
	char byte;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_VSOCK)
		return false;
	if (!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) && err == ECONNRESET)
		return true;
	return recv(fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) < 0 &&
	       (errno == ENOTCONN || errno == ECONNRESET);
}

void client_destroy(struct client *client)
{
	if (client->proc && was_reset(client->source.fd))
		proc_detach(client->proc);
	proc_leave(client);
	events_del(&client->agent->loop, &client->source);
	client_release(client);
}

/* --- out -------------------------------------------------------------------------------------- */

static size_t out_left(const struct client *client)
{
	return client->out_len - client->out_at;
}

/* Room for `need` bytes at the end of the queue. */
static bool out_reserve(struct client *client, size_t need)
{
	if (client->out_at) {
		memmove(client->out, client->out + client->out_at, out_left(client));
		client->out_len -= client->out_at;
		client->out_at = 0;
	}
	if (need <= client->out_cap - client->out_len)
		return true;
	if (need > CLIENT_OUT_MAX - client->out_len)
		return false;

	size_t cap = client->out_cap ? client->out_cap : 512;
	while (cap < client->out_len + need)
		cap *= 2;
	uint8_t *out = realloc(client->out, cap);
	if (!out)
		return false;
	client->out = out;
	client->out_cap = cap;
	return true;
}

bool client_put(struct client *client, uint16_t type, uint16_t stream, const void *fixed,
		const void *tail, size_t tail_len)
{
	/* No fixed struct is larger than EXEC's. */
	size_t need = sizeof(struct agent_frame) + sizeof(struct agent_exec) + tail_len;

	if (!out_reserve(client, need))
		return false;
	long len = agent_msg_put(client->out + client->out_len, client->out_cap - client->out_len,
				 type, stream, fixed, tail, tail_len);
	assert(len > 0);
	client->out_len += (size_t)len;
	return true;
}

void client_put_value(struct client *client, uint16_t type, uint16_t stream, uint64_t value)
{
	struct agent_value message = {value};
	client_put(client, type, stream, &message, NULL, 0);
}

void client_error(struct client *client, int err, uint16_t stage, const char *fmt, ...)
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
	client_put(client, AGENT_ERROR, 0, &error, text, strlen(text) + 1);
}

int client_flush(struct client *client)
{
	while (out_left(client)) {
		ssize_t n = send(client->source.fd, client->out + client->out_at, out_left(client),
				 MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		client->out_at += (size_t)n;
	}
	client->out_at = client->out_len = 0;
	return 1;
}

static bool queue_rest(struct client *client, const struct iovec *iov, int count, size_t skip)
{
	for (int i = 0; i < count; i++) {
		const uint8_t *base = iov[i].iov_base;
		size_t len = iov[i].iov_len;
		size_t gone = skip < len ? skip : len;

		skip -= gone;
		if (len == gone)
			continue;
		if (!out_reserve(client, len - gone))
			return false;
		memcpy(client->out + client->out_len, base + gone, len - gone);
		client->out_len += len - gone;
	}
	return true;
}

int client_send_data(struct client *client, uint16_t stream, const struct iovec *iov, int count,
		     size_t len)
{
	struct agent_frame frame = {.len = (uint32_t)len, .type = AGENT_DATA, .stream = stream};
	struct iovec all[3] = {{&frame, sizeof(frame)}};
	struct msghdr msg = {.msg_iov = all, .msg_iovlen = 1 + (size_t)count};

	assert(out_left(client) == 0);
	assert(count <= 2);
	memcpy(all + 1, iov, (size_t)count * sizeof(*iov));
	ssize_t n = sendmsg(client->source.fd, &msg, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	size_t sent = n < 0 ? 0 : (size_t)n;
	if (sent == sizeof(frame) + len)
		return 1;
	return queue_rest(client, all, 1 + count, sent) ? 0 : -ENOMEM;
}

void client_finish(struct client *client)
{
	proc_leave(client);
	drop_request(client);
	client->state = CLIENT_LINGER;
	client->deadline = now_ms() + AGENT_STALL_MS;
	client_update(client);
}

static bool wants_input(const struct client *client)
{
	if (client->state == CLIENT_LINGER)
		return !client->input_ended;
	if (client->state == CLIENT_LIST || client->state == CLIENT_START)
		return false;
	return out_left(client) < CLIENT_OUT_BUSY;
}

void client_update(struct client *client)
{
	uint32_t events = wants_input(client) ? EPOLLIN : 0;

	if (out_left(client))
		events |= EPOLLOUT;
	events_set(&client->agent->loop, &client->source, events);
}

/* --- in --------------------------------------------------------------------------------------- */

/* -1: the connection is gone or handed on; 0: enough for now; 1: go on with the next frame. */
enum step { STEP_GONE = -1, STEP_STOP = 0, STEP_NEXT = 1 };

static enum step refuse(struct client *client, int err, const char *what, uint16_t type)
{
	client_error(client, err, AGENT_STAGE_REQUEST, "%s (%s)", what, agent_msg_name(type));
	client_finish(client);
	return STEP_STOP;
}

static enum step on_hello(struct client *client, const struct agent_frame *frame,
			  const void *payload)
{
	struct agent_hello hello;
	struct agent_hello_ok ok = {.magic = AGENT_MAGIC, .version = AGENT_VERSION_MAX};

	if (frame->type != AGENT_HELLO)
		return refuse(client, -EPROTO, "the first message must be HELLO", frame->type);
	memcpy(&hello, payload, sizeof(hello));
	if (hello.version_min > AGENT_VERSION_MAX || hello.version_max < AGENT_VERSION_MIN)
		return refuse(client, -EPROTONOSUPPORT, "no protocol version in common",
			      frame->type);
	if (hello.version_max < ok.version)
		ok.version = hello.version_max;
	client_put(client, AGENT_HELLO_OK, 0, &ok, NULL, 0);
	client->state = CLIENT_REQUEST;
	return STEP_NEXT;
}

static enum step on_exec(struct client *client, const void *payload)
{
	struct agent_exec exec;
	struct agent *agent = client->agent;

	memcpy(&exec, payload, sizeof(exec));
	if (exec.blob_len > AGENT_BLOB_TOTAL_MAX - agent->blob_bytes) {
		client_error(client, EAGAIN, AGENT_STAGE_BUSY, "too many requests are arriving");
		client_finish(client);
		return STEP_STOP;
	}
	client->request = malloc(sizeof(*client->request) + exec.blob_len);
	if (!client->request)
		return refuse(client, -ENOMEM, "memory for a request", AGENT_EXEC);
	client->request->exec = exec;
	client->request->got = 0;
	agent->blob_bytes += exec.blob_len;
	client->state = CLIENT_BLOB;
	client->deadline = now_ms() + AGENT_REQUEST_MS;
	return STEP_NEXT;
}

static enum step on_blob(struct client *client, const struct agent_frame *frame,
			 const void *payload)
{
	struct exec_request *request = client->request;
	const struct agent_exec *exec = &request->exec;

	if (frame->type != AGENT_BLOB)
		return refuse(client, -EPROTO, "BLOB must follow EXEC", frame->type);
	if (frame->len > exec->blob_len - request->got)
		return refuse(client, -E2BIG, "more strings than EXEC said", frame->type);
	memcpy(request->blob + request->got, payload, frame->len);
	request->got += frame->len;
	if (request->got < exec->blob_len)
		return STEP_NEXT;
	if (agent_blob_check(request->blob, request->got, 3 + exec->argc + exec->envc) < 0)
		return refuse(client, -EPROTO, "strings do not match EXEC", frame->type);
	client->deadline = 0;
	client->agent->blob_bytes -= exec->blob_len;
	client->request = NULL;
	proc_start(client, request);
	return STEP_NEXT;
}

static enum step on_worker(struct client *client, const struct agent_frame *frame,
			   const void *payload)
{
	size_t used = sizeof(*frame) + frame->len;
	int err = client_flush(client);

	if (err < 0) {
		client_destroy(client);
		return STEP_GONE;
	}
	err = worker_start(client, frame, payload, client->in + used, client->in_len - used);
	if (err < 0) {
		client_error(client, err, AGENT_STAGE_BUSY, "%s: %s", agent_msg_name(frame->type),
			     strerror(-err));
		client_finish(client);
		return STEP_STOP;
	}
	events_del(&client->agent->loop, &client->source);
	client_release(client);
	return STEP_GONE;
}

static enum step on_request(struct client *client, const struct agent_frame *frame,
			    const void *payload)
{
	struct agent_attach attach;

	if (!agent_msg_is_request(frame->type))
		return refuse(client, -EPROTO, "not a request", frame->type);
	client->deadline = 0;
	switch (frame->type) {
	case AGENT_EXEC: return on_exec(client, payload);
	case AGENT_ATTACH:
		memcpy(&attach, payload, sizeof(attach));
		proc_attach(client, &attach, agent_msg_string(frame, payload, 0));
		return STEP_NEXT;
	case AGENT_PROC_LIST:
		client->state = CLIENT_LIST;
		client->list_id = client->list_count = 0;
		proc_list(client);
		return STEP_NEXT;
	default: break;
	}
	if (!agent_msg_repeats(frame->type) && frame->type != AGENT_POWER)
		return on_worker(client, frame, payload);
	machine_request(client, frame, payload);
	return STEP_NEXT;
}

static enum step on_frame(struct client *client, const struct agent_frame *frame,
			  const uint8_t *payload)
{
	if (client->state == CLIENT_LINGER)
		return STEP_NEXT;
	int err = agent_msg_check(frame, payload);
	if (err < 0)
		return refuse(client, err, "malformed message", frame->type);
	switch (client->state) {
	case CLIENT_HELLO: return on_hello(client, frame, payload);
	case CLIENT_REQUEST: return on_request(client, frame, payload);
	case CLIENT_BLOB: return on_blob(client, frame, payload);
	default: break;
	}
	if (!proc_frame(client, frame, payload))
		return refuse(client, -EPROTO, "does not belong into this session", frame->type);
	return STEP_NEXT;
}

/* A session's frames that come while the child is set up wait in the buffer. */
static bool takes_frames(const struct client *client)
{
	if (client->state == CLIENT_LIST || client->state == CLIENT_START)
		return false;
	return client->state == CLIENT_LINGER || out_left(client) < CLIENT_OUT_BUSY;
}

/* Takes all whole frames that are there.  False: the connection is gone. */
static bool take_frames(struct client *client)
{
	while (client->in_len >= sizeof(struct agent_frame) && takes_frames(client)) {
		struct agent_frame frame;
		memcpy(&frame, client->in, sizeof(frame));
		int err = client->state == CLIENT_LINGER
				  ? 0
				  : agent_frame_check(&frame, AGENT_FROM_CLIENT);
		if (err < 0)
			refuse(client, err, "unknown or oversized message", frame.type);
		if (client->state == CLIENT_LINGER) {
			client->in_len = 0;
			break;
		}
		size_t used = sizeof(frame) + frame.len;
		if (client->in_len < used)
			break;
		if (on_frame(client, &frame, client->in + sizeof(frame)) == STEP_GONE)
			return false;
		client->in_len -= used;
		memmove(client->in, client->in + used, client->in_len);
	}
	return true;
}

/* Room for the frame that is arriving. */
static bool in_reserve(struct client *client)
{
	size_t cap = IN_FIRST;
	struct agent_frame frame;

	if (client->in_len >= sizeof(frame)) {
		memcpy(&frame, client->in, sizeof(frame));
		if (frame.len <= AGENT_FRAME_MAX && sizeof(frame) + frame.len > cap)
			cap = sizeof(frame) + AGENT_FRAME_MAX;
	}
	if (cap <= client->in_cap)
		return true;
	uint8_t *in = realloc(client->in, cap);
	if (!in)
		return false;
	client->in = in;
	client->in_cap = cap;
	return true;
}

/* The client has ended its side.  False: the connection is gone. */
static bool on_end_of_input(struct client *client)
{
	bool answers_left = out_left(client) &&
			    (client->state == CLIENT_REQUEST || client->state == CLIENT_LIST ||
			     client->state == CLIENT_LINGER);

	if (!answers_left) {
		client_destroy(client);
		return false;
	}
	client->input_ended = true;
	if (client->state == CLIENT_REQUEST)
		client_finish(client);
	return true;
}

static bool fill(struct client *client)
{
	if (client->input_ended)
		return true;
	if (!in_reserve(client) || client->in_len == client->in_cap) {
		client_destroy(client); /* no memory; or hung up while frames still waited */
		return false;
	}
	ssize_t n = recv(client->source.fd, client->in + client->in_len,
			 client->in_cap - client->in_len, 0);
	if (n == 0)
		return on_end_of_input(client);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		client_destroy(client);
		return false;
	}
	if (n > 0)
		client->in_len += (size_t)n;
	return true;
}

static bool whole_frame(const struct client *client)
{
	struct agent_frame frame;

	if (client->in_len < sizeof(frame))
		return false;
	memcpy(&frame, client->in, sizeof(frame));
	return frame.len > AGENT_FRAME_MAX || client->in_len - sizeof(frame) >= frame.len;
}

/* Writes, and goes on with what waited for room.  False: the connection is gone. */
static bool settle(struct client *client)
{
	if (client->state == CLIENT_LIST)
		proc_list(client);
	if (client->state == CLIENT_SESSION && !proc_serve(client))
		return false;
	int done = client_flush(client);
	if (done < 0) {
		client_destroy(client);
		return false;
	}
	if (done == 1 && client->state == CLIENT_LINGER && !client->half_closed) {
		shutdown(client->source.fd, SHUT_WR);
		client->half_closed = true;
		client->deadline = now_ms() + CLIENT_LINGER_MS;
	}
	if (client->half_closed && client->input_ended) {
		client_destroy(client);
		return false;
	}
	if (client->state == CLIENT_REQUEST && client->in_len && !client->deadline)
		client->deadline = now_ms() + AGENT_REQUEST_MS;
	client_update(client);
	return true;
}

bool client_run(struct client *client)
{
	do {
		if (!take_frames(client) || !settle(client))
			return false;
	} while (whole_frame(client) && takes_frames(client));
	return true;
}

static void client_ready(struct source *source, uint32_t events)
{
	struct client *client = (struct client *)source;

	if (events & EPOLLERR) {
		client_destroy(client);
		return;
	}
	if (events & (EPOLLIN | EPOLLHUP) && !fill(client))
		return;
	client_run(client);
}

void client_timers(struct agent *agent, uint64_t now, uint64_t *next)
{
	struct client *after;

	for (struct client *client = agent->clients; client; client = after) {
		after = client->next;
		if (!client->deadline)
			continue;
		if (client->deadline <= now)
			client_destroy(client);
		else if (client->deadline < *next)
			*next = client->deadline;
	}
}
