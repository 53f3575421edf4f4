/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of hybrid vsock: clients that say "CONNECT <port>\n" on our listening socket, and the
 * connect() that carries a guest's connection to the listener of its port.
 *
 * A client's line may come in pieces and with its first bytes behind it; one that dawdles or talks
 * nonsense is closed without a word.
 *
 * Thread: io.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "devices/vsock_priv.h"

#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* after accept() found no fd or memory */

static_assert(VSOCK_PATH_MAX + sizeof("_4294967295") <= sizeof(((struct sockaddr_un *)0)->sun_path),
	      "every port's path fits an address");

/* --- clients ------------------------------------------------------------------------------------ */
void vsock_accept_next(struct vsock *vs)
{
	if (vs->listen_fd < 0 || vs->quiet || vs->accept.busy || vs->retry.op.busy ||
	    vs->hellos >= VSOCK_HELLO_MAX)
		return;
	vs->accept_polled = true;
	loop_poll(vs->dev.loop, &vs->accept, vs->listen_fd, POLLIN);
}

void vsock_retry_done(struct loop_op *op, int res)
{
	(void)res;
	vsock_accept_next(container_of(op, struct vsock, retry.op));
}

static void vsock_welcome(struct vsock *vs, int fd)
{
	struct conn *conn = conn_create(vs, fd, CONN_HELLO);

	if (!conn) {
		close(fd);
		return;
	}
	conn_deadline(conn);
	conn_advance(conn);
}

void vsock_accept_done(struct loop_op *op, int res)
{
	struct vsock *vs = container_of(op, struct vsock, accept);

	if (res >= 0 && vs->accept_polled && !vs->quiet) {
		vs->accept_polled = false;
		loop_accept(vs->dev.loop, &vs->accept, vs->listen_fd);
		return;
	}
	if (res >= 0 && !vs->accept_polled)
		vsock_welcome(vs, res);
	else if (res < 0 && res != -EAGAIN && res != -ECONNABORTED && res != -ECANCELED)
		loop_timer(vs->dev.loop, &vs->retry, clock_now() + ACCEPT_RETRY_NS);
	vsock_accept_next(vs);
}

/* "CONNECT <port>" with blanks around the number, at `text` of `len` bytes.  True when it is one. */
static bool parse_line(const char *text, size_t len, uint32_t *port)
{
	uint64_t val = 0;
	size_t at = 8, digits = 0;

	if (len < 9 || strncasecmp(text, "CONNECT ", 8) != 0)
		return false;
	while (at < len && text[at] == ' ')
		at++;
	for (; at < len && text[at] >= '0' && text[at] <= '9'; at++, digits++) {
		val = val * 10 + (uint64_t)(text[at] - '0');
		if (val > UINT32_MAX)
			return false;
	}
	while (at < len && (text[at] == ' ' || text[at] == '\r'))
		at++;
	*port = (uint32_t)val;
	return digits && at == len;
}

/* Round robin, so that a port is not met again soon. */
static uint32_t vsock_host_port(struct vsock *vs, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = vs->next_port++;
		if (vs->next_port == VSOCK_HOST_PORT << 1)
			vs->next_port = VSOCK_HOST_PORT;
	} while (conn_find(vs, guest_port, port)); /* at most VSOCK_CONN_MAX times */
	return port;
}

static void conn_request(struct conn *conn, uint32_t guest_port)
{
	conn->vs->hellos--;
	conn->state = CONN_REQUESTED;
	conn_bind(conn, guest_port, vsock_host_port(conn->vs, guest_port));
	conn->owed = OWE_REQUEST;
	conn_deadline(conn);
	vsock_accept_next(conn->vs);
}

void conn_line_done(struct conn *conn, int res)
{
	uint32_t port;

	conn->vs->in_flight--;
	if (conn->state == CONN_DEAD || res == -EAGAIN || res == -EINTR)
		return;
	if (res <= 0) {
		conn_kill(conn);
		return;
	}
	conn->line_len = (uint8_t)(conn->line_len + res);
	char *lf = memchr(conn->line, '\n', conn->line_len);
	if (!lf && conn->line_len < sizeof(conn->line))
		return;
	if (!lf || !parse_line(conn->line, (size_t)(lf - conn->line), &port)) {
		conn_kill(conn);
		return;
	}
	conn->early_at = (uint8_t)(lf + 1 - conn->line);
	conn_request(conn, port);
}

void conn_greet(struct conn *conn)
{
	assert(!conn->out.busy);
	int len = snprintf(conn->ok, sizeof(conn->ok), "OK %u\n", conn->host_port);
	conn->out_kind = OUT_OK;
	loop_send(conn->vs->dev.loop, &conn->out, conn->fd, conn->ok, (uint32_t)len);
}

/* --- the guest's connections -------------------------------------------------------------------- */
/*
 * The one place that names a path while the guest runs.  A unix stream socket connects at once or not at
 * all (-EAGAIN: the listener's backlog is full), so nothing waits here.
 * syscalls: io: socket connect close
 */
int vsock_connect(const struct vsock *vs, uint32_t port)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (!vs->uds_path[0])
		return -ECONNREFUSED;
	int len = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", vs->uds_path, port);
	assert(len > 0 && (size_t)len < sizeof(addr.sun_path));
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	return steal_fd(&fd);
}
