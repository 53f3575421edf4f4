/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of virtio-vsock: found by their pair of ports, made on demand, ended in one of three ways
 * (kill: silently; reset: the guest gets RST; finish: its last bytes are still delivered).
 *
 * All deadlines are one time-out away from the moment they are set: the list of them is sorted by
 * itself, and one timer serves all.
 *
 * Thread: io.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "devices/vsock_priv.h"

/* --- the table ---------------------------------------------------------------------------------- */
/* The guest chooses both ports of its connections: the device's address makes chains unpredictable. */
static struct conn **conn_bucket(const struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	uint64_t key = ((uint64_t)guest_port << 32 | host_port) ^ (uintptr_t)vs;

	key *= UINT64_C(0x9e3779b97f4a7c15);
	key ^= key >> 32;
	key *= UINT64_C(0x9e3779b97f4a7c15);
	return (struct conn **)(uintptr_t)&vs->hash[(key >> 40) % VSOCK_HASH_SIZE];
}

struct conn *conn_find(const struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	struct conn *conn = *conn_bucket(vs, guest_port, host_port);

	while (conn && (conn->guest_port != guest_port || conn->host_port != host_port))
		conn = conn->hash_next;
	return conn;
}

void conn_bind(struct conn *conn, uint32_t guest_port, uint32_t host_port)
{
	struct conn **bucket = conn_bucket(conn->vs, guest_port, host_port);

	conn->guest_port = guest_port;
	conn->host_port = host_port;
	conn->hash_next = *bucket;
	*bucket = conn;
}

static void conn_unbind(struct conn *conn)
{
	struct conn **at = conn_bucket(conn->vs, conn->guest_port, conn->host_port);

	while (*at && *at != conn)
		at = &(*at)->hash_next;
	if (*at)
		*at = conn->hash_next;
}

/* --- life --------------------------------------------------------------------------------------- */
static void conn_put(struct conn *conn)
{
	if (conn->state != CONN_DEAD || conn->held || conn->in.busy || conn->out.busy)
		return;
	link_del(&conn->all);
	free(conn->buf);
	free(conn);
}

static void conn_polled(struct conn *conn, int res)
{
	if (res < 0)
		conn_reset(conn);
	else if (conn->in_kind == IN_POLL)
		conn->readable = true;
	else if (res & (POLLHUP | POLLERR))
		conn->hup = true;
	else if (conn->state == CONN_OPEN)
		conn_deadline(conn); /* half closed: asked again then */
}

static void conn_in_done(struct loop_op *op, int res)
{
	struct conn *conn = container_of(op, struct conn, in);
	struct vsock *vs = conn->vs;

	conn->held = true;
	if (conn->in_kind == IN_READ)
		vsock_rx_done(conn, res);
	else if (conn->in_kind == IN_LINE)
		conn_line_done(conn, res);
	else if (conn->state != CONN_DEAD)
		conn_polled(conn, res);
	conn->held = false;
	conn_advance(conn);
	vsock_resume(vs);
}

static void conn_out_done(struct loop_op *op, int res)
{
	struct conn *conn = container_of(op, struct conn, out);
	struct vsock *vs = conn->vs;

	conn->held = true;
	vsock_tx_done(conn, res);
	conn->held = false;
	conn_advance(conn);
	vsock_resume(vs);
}

static uint32_t conn_credit(struct vsock *vs)
{
	if (vs->advertised + VSOCK_CREDIT_LARGE > VSOCK_CREDIT_POOL)
		return VSOCK_CREDIT_SMALL;
	vs->advertised += VSOCK_CREDIT_LARGE;
	return VSOCK_CREDIT_LARGE;
}

struct conn *conn_create(struct vsock *vs, int fd, enum conn_state state)
{
	if (vs->conns == VSOCK_CONN_MAX)
		return NULL;
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->vs = vs;
	conn->fd = fd;
	conn->state = state;
	conn->in.done = conn_in_done;
	conn->out.done = conn_out_done;
	conn->alloc = conn_credit(vs);
	link_init(&conn->ready);
	link_init(&conn->timed);
	link_add_tail(&vs->all, &conn->all);
	vs->conns++;
	vs->hellos += state == CONN_HELLO;
	return conn;
}

static void conn_drop_buf(struct conn *conn)
{
	conn->vs->buffered -= conn->buf_len;
	conn->buf_len = 0;
	if (conn->out.busy && conn->out_kind == OUT_BUF)
		return; /* the kernel may be reading it: goes with the connection */
	free(conn->buf);
	conn->buf = NULL;
}

void conn_kill(struct conn *conn)
{
	struct vsock *vs = conn->vs;

	if (conn->state == CONN_DEAD)
		return;
	if (conn->state == CONN_HELLO)
		vs->hellos--;
	else if (conn->state != CONN_DRAIN)
		conn_unbind(conn);
	conn->state = CONN_DEAD;
	vs->conns--;
	if (conn->alloc == VSOCK_CREDIT_LARGE)
		vs->advertised -= VSOCK_CREDIT_LARGE;
	link_del(&conn->ready);
	link_del(&conn->timed);
	conn_drop_buf(conn);
	loop_cancel(vs->dev.loop, &conn->in);
	loop_cancel(vs->dev.loop, &conn->out);
	close(steal_fd(&conn->fd));
	conn_put(conn);
	vsock_accept_next(vs);
}

void conn_reset(struct conn *conn)
{
	bool known = conn->state == CONN_OPEN || conn->state == CONN_REQUESTED;

	/* The guest has not heard of it before the REQUEST is out. */
	if (known && !(conn->owed & OWE_REQUEST))
		vsock_rst(conn->vs, conn->guest_port, conn->host_port, VSOCK_TYPE_STREAM);
	conn_kill(conn);
}

