/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - forking, and blocking frames for the children; see worker.h
 *
 * A child keeps its connection and nothing else of the agent: every other descriptor is closed
 * first, so that no pipe of a process stays open because some upload is slow.
 */
#include "agent/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define WORKER_FD 3

/* --- frames, blocking ------------------------------------------------------------------------- */

/* Nobody listens any more. */
static void gone(struct worker *w) __attribute__((noreturn));

static void gone(struct worker *w)
{
	if (w->abandon)
		w->abandon();
	_exit(0);
}

static void send_all(struct worker *w, struct iovec *iov, int count)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};

	while (msg.msg_iovlen) {
		ssize_t n = sendmsg(w->fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			gone(w); /* or no progress for AGENT_STALL_MS */
		while (msg.msg_iovlen && (size_t)n >= msg.msg_iov->iov_len) {
			n -= (ssize_t)msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen) {
			msg.msg_iov->iov_base = (uint8_t *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= (size_t)n;
		}
	}
}

void worker_send(struct worker *w, uint16_t type, const void *fixed, const void *tail,
		 size_t tail_len)
{
	uint8_t buf[sizeof(struct agent_frame) + sizeof(struct agent_entry) + 3 * AGENT_PATH_MAX];
	long len = agent_msg_put(buf, sizeof(buf), type, 0, fixed, tail, tail_len);

	assert(len > 0);
	struct iovec iov = {buf, (size_t)len};
	send_all(w, &iov, 1);
}

void worker_send_data(struct worker *w, const void *buf, size_t len)
{
	struct agent_frame frame = {.len = (uint32_t)len, .type = AGENT_DATA};
	union {
		const void *from;
		void *to;
	} at = {.from = buf};
	struct iovec iov[2] = {{&frame, sizeof(frame)}, {at.to, len}};

	assert(len > 0 && len <= AGENT_FRAME_MAX);
	send_all(w, iov, 2);
}

void worker_value(struct worker *w, uint16_t type, uint64_t value)
{
	struct agent_value m = {value};
	worker_send(w, type, &m, NULL, 0);
}

/* Our side is said: wait a little for the client to close, so that nothing of ours gets lost. */
static void finish(struct worker *w) __attribute__((noreturn));

static void finish(struct worker *w)
{
	struct timeval linger = {.tv_sec = CLIENT_LINGER_MS / 1000};
	uint8_t sink[4096];
	size_t budget = 64u << 20; /* an upload that was refused may still be on its way */

	shutdown(w->fd, SHUT_WR);
	setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &linger, sizeof(linger));
	while (budget > sizeof(sink)) {
		ssize_t n = recv(w->fd, sink, sizeof(sink), 0);
		if (n <= 0)
			break;
		budget -= (size_t)n;
	}
	_exit(0);
}

void worker_fail(struct worker *w, int err, uint16_t stage, const char *fmt, ...)
{
	struct agent_error error = {.err = abs(err) ? abs(err) : EIO, .stage = stage};
	char text[512];
	va_list ap;

	if (w->abandon)
		w->abandon();
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	worker_send(w, AGENT_ERROR, &error, text, strlen(text) + 1);
	finish(w);
}

ssize_t worker_read_raw(struct worker *w, void *buf, size_t cap)
{
	if (w->ahead_len) {
		size_t n = w->ahead_len < cap ? w->ahead_len : cap;
		memcpy(buf, w->ahead, n);
		w->ahead += n;
		w->ahead_len -= n;
		return (ssize_t)n;
	}
	ssize_t n;
	do
		n = recv(w->fd, buf, cap, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static bool recv_all(struct worker *w, void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len) {
		ssize_t n = worker_read_raw(w, at, len);
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

bool worker_recv(struct worker *w, struct agent_frame *frame)
{
	if (!w->payload)
		w->payload = malloc(AGENT_FRAME_MAX);
	if (!w->payload)
		worker_fail(w, ENOMEM, AGENT_STAGE_BUSY, "memory for a transfer");
	if (!recv_all(w, frame, sizeof(*frame)))
		return false;
	if (agent_frame_check(frame, AGENT_FROM_CLIENT) < 0)
		worker_fail(w, EPROTO, AGENT_STAGE_REQUEST, "unknown or oversized message");
	if (!recv_all(w, w->payload, frame->len))
		return false;
	if (agent_msg_check(frame, w->payload) < 0)
		worker_fail(w, EPROTO, AGENT_STAGE_REQUEST, "malformed message (%s)",
			    agent_msg_name(frame->type));
	return true;
}

/* --- the child -------------------------------------------------------------------------------- */

static void isolate(struct worker *w)
{
	struct timeval stall = {.tv_sec = AGENT_STALL_MS / 1000};
	sigset_t none;

	if (dup2(w->fd, WORKER_FD) < 0)
		gone(w);
	w->fd = WORKER_FD;
	syscall(SYS_close_range, WORKER_FD + 1, ~0u, 0);
	fcntl(w->fd, F_SETFL, fcntl(w->fd, F_GETFL) & ~O_NONBLOCK);
	setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall));
	setsockopt(w->fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall));
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = write(fd, "0", 1);
		(void)n;
		close(fd);
	}
}

static void serve(struct worker *w, const struct agent_frame *frame, const uint8_t *payload)
{
	struct agent_forward forward;
	struct agent_freeze freeze;
	struct agent_wake wake;
	size_t len;
	const uint8_t *tail = agent_msg_tail(frame, payload, &len);

	switch (frame->type) {
	case AGENT_FORWARD:
		memcpy(&forward, payload, sizeof(forward));
		forward_request(w, &forward);
		break;
	case AGENT_IDENTITY:
		identity_request(w, agent_msg_string(frame, payload, 0),
				 agent_msg_string(frame, payload, 1));
		break;
	case AGENT_WAKE:
		memcpy(&wake, payload, sizeof(wake));
		wake_request(w, &wake, agent_msg_string(frame, payload, 0),
			     agent_msg_string(frame, payload, 1));
		break;
	case AGENT_FREEZE:
		memcpy(&freeze, payload, sizeof(freeze));
		freeze_request(w, &freeze, (const char *)tail, len);
		break;
	case AGENT_THAW: thaw_request(w); break;
	default: file_request(w, frame, payload); break;
	}
}

/* --- the parent ------------------------------------------------------------------------------- */

static struct worker_slot *free_slot(struct agent *agent)
{
	for (unsigned i = 0; i < AGENT_WORKER_MAX; i++) {
		if (!agent->worker[i].pid)
			return &agent->worker[i];
	}
	return NULL;
}

int worker_start(struct client *client, const struct agent_frame *frame, const void *payload,
		 const void *ahead, size_t ahead_len)
{
	struct agent *agent = client->agent;
	struct worker_slot *slot = free_slot(agent);

	if (!slot)
		return -EAGAIN;
	if (frame->type == AGENT_FREEZE && agent->freezer)
		return -EBUSY;
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		struct worker w = {.fd = client->source.fd,
				   .agent = agent,
				   .ahead = ahead,
				   .ahead_len = ahead_len};
		isolate(&w);
		serve(&w, frame, payload);
		finish(&w);
	}
	slot->pid = pid;
	if (frame->type == AGENT_FREEZE)
		agent->freezer = pid;
	return 0;
}

bool worker_reaped(struct agent *agent, pid_t pid)
{
	if (agent->freezer == pid)
		agent->freezer = 0;
	for (unsigned i = 0; i < AGENT_WORKER_MAX; i++) {
		if (agent->worker[i].pid == pid) {
			agent->worker[i].pid = 0;
			return true;
		}
	}
	return false;
}
