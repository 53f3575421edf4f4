/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_priv.h - what the parts of virtio-vsock share: connections, transfers, the way between them
 *
 *   vsock.c       create, driver's session, events, pause
 *   vsock_tx.c    packets from the guest
 *   vsock_rx.c    packets to the guest
 *   vsock_conn.c  the table of connections, their sockets and deadlines
 *   vsock_host.c  clients with a CONNECT line, connect() for the guest
 *
 * A connection has one input request and one output request on the loop at most.  Whatever happens to
 * it, conn_advance() looks at its state and starts what should be running; vsock_rx_pump() sends what
 * is owed to the guest, one packet a connection in turn.  Input and output never wait in the ring
 * (loop_recvmsg_now(), loop_sendmsg_now(); polls do the waiting), so a request that carries guest buffers
 * completes in the turn that submits it: a slow peer never holds a token.
 *
 * Thread: io.
 */
#ifndef SPORE_DEVICES_VSOCK_PRIV_H
#define SPORE_DEVICES_VSOCK_PRIV_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "devices/vsock.h"
#include "wire/vsock.h"

#define VSOCK_RXQ        0u
#define VSOCK_TXQ        1u
#define VSOCK_EVQ        2u
#define VSOCK_QUEUE_SIZE 256
#define VSOCK_HASH_SIZE  256  /* a power of two */
#define VSOCK_RST_MAX    2048 /* RSTs that wait for a buffer of the guest */
#define VSOCK_RST_HIGH \
	(VSOCK_RST_MAX - VSOCK_CONN_MAX - 1) /* above it TX waits: see vsock_tx_run() */
#define VSOCK_XFER_MAX  64                   /* transfers in flight: each is one loop turn long */
#define VSOCK_XFER_KEEP 4                    /* idle ones kept for the next */
#define VSOCK_TX_BUDGET 256                  /* packets of the guest a turn */
#define VSOCK_RX_BUDGET 256                  /* packets to the guest a turn */
#define VSOCK_LINE_MIN  10                   /* bytes of "CONNECT <port>\n" */
#define VSOCK_LINE_MAX  32

/* A doubly linked ring with a head of the same type; an element outside any list points to itself. */
struct link {
	struct link *prev, *next;
};

static inline void link_init(struct link *l)
{
	l->prev = l->next = l;
}

static inline bool link_empty(const struct link *l)
{
	return l->next == l;
}

