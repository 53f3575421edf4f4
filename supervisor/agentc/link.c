/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - see link.h.  Bounded: one input buffer of two frames, output up to LINK_OUT_MAX.
 */
#include "supervisor/agentc/link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

struct agentc agentc_vsock(const char *path)
{
	return (struct agentc){
		.path = path, .port = AGENT_PORT, .fd = -1, .timeout_ms = AGENTC_TIMEOUT_MS};
}

struct agentc agentc_direct(const char *path)
{
	return (struct agentc){.path = path, .fd = -1, .timeout_ms = AGENTC_TIMEOUT_MS};
}

struct agentc agentc_over(int fd)
{
	return (struct agentc){.fd = fd, .timeout_ms = AGENTC_TIMEOUT_MS};
}

uint64_t link_now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t link_end_ms(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : link_now_ms() + (uint64_t)timeout_ms;
}

/* --- open, close ------------------------------------------------------------------------------ */

#define BACKLOG_WAIT_NS 1000000

/*
 * A unix socket whose backlog is full refuses a non-blocking connect() with EAGAIN, and poll() does not wait for room
 * (connect(2)).  A listener that has had no CPU for a while is no reason to fail.
 */
static int connect_until(int fd, const struct sockaddr *to, socklen_t len, uint64_t end_ms)
{
	const struct timespec nap = {.tv_nsec = BACKLOG_WAIT_NS};

	while (connect(fd, to, len) < 0) {
		if (errno != EAGAIN || link_now_ms() >= end_ms)
			return -errno;
		nanosleep(&nap, NULL);
	}
	return 0;
}

static int dial(const char *path, int timeout_ms, struct errmsg *why)
{
	union {
		struct sockaddr_un un;
		struct sockaddr any;
	} to = {.un = {.sun_family = AF_UNIX}};

	if (strlen(path) >= sizeof(to.un.sun_path))
		return err_set(why, ENAMETOOLONG, "agent socket %s", path);
	memcpy(to.un.sun_path, path, strlen(path) + 1);
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(why, errno, "socket");
	int err = connect_until(fd, &to.any, sizeof(to.un), link_end_ms(timeout_ms));
	return err ? err_set(why, err, "connect to agent at %s", path) : steal_fd(&fd);
}

static int take_over(struct agentc *at, struct errmsg *why)
{
	int fd = at->fd;

	at->fd = -1;
	if (fd < 0)
		return err_set(why, EBADF, "the connection to the agent was used already");
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
		int err = errno;
		close(fd);
		return err_set(why, err, "connection to the agent");
	}
	return fd;
}

static int put_bytes(struct link *link, const void *bytes, size_t len);

int link_open(struct link *link, struct agentc *at, struct errmsg *why)
{
	static const struct agent_hello hello = {.magic = AGENT_MAGIC,
						 .version_min = AGENT_VERSION_MIN,
						 .version_max = AGENT_VERSION_MAX};
	char line[32];
	int err = 0;

	at->stage = 0;
	*link = (struct link){.fd = at->path ? dial(at->path, at->timeout_ms, why)
					     : take_over(at, why)};
	if (link->fd < 0)
		return link->fd;
	link->ok = !at->path || !at->port;
	if (!link->ok) {
		int len = snprintf(line, sizeof(line), "CONNECT %u\n", at->port);
		err = put_bytes(link, line, (size_t)len);
		link->gate = (size_t)len;
	}
	link->in = malloc(LINK_IN_BYTES);
	if (err == 0)
		err = link_put(link, AGENT_HELLO, 0, &hello, NULL, 0);
	if (err < 0 || !link->in) {
		link_close(link);
		return err_set(why, ENOMEM, "connection to the agent");
	}
	return 0;
}

void link_close(struct link *link)
{
	if (link->fd >= 0)
		close(link->fd);
	free(link->in);
	free(link->out);
	*link = (struct link){.fd = -1};
}

/* --- out -------------------------------------------------------------------------------------- */

size_t link_queued(const struct link *link)
{
	return link->out_len - link->out_at;
}

static int reserve(struct link *link, size_t need)
{
	size_t cap = link->out_cap ? link->out_cap : 1024;

	if (link->out_at && link->ok) {
		memmove(link->out, link->out + link->out_at, link_queued(link));
		link->out_len -= link->out_at;
		link->out_at = 0;
	}
	if (need > LINK_OUT_MAX - link->out_len)
		return -ENOBUFS;
	while (cap < link->out_len + need)
		cap *= 2;
	if (cap == link->out_cap)
		return 0;
	uint8_t *out = realloc(link->out, cap);
	if (!out)
		return -ENOMEM;
	link->out = out;
	link->out_cap = cap;
	return 0;
}

