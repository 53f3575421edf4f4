/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets to the guest: RSTs first, then one packet a connection in turn.
 *
 * Data is read from the socket straight into the guest's buffer, behind the place of the header, which
 * is written when the length is known.  A read that yields no data has taken a buffer that cannot be
 * given back out of order: it carries the SHUTDOWN that an end of file owes anyway, or a credit update.
 *
 * Thread: io.
 */
#include <assert.h>
#include <errno.h>

#include "devices/vsock_priv.h"

#define HDR_LEN   ((uint32_t)sizeof(struct vsock_hdr))
#define POP_TRIES 3 /* a driver that adds and takes back cannot hold us */

static struct vq *rxq(struct vsock *vs)
{
	return &vs->dev.queue[VSOCK_RXQ];
}

uint32_t vsock_rx_credit(const struct conn *conn)
{
	uint32_t used = conn->sent - conn->peer_fwd;
	return conn->peer_alloc > used ? conn->peer_alloc - used : 0;
}

static bool rx_shutdown_owed(const struct conn *conn)
{
	return conn->state == CONN_OPEN && (conn->shut_want & ~conn->shut_sent);
}

/* A packet that needs no payload is due. */
static bool rx_control_owed(const struct conn *conn)
{
	return conn->owed || rx_shutdown_owed(conn);
}

static bool rx_has_data(const struct conn *conn)
{
	bool early = conn->early_at < conn->line_len;

	return conn->state == CONN_OPEN && !conn->in.busy && (conn->readable || early) &&
	       !conn->eof && !(conn->guest_shut & VSOCK_SHUT_RCV);
}

bool vsock_rx_wanted(const struct conn *conn)
{
	if (conn->state != CONN_OPEN && conn->state != CONN_REQUESTED)
		return false;
	if (rx_control_owed(conn))
		return true;
	return rx_has_data(conn) && (vsock_rx_credit(conn) || !conn->starved);
}

/* 1 a buffer with room for a header; 0 none now; -EPROTO broken. */
static int rx_pop(struct vsock *vs, struct vq_req *req)
{
	for (unsigned i = 0; i < POP_TRIES; i++) {
		int got = vq_pop(rxq(vs), req);
		if (got < 0) {
			vsock_fault(vs, "vsock rx queue: malformed ring or descriptor chain");
			return got;
		}
		if (got && req->writable_bytes >= HDR_LEN) {
			if (vs->rx_starved)
				vq_want_kicks(rxq(vs), false);
			vs->rx_starved = false;
			return 1;
		}
		if (got) {
			vs->dropped++; /* useless: back to the driver as it came */
			vq_push(rxq(vs), req, 0);
			continue;
		}
		vs->rx_starved = true;
		if (!vq_want_kicks(rxq(vs), true))
			return 0;
	}
	vsock_again(vs);
	return 0;
}

static void rx_push(struct vsock *vs, const struct vq_req *req, const struct vsock_hdr *hdr)
{
	vq_write(rxq(vs), req, 0, hdr, HDR_LEN);
	if (vq_push(rxq(vs), req, HDR_LEN + hdr->len) == -EFAULT)
		vsock_fault(vs, "vsock rx queue: used ring outside memory");
}

/* --- headers ------------------------------------------------------------------------------------ */
static struct vsock_hdr rx_hdr(struct conn *conn, enum vsock_op op, uint32_t len)
{
	conn->owed &= ~OWE_CREDIT; /* every header carries it */
	conn->told = conn->forwarded;
	return (struct vsock_hdr){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = conn->vs->guest_cid,
		.src_port = conn->host_port,
		.dst_port = conn->guest_port,
		.len = len,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = conn->alloc,
		.fwd_cnt = conn->forwarded,
	};
}

static struct vsock_hdr rx_rst_hdr(const struct vsock *vs, const struct vsock_rst *rst)
{
	return (struct vsock_hdr){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = vs->guest_cid,
		.src_port = rst->host_port,
		.dst_port = rst->guest_port,
		.type = rst->type,
		.op = VSOCK_OP_RST,
	};
}

static struct vsock_hdr rx_shutdown_hdr(struct conn *conn)
{
	struct vsock_hdr hdr = rx_hdr(conn, VSOCK_OP_SHUTDOWN, 0);

	hdr.flags = conn->shut_want;
	conn->shut_sent = conn->shut_want;
	if (conn->shut_sent == VSOCK_SHUT_BOTH)
		conn_deadline(conn); /* the guest has to say RST by then */
	return hdr;
}

/* The packet without payload that is due first; a credit update is always true. */
static struct vsock_hdr rx_control_hdr(struct conn *conn)
{
	static const struct {
		uint32_t owe;
		enum vsock_op op;
	} row[] = {
		{OWE_REQUEST, VSOCK_OP_REQUEST},
		{OWE_RESPONSE, VSOCK_OP_RESPONSE},
		{OWE_CREDIT_REQ, VSOCK_OP_CREDIT_REQUEST},
	};

	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		if (conn->owed & row[i].owe) {
			conn->owed &= ~row[i].owe;
			return rx_hdr(conn, row[i].op, 0);
		}
	}
	if (rx_shutdown_owed(conn))
		return rx_shutdown_hdr(conn);
	return rx_hdr(conn, VSOCK_OP_CREDIT_UPDATE, 0);
}

/* --- data --------------------------------------------------------------------------------------- */
/* What came behind the line of the client: a few bytes, copied. */
static void rx_early(struct conn *conn, const struct vq_req *req, uint32_t room)
{
	uint32_t len = (uint32_t)(conn->line_len - conn->early_at);

	if (len > room)
		len = room;
	vq_write(rxq(conn->vs), req, HDR_LEN, conn->line + conn->early_at, len);
	conn->early_at = (uint8_t)(conn->early_at + len);
	conn->sent += len;
	struct vsock_hdr hdr = rx_hdr(conn, VSOCK_OP_RW, len);
	rx_push(conn->vs, req, &hdr);
}