void conn_finish(struct conn *conn)
{
	bool pending = conn->buf_len || (conn->out.busy && conn->out_kind == OUT_GUEST);

	if (conn->state != CONN_OPEN || !pending || conn->sink) {
		conn_kill(conn);
		return;
	}
	conn_unbind(conn);
	conn->state = CONN_DRAIN;
	conn->owed = 0;
	link_del(&conn->ready);
	link_del(&conn->timed);
}

void conn_kill_all(struct vsock *vs)
{
	struct link *next;

	for (struct link *l = vs->all.next; l != &vs->all; l = next) {
		next = l->next;
		conn_kill(container_of(l, struct conn, all));
	}
}

void conn_sink(struct conn *conn)
{
	conn->sink = true;
	conn_drop_buf(conn);
	conn->forwarded = conn->taken;
	conn->shut_want |= VSOCK_SHUT_RCV;
	if (conn->state == CONN_DRAIN)
		conn_kill(conn);
}

/* --- what should be running --------------------------------------------------------------------- */
static void conn_poll(struct conn *conn, enum conn_in kind, short events)
{
	conn->in_kind = kind;
	loop_poll(conn->vs->dev.loop, &conn->in, conn->fd, events);
}

static void conn_recv_line(struct conn *conn)
{
	conn->in_kind = IN_LINE;
	conn->readable = false;
	conn->vs->in_flight++;
	conn->in_iov.iov_base = conn->line + conn->line_len;
	conn->in_iov.iov_len = sizeof(conn->line) - conn->line_len;
	conn->in_msg = (struct msghdr){.msg_iov = &conn->in_iov, .msg_iovlen = 1};
	loop_recvmsg_now(conn->vs->dev.loop, &conn->in, conn->fd, &conn->in_msg);
}

static void conn_advance_in(struct conn *conn)
{
	bool deaf = conn->eof || (conn->guest_shut & VSOCK_SHUT_RCV);

	if (conn->in.busy)
		return;
	if (conn->state == CONN_HELLO && conn->readable)
		conn_recv_line(conn);
	else if (conn->state == CONN_HELLO)
		conn_poll(conn, IN_POLL, POLLIN);
	else if (conn->state == CONN_OPEN && deaf && !conn->hup && link_empty(&conn->timed))
		conn_poll(conn, IN_HUP, 0);
	else if (conn->state == CONN_OPEN && !deaf && !conn->readable && vsock_rx_credit(conn))
		conn_poll(conn, IN_POLL, POLLIN);
}

/* An end of the socket became an end that the guest should hear of. */
static void conn_note_ends(struct conn *conn)
{
	if (conn->state != CONN_OPEN)
		return;
	if (conn->eof)
		conn->shut_want |= VSOCK_SHUT_SEND;
	if (!conn->hup)
		return;
	if (!conn->sink)
		conn_sink(conn);
	conn->shut_want = VSOCK_SHUT_BOTH;
}

static void conn_start(struct conn *conn)
{
	conn_note_ends(conn);
	vsock_tx_advance(conn);
	if (conn->state == CONN_DEAD)
		return;
	conn_advance_in(conn);
	if (!vsock_rx_wanted(conn))
		link_del(&conn->ready);
	else if (link_empty(&conn->ready))
		link_add_tail(&conn->vs->ready, &conn->ready);
}

void conn_advance(struct conn *conn)
{
	bool held = conn->held;

	conn->held = true;
	if (!conn->vs->quiet && conn->state != CONN_DEAD)
		conn_start(conn);
	conn->held = held;
	conn_put(conn);
}

void conn_advance_all(struct vsock *vs)
{
	struct link *next;

	for (struct link *l = vs->all.next; l != &vs->all; l = next) {
		next = l->next;
		conn_advance(container_of(l, struct conn, all));
	}
}

/* --- deadlines ---------------------------------------------------------------------------------- */
static struct conn *conn_first_timed(struct vsock *vs)
{
	return container_of(vs->timed.next, struct conn, timed);
}

static void vsock_arm_timer(struct vsock *vs)
{
	if (!link_empty(&vs->timed) && !vs->timer.op.busy)
		loop_timer(vs->dev.loop, &vs->timer, conn_first_timed(vs)->deadline_ns);
}

void conn_deadline(struct conn *conn)
{
	struct vsock *vs = conn->vs;

	conn->deadline_ns = clock_now() + vs->timeout_ns;
	link_del(&conn->timed);
	link_add_tail(&vs->timed, &conn->timed);
	vsock_arm_timer(vs);
}

/*
 * An open connection is in the list for one of two reasons: the guest owes an RST, or the host has
 * closed one half.  The ring's poll reports a closed half for ever, so it cannot wait for the other:
 * that is asked once a time-out.
 */
static void conn_expired(struct conn *conn)
{
	if (conn->state != CONN_OPEN || conn->shut_sent == VSOCK_SHUT_BOTH) {
		conn_reset(conn);
		return;
	}
	link_del(&conn->timed);
	conn_advance(conn);
}

/* The timer may be early: the deadline it was set for may have been called off. */
void vsock_timer_done(struct loop_op *op, int res)
{
	struct vsock *vs = container_of(op, struct vsock, timer.op);
	uint64_t now = clock_now();

	(void)res;
	if (vs->quiet)
		return; /* unquiesce comes back here */
	while (!link_empty(&vs->timed) && conn_first_timed(vs)->deadline_ns <= now)
		conn_expired(conn_first_timed(vs));
	vsock_arm_timer(vs);
	vsock_rx_pump(vs);
}