static int put_bytes(struct link *link, const void *bytes, size_t len)
{
	int err = reserve(link, len);

	if (err < 0)
		return err;
	memcpy(link->out + link->out_len, bytes, len);
	link->out_len += len;
	return 0;
}

int link_put(struct link *link, uint16_t type, uint16_t stream, const void *fixed, const void *tail,
	     size_t tail_len)
{
	int err = reserve(link, sizeof(struct agent_frame) + sizeof(struct agent_exec) + tail_len);
	if (err < 0)
		return err;
	long len = agent_msg_put(link->out + link->out_len, link->out_cap - link->out_len, type,
				 stream, fixed, tail, tail_len);
	if (len < 0)
		return (int)len;
	link->out_len += (size_t)len;
	return 0;
}

static size_t sendable(const struct link *link)
{
	return link->ok ? link_queued(link) : link->gate - link->out_at;
}

static int flush(struct link *link, struct errmsg *why)
{
	while (sendable(link)) {
		ssize_t n = send(link->fd, link->out + link->out_at, sendable(link), MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
			link->out_at = link->out_len; /* what it said before is still to be read */
			return 0;
		}
		if (n < 0)
			return err_set(why, errno, "send to the agent");
		link->out_at += (size_t)n;
	}
	return 0;
}

/* --- in --------------------------------------------------------------------------------------- */

static size_t waiting(const struct link *link)
{
	return link->in_len - link->in_at;
}

static void compact(struct link *link)
{
	if (!link->in_at)
		return;
	memmove(link->in, link->in + link->in_at, waiting(link));
	link->in_len -= link->in_at;
	link->in_at = 0;
}

/* The VMM's "OK <port>\n".  Return: 1 it is there, 0 not yet, -errno. */
static int take_ok(struct link *link, struct errmsg *why)
{
	const uint8_t *line = link->in + link->in_at;
	const uint8_t *end = memchr(line, '\n', waiting(link));

	if (!end && link->ended)
		return err_set(why, ECONNREFUSED, "the agent does not answer on its vsock port");
	if (!end && waiting(link) < LINK_LINE_MAX)
		return 0;
	if (!end || end - line > LINK_LINE_MAX || end - line < 4 || memcmp(line, "OK ", 3) != 0)
		return err_set(why, EPROTO, "no OK from the VMM's vsock socket");
	link->in_at += (size_t)(end - line) + 1;
	link->ok = true;
	return 1;
}

static int fill(struct link *link, struct errmsg *why)
{
	while (!link->ended && link->in_len < LINK_IN_BYTES) {
		ssize_t n =
			recv(link->fd, link->in + link->in_len, LINK_IN_BYTES - link->in_len, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0 && errno != ECONNRESET && errno != EPIPE)
			return err_set(why, errno, "receive from the agent");
		if (n <= 0)
			link->ended = true;
		else
			link->in_len += (size_t)n;
	}
	return 0;
}

int link_pump(struct link *link, struct errmsg *why)
{
	int err = flush(link, why);

	if (err == 0)
		err = fill(link, why);
	if (err < 0 || link->ok)
		return err;
	err = take_ok(link, why);
	return err == 1 ? flush(link, why) : err;
}

static int take_hello(struct link *link, const struct agent_frame *frame, const uint8_t *payload,
		      struct errmsg *why)
{
	struct agent_hello_ok ok;

	if (frame->type != AGENT_HELLO_OK)
		return err_set(why, EPROTO, "the agent did not greet");
	memcpy(&ok, payload, sizeof(ok));
	if (ok.version < AGENT_VERSION_MIN || ok.version > AGENT_VERSION_MAX)
		return err_set(why, EPROTO, "the agent chose version %u", ok.version);
	link->hello = true;
	return 0;
}

int link_frame(struct link *link, struct agent_frame *frame, const uint8_t **payload,
	       struct errmsg *why)
{
	int err;

