/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system.c - requests of the machine that may block, each in a child of its own (worker.h), as root:
 * identity and wake (files of /etc), freeze and thaw (wait for writers), forward (as long as it lasts)
 *
 * Freeze is bounded three ways: the client's connection ends, THAW comes, or the timeout is over;
 * whichever is first thaws.  One freeze at a time, so that a late thaw cannot undo a newer freeze.
 */
#include "agent/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/hygiene.h"
#include "base/cleanup.h"

#define FORWARD_CHUNK      65536
#define THAW_WAIT_MS       5000
#define CONNECT_DEFAULT_MS 5000

/* --- identity, wake --------------------------------------------------------------------------- */

static void check_names(struct worker *w, const char *hostname, const char *machine_id)
{
	const char *why;

	if (hygiene_check_names(hostname, machine_id, &why) < 0)
		worker_fail(w, EINVAL, AGENT_STAGE_SYSTEM, "%s", why);
}

static void set_names(struct worker *w, const char *hostname, const char *machine_id)
{
	const char *why;
	int err = hygiene_set_names(w->agent->etc, hostname, machine_id, &why);

	if (err < 0)
		worker_fail(w, err, AGENT_STAGE_SYSTEM, "%s: %s", why, strerror(-err));
}

void identity_request(struct worker *w, const char *hostname, const char *machine_id)
{
	check_names(w, hostname, machine_id);
	set_names(w, hostname, machine_id);
	worker_value(w, AGENT_OK, 0);
}

/* The clock first: the time in the request grows old. */
void wake_request(struct worker *w, const struct agent_wake *wake, const char *hostname,
		  const char *machine_id)
{
	struct agent_clock_ok clock;

	check_names(w, hostname, machine_id);
	int err = hygiene_clock(wake->realtime_ns, wake->threshold_ns, &clock);
	if (err < 0)
		worker_fail(w, err, AGENT_STAGE_SYSTEM, "clock: %s", strerror(-err));
	err = hygiene_entropy(wake->entropy, sizeof(wake->entropy));
	if (err < 0)
		worker_fail(w, err, AGENT_STAGE_SYSTEM, "reseed: %s", strerror(-err));
	set_names(w, hostname, machine_id);

	const struct agent_wake_ok ok = {
		.before_ns = clock.before_ns,
		.after_ns = clock.after_ns,
		.generation = wake->generation,
		.done = (clock.stepped ? AGENT_WOKE_STEPPED : 0) | AGENT_WOKE_RESEEDED |
			(hostname[0] ? AGENT_WOKE_HOSTNAME : 0) |
			(machine_id[0] ? AGENT_WOKE_MACHINE_ID : 0),
	};
	worker_send(w, AGENT_WAKE_OK, &ok, NULL, 0);
}

/* --- freeze, thaw ----------------------------------------------------------------------------- */

static volatile sig_atomic_t thaw_now;

static void on_term(int signo)
{
	(void)signo;
	thaw_now = 1;
}

/* Not ioctl(3): musl's takes an int, and these numbers do not fit. */
static int fs_ioctl(int fd, unsigned long request)
{
	return syscall(SYS_ioctl, fd, request, 0) < 0 ? -errno : 0;
}

static void thaw_all(const int *fd, unsigned count)
{
	while (count-- > 0) {
		fs_ioctl(fd[count], FITHAW);
		close(fd[count]);
	}
}

/* Waits for the client to go, for THAW (SIGTERM), or for the time to run out. */
static void hold_freeze(struct worker *w, uint64_t end)
{
	struct pollfd pfd = {.fd = w->fd, .events = POLLIN | POLLRDHUP};

	while (!thaw_now) {
		uint64_t now = now_ms();
		if (now >= end || poll(&pfd, 1, (int)(end - now)) > 0)
			return;
	}
}

void freeze_request(struct worker *w, const struct agent_freeze *freeze, const char *paths,
		    size_t len)
{
	uint64_t end = now_ms() + freeze->timeout_ms;
	const struct sigaction term = {.sa_handler = on_term};
	int fd[AGENT_FREEZE_MAX];
	unsigned count = 0;

	sigaction(SIGTERM, &term, NULL);
	for (const char *path = paths; path < paths + len; path += strlen(path) + 1) {
		fd[count] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int err = fd[count] < 0 ? -errno : fs_ioctl(fd[count], FIFREEZE);
		if (err < 0) {
			if (fd[count] >= 0)
				close(fd[count]);
			thaw_all(fd, count);
			worker_fail(w, err, AGENT_STAGE_SYSTEM, "freeze '%.400s': %s", path,
				    strerror(-err));
		}
		count++;
	}
	worker_value(w, AGENT_OK, count);
	hold_freeze(w, end);
	thaw_all(fd, count);
	worker_value(w, AGENT_END, thaw_now ? 1 : 0);
	_exit(0); /* at once: THAW waits for our end */
}

