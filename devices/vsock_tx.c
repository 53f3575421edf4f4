/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets from the guest.
 *
 * A header is copied once, checked, used.  Payload goes from the guest's buffers to the socket in one
 * request of the loop; what the socket does not take at once is copied into the connection's ring, whose
 * size is the credit we advertised: the guest cannot make us hold more, and who sends more is reset.
 *
 * Packets wait in the guest's ring (the last one is put back) for three things only, each of a turn's
 * length or up to the guest itself: an earlier packet of the connection still in flight, no free
 * transfer, and too many RSTs that the guest does not take (virtio 1.2, 5.10.6.2).
 *
 * Thread: io.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vsock_priv.h"

#define HDR_LEN ((uint32_t)sizeof(struct vsock_hdr))

/* What became of a packet. */
enum verdict {
	TX_DONE,  /* its buffers go back to the guest */
	TX_SENT,  /* they are in flight */
	TX_LATER, /* it has to wait its turn */
};

static struct vq *txq(struct vsock *vs)
{
	return &vs->dev.queue[VSOCK_TXQ];
}

static void tx_push(struct vsock *vs, const struct vq_req *req)
{
	if (vq_push(txq(vs), req, 0) == -EFAULT)
		vsock_fault(vs, "vsock tx queue: used ring outside memory");
}

/* --- payload ------------------------------------------------------------------------------------ */
/* Bytes went to the socket (or nowhere): the guest may send as many more, and hears of it in time. */
static void tx_forwarded(struct conn *conn, uint32_t len)
{
	conn->forwarded += len;
	if (conn->forwarded - conn->told >= conn->alloc / 4 && conn->state == CONN_OPEN)
		conn->owed |= OWE_CREDIT;
}

/* Copies bytes [off, off + len) of the payload into the connection's ring.  False: no memory. */
static bool tx_keep(struct conn *conn, const struct vq_req *req, uint32_t off, uint32_t len)
{
	struct vsock *vs = conn->vs;

	if (!conn->buf)
		conn->buf = malloc(conn->alloc);
	if (!conn->buf)
		return false;
	assert(len <= conn->alloc - conn->buf_len); /* the credit check */
	conn->writable = false;
	while (len) {
		uint32_t at = (conn->buf_at + conn->buf_len) % conn->alloc;
		uint32_t part = conn->alloc - at < len ? conn->alloc - at : len;
		size_t got = vq_read(txq(vs), req, (uint64_t)HDR_LEN + off, conn->buf + at, part);
		assert(got == part); /* the packet's length was checked against its chain */
		conn->buf_len += part;
		vs->buffered += part;
		off += part;
		len -= part;
	}
	return true;
}

static void tx_send(struct conn *conn, struct vsock_xfer *x, uint32_t len)
{
	struct vsock *vs = conn->vs;
	int count = vq_iov_readable(txq(vs), &x->req, HDR_LEN, len, x->iov, VQ_SEG_MAX);

	assert(count > 0);
	x->len = len;
	x->msg = (struct msghdr){.msg_iov = x->iov, .msg_iovlen = (size_t)count};
	conn->tx = x;
	conn->out_kind = OUT_GUEST;
	vs->in_flight++;
	loop_sendmsg_now(vs->dev.loop, &conn->out, conn->fd, &x->msg);
}

static bool send_failed(int res)
{
	return res < 0 && res != -EAGAIN && res != -EINTR;
}

/* The guest's buffers come back: what the socket left of them is kept. */
static void tx_guest_done(struct conn *conn, int res)
{
	struct vsock *vs = conn->vs;
	struct vsock_xfer *x = steal_ptr(&conn->tx);
	uint32_t sent = res > 0 ? (uint32_t)res : 0;
	bool stale = x->req.generation != txq(vs)->generation;

	vs->in_flight--;
	if (conn->state != CONN_DEAD && !conn->sink) {
		tx_forwarded(conn, sent);
		if (send_failed(res))
			conn_sink(conn);
		else if (sent < x->len && (stale || !tx_keep(conn, &x->req, sent, x->len - sent)))
			conn_reset(conn);
	}
	tx_push(vs, &x->req);
	vsock_xfer_put(vs, x);
	dev_signal(&vs->dev, VSOCK_TXQ);
}

static void tx_buf_done(struct conn *conn, int res)
{
	uint32_t sent = res > 0 ? (uint32_t)res : 0;

	conn->vs->in_flight--;
	if (conn->state == CONN_DEAD || conn->sink)
		return;
	if (send_failed(res)) {
		conn_sink(conn);
		return;
	}
	conn->buf_at = (conn->buf_at + sent) % conn->alloc;
	conn->buf_len -= sent;
	conn->vs->buffered -= sent;
	conn->writable = sent > 0;
	tx_forwarded(conn, sent);
}