static inline void link_del(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

static inline void link_add_tail(struct link *head, struct link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

/* Guest buffers on their way through one request of the loop. */
struct vsock_xfer {
	struct vsock_xfer *next;
	uint32_t len; /* payload bytes in iov */
	struct msghdr msg;
	struct vq_req req;
	struct iovec iov[VQ_SEG_MAX];
};

enum conn_state {
	CONN_HELLO,     /* a client that has not finished its line; no ports yet */
	CONN_REQUESTED, /* REQUEST owed or sent, RESPONSE awaited */
	CONN_OPEN,
	CONN_DRAIN, /* the guest is done with it; its last bytes go to the socket; not in the table */
	CONN_DEAD, /* waits for its requests to complete, then goes */
};

/* What the request in flight is. */
enum conn_in { IN_POLL, IN_HUP, IN_LINE, IN_READ };
enum conn_out { OUT_POLL, OUT_BUF, OUT_GUEST, OUT_OK };

/* Packets owed to the guest; SHUTDOWN follows from the flags shut_want and shut_sent. */
#define OWE_REQUEST    1u
#define OWE_RESPONSE   2u
#define OWE_CREDIT     4u
#define OWE_CREDIT_REQ 8u

struct conn {
	struct vsock *vs;
	struct link all, ready, timed;
	struct conn *hash_next;
	uint64_t deadline_ns; /* while in the list of deadlines */
	uint32_t guest_port, host_port;
	int fd; /* -1 once dead */
	enum conn_state state;
	bool held; /* a callback is at work on it: not to be freed */

	/* Host to guest. */
	struct loop_op in;
	enum conn_in in_kind;
	struct msghdr in_msg; /* of a line */
	struct iovec in_iov;
	bool readable; /* the socket is believed to have bytes */
	bool eof;      /* it has delivered its last */
	bool hup;      /* its peer neither sends nor receives any more */
	bool starved;  /* CREDIT_REQUEST was sent for this want of credit */
	uint32_t owed;
	uint32_t shut_want, shut_sent;       /* VSOCK_SHUT_* of ours */
	uint32_t peer_alloc, peer_fwd, sent; /* the guest's credit; bytes sent to it (mod 2^32) */
	struct vsock_xfer *rx;
	uint8_t line_len, early_at; /* line[early_at, line_len) came behind the LF */
	char line[VSOCK_LINE_MAX];

	/* Guest to host. */
	struct loop_op out;
	enum conn_out out_kind;
	struct msghdr out_msg; /* of the ring */
	struct iovec out_iov;
	bool writable;                   /* the last poll said so */
	bool sink;                       /* the socket takes no more: bytes are dropped */
	bool write_shut;                 /* shutdown(SHUT_WR) is done */
	uint32_t guest_shut;             /* VSOCK_SHUT_* of the guest */
	uint32_t alloc;                  /* credit advertised, bytes */
	uint32_t taken, forwarded, told; /* bytes received, passed on, last advertised (mod 2^32) */
	struct vsock_xfer *tx;
	uint8_t *buf; /* ring of `alloc` bytes, or NULL while empty */
	uint32_t buf_at, buf_len;
	char ok[16];
};

struct vsock_rst {
	uint32_t guest_port, host_port;
	uint16_t type;
};

struct vsock {
	struct dev dev;
	uint64_t guest_cid;          /* const */
	int ready_fd;                /* const */
	uint32_t ready_port;         /* const */
	void (*on_ready)(void *ctx); /* const; or NULL */
	void *on_ready_ctx;          /* const */
	uint64_t timeout_ns;         /* const */

	/* All below: io. */
	int listen_fd;                 /* or -1 */
	char uds_path[VSOCK_PATH_MAX]; /* "" = none */
	struct loop_op accept;
	bool accept_polled; /* the request in flight is the poll before an accept */
	bool rung;          /* ready_fd was signalled */
	bool quiet;         /* between quiesce and unquiesce */
	bool tx_stalled;    /* packets of the guest wait for something of ours */
	bool rx_starved;    /* the RX queue was empty: kicks are wanted */
	bool event_owed;    /* TRANSPORT_RESET waits for a buffer */
	bool event_gate;    /* ... was sent, and nothing else is until the guest has taken it */
	uint16_t gate_idx;  /* avail index of the event queue when it was sent */
	uint32_t next_port;
	unsigned conns, hellos, in_flight;
	uint64_t advertised; /* bytes of large credits */
	uint64_t buffered, dropped, resets;
	struct link all, ready,
		timed; /* conns; ready: round robin; timed: earliest deadline first */
	struct loop_timer timer, again, retry;
	struct vsock_xfer *xfers; /* idle */
	unsigned xfers_idle, xfers_busy;
	struct conn *hash[VSOCK_HASH_SIZE];
	unsigned rst_at, rst_count;
	struct vsock_rst rst[VSOCK_RST_MAX];
};

static inline struct vsock *vsock_of(struct dev *dev)
{
	return container_of(dev, struct vsock, dev);
}

static inline const struct vsock *vsock_of_const(const struct dev *dev)
{
	return (const void *)((const char *)dev - offsetof(struct vsock, dev));
}

/* True while packets may be exchanged with the guest. */
static inline bool vsock_live(const struct vsock *vs)
{
	return vs->dev.active && !vs->quiet;
}

/* --- vsock.c */
/* The guest broke a ring: the device breaks now, its connections go in a turn of their own. */
void vsock_fault(struct vsock *vs, const char *why);
/* What waited may go on: a completion freed a transfer or a connection's output. */
void vsock_resume(struct vsock *vs);
/* Another turn soon: work was left for the sake of others. */
void vsock_again(struct vsock *vs);
/* A transfer, or NULL when all are in flight: one that completes resumes what waits. */
struct vsock_xfer *vsock_xfer_get(struct vsock *vs);
void vsock_xfer_put(struct vsock *vs, struct vsock_xfer *x);

/* --- vsock_tx.c */
/* Takes packets from the guest. */
void vsock_tx_run(struct vsock *vs);
/* The output request of `conn` completed. */
void vsock_tx_done(struct conn *conn, int res);
/* Starts or continues output from the connection's own buffer. */
void vsock_tx_advance(struct conn *conn);

/* --- vsock_rx.c */
/* Sends the guest what is owed to it, while it has buffers; then resumes TX if that waited. */
void vsock_rx_pump(struct vsock *vs);
void vsock_rx_done(struct conn *conn, int res);
/* There is something to send for this connection, and the guest's credit allows it. */
bool vsock_rx_wanted(const struct conn *conn);
/* Bytes that the guest is ready to take. */
uint32_t vsock_rx_credit(const struct conn *conn);
/* An RST for a pair of ports. */
void vsock_rst(struct vsock *vs, uint32_t guest_port, uint32_t host_port, uint16_t type);

/* --- vsock_conn.c */
/* A connection on socket `fd`, or NULL (limit, memory): fd is then still the caller's. */
struct conn *conn_create(struct vsock *vs, int fd, enum conn_state state);
void conn_bind(struct conn *conn, uint32_t guest_port, uint32_t host_port); /* into the table */
struct conn *conn_find(const struct vsock *vs, uint32_t guest_port, uint32_t host_port);
void conn_deadline(struct conn *conn); /* its time is up one time-out from now */
/* Ends it at once, the guest is told or not.  The memory goes when nothing is in flight. */
void conn_kill(struct conn *conn);
void conn_reset(struct conn *conn);
/* The guest is done with it: its last bytes are still delivered, then the socket is closed. */
void conn_finish(struct conn *conn);
void conn_kill_all(struct vsock *vs);
/* Starts what this state asks for.  The connection may be gone afterwards, unless it is held. */
void conn_advance(struct conn *conn);
void conn_advance_all(struct vsock *vs);
/* Drops what the socket will never take, and gives the guest its credit back. */
void conn_sink(struct conn *conn);
void vsock_timer_done(struct loop_op *op, int res);

/* --- vsock_host.c */
void vsock_accept_next(struct vsock *vs);
void vsock_accept_done(struct loop_op *op, int res);
void vsock_retry_done(struct loop_op *op, int res);
/* The client's line arrived in part or whole. */
void conn_line_done(struct conn *conn, int res);
/* The guest accepted: tells the client. */
void conn_greet(struct conn *conn);
/* A socket connected to the listener of `port`, or -errno. */
int vsock_connect(const struct vsock *vs, uint32_t port);

#endif