/* Takes over `x`, whose request was popped. */
static void rx_read(struct conn *conn, struct vsock_xfer *x, uint32_t room)
{
	struct vsock *vs = conn->vs;
	int count = vq_iov_writable(rxq(vs), &x->req, HDR_LEN, room, x->iov, VQ_SEG_MAX);

	assert(count > 0); /* vq_pop() checked every segment */
	x->len = room;
	conn->rx = x;
	conn->in_kind = IN_READ;
	conn->readable = false;
	vs->in_flight++;
	x->msg = (struct msghdr){.msg_iov = x->iov, .msg_iovlen = (size_t)count};
	loop_recvmsg_now(vs->dev.loop, &conn->in, conn->fd, &x->msg);
}

/* One packet of data.  False when there is nothing to put it into. */
static bool rx_data(struct conn *conn)
{
	struct vsock *vs = conn->vs;
	struct vsock_xfer *x = vsock_xfer_get(vs);

	if (!x)
		return false;
	if (rx_pop(vs, &x->req) <= 0) {
		vsock_xfer_put(vs, x);
		return false;
	}
	uint64_t room = x->req.writable_bytes - HDR_LEN;
	if (room > VSOCK_PKT_MAX)
		room = VSOCK_PKT_MAX;
	if (room > vsock_rx_credit(conn))
		room = vsock_rx_credit(conn);
	if (room && conn->early_at == conn->line_len) {
		rx_read(conn, x, (uint32_t)room);
		return true;
	}
	if (room) {
		rx_early(conn, &x->req, (uint32_t)room);
	} else {
		vs->dropped++; /* a buffer of a header's size */
		vq_push(rxq(vs), &x->req, 0);
	}
	vsock_xfer_put(vs, x);
	return true;
}

void vsock_rx_done(struct conn *conn, int res)
{
	struct vsock *vs = conn->vs;
	struct vsock_xfer *x = steal_ptr(&conn->rx);
	struct vsock_rst rst = {conn->guest_port, conn->host_port, VSOCK_TYPE_STREAM};
	struct vsock_hdr hdr;

	vs->in_flight--;
	if (res > 0) {
		vq_mark_written(rxq(vs), &x->req, HDR_LEN, (uint64_t)res);
		conn->sent += (uint32_t)res;
		conn->readable = (uint32_t)res == x->len;
	} else if (res != -EAGAIN && res != -EINTR && conn->state == CONN_OPEN) {
		conn->eof = true; /* also when the client closed on unread bytes: ECONNRESET */
		conn->shut_want |= VSOCK_SHUT_SEND;
	}
	if (conn->state != CONN_OPEN)
		hdr = rx_rst_hdr(vs, &rst);
	else
		hdr = res > 0 ? rx_hdr(conn, VSOCK_OP_RW, (uint32_t)res) : rx_control_hdr(conn);
	rx_push(vs, &x->req, &hdr);
	vsock_xfer_put(vs, x);
	dev_signal(&vs->dev, VSOCK_RXQ);
}

/* --- one after the other ------------------------------------------------------------------------ */
void vsock_rst(struct vsock *vs, uint32_t guest_port, uint32_t host_port, uint16_t type)
{
	assert(vs->rst_count < VSOCK_RST_MAX);
	unsigned at = (vs->rst_at + vs->rst_count++) % VSOCK_RST_MAX;
	vs->rst[at] = (struct vsock_rst){guest_port, host_port, type};
	vs->resets++;
}

static bool rx_one_rst(struct vsock *vs)
{
	struct vq_req req;

	if (rx_pop(vs, &req) <= 0)
		return false;
	struct vsock_hdr hdr = rx_rst_hdr(vs, &vs->rst[vs->rst_at]);
	vs->rst_at = (vs->rst_at + 1) % VSOCK_RST_MAX;
	vs->rst_count--;
	rx_push(vs, &req, &hdr);
	return true;
}

static bool rx_one_control(struct conn *conn)
{
	struct vq_req req;

	if (rx_pop(conn->vs, &req) <= 0)
		return false;
	struct vsock_hdr hdr = rx_control_hdr(conn);
	rx_push(conn->vs, &req, &hdr);
	return true;
}

static bool rx_one(struct vsock *vs)
{
	if (vs->rst_count)
		return rx_one_rst(vs);
	if (link_empty(&vs->ready))
		return false;
	struct conn *conn = container_of(vs->ready.next, struct conn, ready);
	if (!rx_control_owed(conn) && !vsock_rx_credit(conn)) {
		conn->starved = true; /* asked once for each want of credit */
		conn->owed |= OWE_CREDIT_REQ;
	}
	bool sent = rx_control_owed(conn) ? rx_one_control(conn) : rx_data(conn);
	if (sent) {
		link_del(&conn->ready); /* to the end, if it has more */
		conn_advance(conn);
	}
	return sent;
}

void vsock_rx_pump(struct vsock *vs)
{
	unsigned count = 0;

	while (vsock_live(vs) && !vs->event_owed && !vs->event_gate && rx_one(vs)) {
		if (++count == VSOCK_RX_BUDGET) {
			vsock_again(vs);
			break;
		}
	}
	if (!count)
		return;
	dev_signal(&vs->dev, VSOCK_RXQ);
	if (vs->tx_stalled)
		vsock_again(vs); /* RSTs may have been what it waited for */
}