	link->in_at += link->used;
	link->used = 0;
	if (waiting(link) < sizeof(*frame) + AGENT_FRAME_MAX)
		compact(link);
	if (!link->ok || waiting(link) < sizeof(*frame))
		return link->ended ? err_set(why, ECONNRESET, "the connection to the agent ended")
				   : 0;
	memcpy(frame, link->in + link->in_at, sizeof(*frame));
	err = agent_frame_check(frame, AGENT_FROM_AGENT);
	if (err < 0)
		return err_set(why, EPROTO, "the agent sent an unknown or oversized message");
	if (waiting(link) < sizeof(*frame) + frame->len)
		return link->ended ? err_set(why, ECONNRESET, "the connection to the agent ended")
				   : 0;
	*payload = link->in + link->in_at + sizeof(*frame);
	err = agent_msg_check(frame, *payload);
	if (err < 0)
		return err_set(why, EPROTO, "the agent sent a malformed %s",
			       agent_msg_name(frame->type));
	link->used = sizeof(*frame) + frame->len;
	if (link->hello || frame->type == AGENT_ERROR)
		return 1;
	err = take_hello(link, frame, *payload, why);
	return err < 0 ? err : link_frame(link, frame, payload, why);
}

/* --- waiting ---------------------------------------------------------------------------------- */

short link_events(const struct link *link)
{
	bool room = !link->ended && link->in_len - link->in_at - link->used < LINK_IN_BYTES / 2;

	return (short)((room ? POLLIN : 0) | (sendable(link) ? POLLOUT : 0));
}

int link_wait(struct link *link, uint64_t end_ms, struct errmsg *why)
{
	struct pollfd pfd = {.fd = link->fd, .events = link_events(link)};
	uint64_t now = link_now_ms();
	int timeout = -1;

	if (end_ms != UINT64_MAX) {
		uint64_t left = end_ms > now ? end_ms - now : 0;
		timeout = left < INT_MAX ? (int)left : INT_MAX;
	}
	int n = poll(&pfd, 1, timeout);
	if (n < 0 && errno != EINTR)
		return err_set(why, errno, "wait for the agent");
	return n == 0 ? err_set(why, ETIMEDOUT, "no answer from the agent") : 0;
}

int link_await(struct link *link, struct agent_frame *frame, const uint8_t **payload,
	       uint64_t end_ms, struct errmsg *why)
{
	for (;;) {
		int err = link_frame(link, frame, payload, why);
		if (err)
			return err < 0 ? err : 0;
		err = link_pump(link, why);
		if (err < 0)
			return err;
		err = link_frame(link, frame, payload, why);
		if (err)
			return err < 0 ? err : 0;
		err = link_wait(link, end_ms, why);
		if (err < 0)
			return err;
	}
}

int link_drain(struct link *link, uint64_t end_ms, struct errmsg *why)
{
	for (;;) {
		int err = link_pump(link, why);
		if (err < 0 || !link_queued(link) || link->ended)
			return err;
		err = link_wait(link, end_ms, why);
		if (err < 0)
			return err;
	}
}

int link_error(struct agentc *at, const struct agent_frame *frame, const uint8_t *payload,
	       struct errmsg *why)
{
	struct agent_error error;
	char text[ERRMSG_MAX];

	if (frame->type != AGENT_ERROR)
		return err_set(why, EPROTO, "the agent answered %s out of place",
			       agent_msg_name(frame->type));
	memcpy(&error, payload, sizeof(error));
	const char *said = agent_msg_string(frame, payload, 0);
	agentc_escape(text, sizeof(text), said, strlen(said));
	at->stage = error.stage;
	err_set(why, 0, "%s", text);
	return -error.err;
}

/* --- text ------------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence of a printable character at text, or 0. */
static size_t utf8_len(const uint8_t *text, size_t left)
{
	if (text[0] < 0x80)
		return text[0] >= 0x20 && text[0] != 0x7f && text[0] != '\\';
	size_t len = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
	if (text[0] < 0xc2 || text[0] > 0xf4 || len > left)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong, surrogates, above the last plane; C1 controls; direction overrides. */
	bool bad = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
		   (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f) ||
		   (text[0] == 0xc2 && text[1] < 0xa0) ||
		   (text[0] == 0xe2 && (text[1] == 0x80 || text[1] == 0x81) && text[2] >= 0xa6);
	return bad ? 0 : len;
}

char *agentc_escape(char *out, size_t cap, const char *text, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *at = (const uint8_t *)text;
	size_t done = 0, put = 0;

	assert(cap > 0);
	while (done < len) {
		size_t run = utf8_len(at + done, len - done);
		if (put + (run ? run : 4) >= cap)
			break;
		if (run) {
			memcpy(out + put, at + done, run);
			put += run;
			done += run;
			continue;
		}
		memcpy(out + put, "\\x", 2);
		out[put + 2] = hex[at[done] >> 4];
		out[put + 3] = hex[at[done] & 15];
		put += 4;
		done++;
	}
	out[put] = '\0';
	return out;
}