void vsock_tx_done(struct conn *conn, int res)
{
	switch (conn->out_kind) {
	case OUT_GUEST: tx_guest_done(conn, res); break;
	case OUT_BUF: tx_buf_done(conn, res); break;
	case OUT_POLL: conn->writable = true; break;
	case OUT_OK:
		if (res != (int)strlen(conn->ok))
			conn_reset(conn);
		break;
	}
}

/* The ring is empty: its memory goes, and so does the writing half, if the guest is done with it. */
static void tx_drained(struct conn *conn)
{
	free(conn->buf);
	conn->buf = NULL;
	if (conn->state == CONN_DRAIN) {
		conn_kill(conn);
	} else if ((conn->guest_shut & VSOCK_SHUT_SEND) && !conn->write_shut) {
		conn->write_shut = true;
		shutdown(conn->fd, SHUT_WR);
	}
}

void vsock_tx_advance(struct conn *conn)
{
	struct loop *loop = conn->vs->dev.loop;

	if (conn->out.busy || (conn->state != CONN_OPEN && conn->state != CONN_DRAIN))
		return;
	if (!conn->buf_len) {
		tx_drained(conn);
		return;
	}
	if (!conn->writable) {
		conn->out_kind = OUT_POLL;
		loop_poll(loop, &conn->out, conn->fd, POLLOUT);
		return;
	}
	uint32_t part = conn->alloc - conn->buf_at;
	conn->out_iov.iov_base = conn->buf + conn->buf_at;
	conn->out_iov.iov_len = part < conn->buf_len ? part : conn->buf_len;
	conn->out_msg = (struct msghdr){.msg_iov = &conn->out_iov, .msg_iovlen = 1};
	conn->out_kind = OUT_BUF;
	conn->vs->in_flight++;
	loop_sendmsg_now(loop, &conn->out, conn->fd, &conn->out_msg);
}

/* --- packets ------------------------------------------------------------------------------------ */
static enum verdict tx_rw(struct conn *conn, struct vsock_xfer *x, const struct vsock_hdr *hdr)
{
	uint32_t held = conn->taken - conn->forwarded;

	if (conn->out.busy && (conn->out_kind == OUT_GUEST || conn->out_kind == OUT_OK))
		return TX_LATER;
	/* Not open, longer than its chain, after its own SHUTDOWN, or beyond its credit. */
	if (conn->state != CONN_OPEN || hdr->len > x->req.readable_bytes - HDR_LEN ||
	    (conn->guest_shut & VSOCK_SHUT_SEND) || hdr->len > conn->alloc - held) {
		conn_reset(conn);
		return TX_DONE;
	}
	conn->taken += hdr->len;
	if (conn->sink) {
		tx_forwarded(conn, hdr->len);
	} else if (conn->buf_len || (conn->out.busy && hdr->len)) {
		if (!tx_keep(conn, &x->req, 0, hdr->len))
			conn_reset(conn);
	} else if (hdr->len) {
		tx_send(conn, x, hdr->len);
		return TX_SENT;
	}
	return TX_DONE;
}

static void tx_response(struct conn *conn)
{
	if (conn->state != CONN_REQUESTED || (conn->owed & OWE_REQUEST)) {
		conn_reset(conn);
		return;
	}
	conn->state = CONN_OPEN;
	link_del(&conn->timed);
	conn_greet(conn);
}

static void tx_shutdown(struct conn *conn, uint32_t flags)
{
	struct vsock *vs = conn->vs;
	uint32_t both = conn->guest_shut | (flags & VSOCK_SHUT_BOTH);

	if (conn->state != CONN_OPEN) {
		conn_reset(conn);
		return;
	}
	if ((both & VSOCK_SHUT_RCV) && !(conn->guest_shut & VSOCK_SHUT_RCV))
		shutdown(conn->fd, SHUT_RD);
	conn->guest_shut = both;
	if (both == VSOCK_SHUT_BOTH) { /* 5.10.6.6: RST is the answer to a finished farewell */
		vsock_rst(vs, conn->guest_port, conn->host_port, VSOCK_TYPE_STREAM);
		conn_finish(conn);
	}
}

static void tx_request(struct vsock *vs, const struct vsock_hdr *hdr)
{
	uint64_t one = 1;

	if (vs->ready_fd >= 0 && hdr->dst_port == vs->ready_port) {
		if (!vs->rung && vs->on_ready)
			vs->on_ready(vs->on_ready_ctx);
		if (!vs->rung)
			vs->rung = write(vs->ready_fd, &one, sizeof(one)) == sizeof(one);
		vsock_rst(vs, hdr->src_port, hdr->dst_port, VSOCK_TYPE_STREAM);
		return;
	}
	cleanup_close int fd = -1;
	if (vs->conns < VSOCK_CONN_MAX)
		fd = vsock_connect(vs, hdr->dst_port);
	struct conn *conn = fd >= 0 ? conn_create(vs, fd, CONN_OPEN) : NULL;
	if (!conn) {
		vsock_rst(vs, hdr->src_port, hdr->dst_port, VSOCK_TYPE_STREAM);
		return;
	}
	steal_fd(&fd);
	conn_bind(conn, hdr->src_port, hdr->dst_port);
	conn->peer_alloc = hdr->buf_alloc;
	conn->peer_fwd = hdr->fwd_cnt;
	conn->owed = OWE_RESPONSE;
	conn_advance(conn);
}