void thaw_request(struct worker *w)
{
	pid_t freezer = w->agent->freezer;
	int fd = freezer > 0 ? (int)syscall(SYS_pidfd_open, freezer, 0) : -1;

	if (fd < 0) {
		worker_value(w, AGENT_OK, 0); /* nothing is frozen by us */
		return;
	}
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	kill(freezer, SIGTERM);
	if (poll(&pfd, 1, THAW_WAIT_MS) == 0)
		worker_fail(w, ETIMEDOUT, AGENT_STAGE_SYSTEM, "thaw: the freezer does not end");
	worker_value(w, AGENT_OK, 1);
}

/* --- forward ---------------------------------------------------------------------------------- */

static int connect_within(int fd, const struct sockaddr *to, socklen_t len, uint64_t end)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t err_len = sizeof(err);

	if (connect(fd, to, len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	uint64_t now = now_ms();
	if (poll(&pfd, 1, now < end ? (int)(end - now) : 0) <= 0)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len);
	return -err;
}

static int dial(int family, uint16_t port, uint64_t end)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to = {0};
	socklen_t len = sizeof(to.v4);

	to.v4.sin_family = AF_INET;
	to.v4.sin_port = htons(port);
	to.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (family == 6) {
		to.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
					      .sin6_port = htons(port),
					      .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		len = sizeof(to.v6);
	}
	cleanup_close int fd =
		socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int err = connect_within(fd, &to.any, len, end);
	return err < 0 ? err : steal_fd(&fd);
}

struct lane { /* one direction */
	int from, to;
	uint8_t *buf;
	size_t at, len;
	bool ended; /* no more from `from`, and `to` has been told */
};

/* Reads or writes once, as far as it goes without waiting.  False: the other side is broken. */
static bool lane_move(struct worker *w, struct lane *lane, bool first)
{
	if (!lane->ended && lane->at == lane->len) {
		ssize_t n = first && w->ahead_len ? worker_read_raw(w, lane->buf, FORWARD_CHUNK)
						  : recv(lane->from, lane->buf, FORWARD_CHUNK, 0);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		lane->at = 0;
		lane->len = (size_t)n;
		if (n == 0) {
			lane->ended = true;
			shutdown(lane->to, SHUT_WR);
		}
	}
	while (lane->at < lane->len) {
		ssize_t n =
			send(lane->to, lane->buf + lane->at, lane->len - lane->at, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		lane->at += (size_t)n;
	}
	return true;
}

static void relay(struct worker *w, int port)
{
	struct lane in = {.from = w->fd, .to = port, .buf = malloc(FORWARD_CHUNK)};
	struct lane out = {.from = port, .to = w->fd, .buf = malloc(FORWARD_CHUNK)};

	fcntl(w->fd, F_SETFL, fcntl(w->fd, F_GETFL) | O_NONBLOCK);
	while (in.buf && out.buf && !(in.ended && out.ended)) {
		if (!lane_move(w, &in, true) || !lane_move(w, &out, false))
			return;
		bool in_waits = in.at < in.len, out_waits = out.at < out.len;
		if (w->ahead_len && !in_waits)
			continue;
		struct pollfd pfd[2] = {
			{w->fd,
			 (short)((!in.ended && !in_waits ? POLLIN : 0) | (out_waits ? POLLOUT : 0)),
			 0},
			{port,
			 (short)((!out.ended && !out_waits ? POLLIN : 0) |
				 (in_waits ? POLLOUT : 0)),
			 0}};
		/* A side that is over reports its hang-up again and again: do not listen, except for
		 * a client that is gone altogether while we wait for the port. */
		pfd[0].fd = pfd[0].events || in.ended ? w->fd : -1;
		pfd[1].fd = pfd[1].events ? port : -1;
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			return;
		if (in.ended && pfd[0].revents & (POLLHUP | POLLERR))
			return;
	}
}

void forward_request(struct worker *w, const struct agent_forward *forward)
{
	uint64_t end = now_ms() + (forward->timeout_ms ? forward->timeout_ms : CONNECT_DEFAULT_MS);
	int port = forward->family == 6 ? -ECONNREFUSED : dial(4, forward->port, end);

	if (port < 0 && forward->family != 4) {
		int other = dial(6, forward->port, end);
		/* Without IPv6 the answer about IPv4 is the better one. */
		if (other >= 0 || forward->family == 6)
			port = other;
	}
	if (port < 0)
		worker_fail(w, port, AGENT_STAGE_NET, "port %u: %s", forward->port,
			    strerror(-port));
	worker_value(w, AGENT_OK, 0);
	relay(w, port);
}