/* A packet that belongs to no connection. */
static void tx_stray(struct vsock *vs, const struct vsock_hdr *hdr)
{
	if (hdr->op == VSOCK_OP_REQUEST)
		tx_request(vs, hdr);
	else if (hdr->op != VSOCK_OP_RST)
		vsock_rst(vs, hdr->src_port, hdr->dst_port, VSOCK_TYPE_STREAM);
}

static void tx_credit(struct conn *conn, const struct vsock_hdr *hdr)
{
	conn->peer_alloc = hdr->buf_alloc;
	conn->peer_fwd = hdr->fwd_cnt;
	if (vsock_rx_credit(conn))
		conn->starved = false;
}

static enum verdict tx_dispatch(struct conn *conn, struct vsock_xfer *x,
				const struct vsock_hdr *hdr)
{
	tx_credit(conn, hdr);
	switch (hdr->op) {
	case VSOCK_OP_RW: return tx_rw(conn, x, hdr);
	case VSOCK_OP_RESPONSE: tx_response(conn); break;
	case VSOCK_OP_SHUTDOWN: tx_shutdown(conn, hdr->flags); break;
	case VSOCK_OP_RST: conn_finish(conn); break;
	case VSOCK_OP_CREDIT_UPDATE: break;
	case VSOCK_OP_CREDIT_REQUEST: conn->owed |= OWE_CREDIT; break;
	default: conn_reset(conn); break; /* a second REQUEST, or an unknown operation */
	}
	return TX_DONE;
}

static enum verdict tx_packet(struct vsock *vs, struct vsock_xfer *x)
{
	struct vsock_hdr hdr;

	if (vq_read(txq(vs), &x->req, 0, &hdr, HDR_LEN) < HDR_LEN || hdr.src_cid != vs->guest_cid ||
	    hdr.dst_cid != VSOCK_CID_HOST) {
		vs->dropped++;
		return TX_DONE;
	}
	if (hdr.type != VSOCK_TYPE_STREAM) {
		if (hdr.op != VSOCK_OP_RST)
			vsock_rst(vs, hdr.src_port, hdr.dst_port, hdr.type);
		return TX_DONE;
	}
	struct conn *conn = conn_find(vs, hdr.src_port, hdr.dst_port);
	if (!conn) {
		tx_stray(vs, &hdr);
		return TX_DONE;
	}
	conn->held = true;
	enum verdict verdict = tx_dispatch(conn, x, &hdr);
	conn->held = false;
	conn_advance(conn);
	return verdict;
}

/* --- the queue ---------------------------------------------------------------------------------- */
/* The next packet into `x`: 1, 0 none now, -EPROTO. */
static int tx_pop(struct vsock *vs, struct vsock_xfer *x)
{
	int got = vq_pop(txq(vs), &x->req);

	if (!got && vq_want_kicks(txq(vs), true))
		got = vq_pop(txq(vs), &x->req);
	if (got < 0)
		vsock_fault(vs, "vsock tx queue: malformed ring or descriptor chain");
	return got;
}

/* Takes one packet.  False when there is none, or it has to wait. */
static bool tx_one(struct vsock *vs)
{
	struct vsock_xfer *x = NULL;

	if (vs->rst_count < VSOCK_RST_HIGH)
		x = vsock_xfer_get(vs);
	vs->tx_stalled = !x;
	if (!x)
		return false;
	enum verdict verdict = TX_LATER;
	bool got = tx_pop(vs, x) > 0;
	if (got)
		verdict = tx_packet(vs, x);
	if (got && verdict == TX_LATER) {
		vq_unpop(txq(vs), &x->req);
		vs->tx_stalled = true;
	}
	if (verdict == TX_DONE)
		tx_push(vs, &x->req);
	if (verdict != TX_SENT)
		vsock_xfer_put(vs, x);
	return verdict != TX_LATER;
}

void vsock_tx_run(struct vsock *vs)
{
	unsigned count = 0;

	if (!vsock_live(vs))
		return;
	vq_want_kicks(txq(vs), false);
	while (vsock_live(vs) && tx_one(vs)) {
		if (++count == VSOCK_TX_BUDGET) {
			vs->tx_stalled = true;
			vsock_again(vs);
			break;
		}
	}
	if (count)
		dev_signal(&vs->dev, VSOCK_TXQ);
}
