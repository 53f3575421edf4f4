/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h - virtio-vsock in-process: guest ports on one side, unix stream sockets on the other
 *
 *   client -- unix socket --> "CONNECT <port>\n"  --> REQUEST to the guest      (host-initiated)
 *          <-- "OK <host_port>\n", then raw bytes <-- RESPONSE
 *   guest  -- REQUEST to CID 2, port P --> connect("<uds_path>_P")              (guest-initiated)
 *
 * Bytes are never parsed and, in the common case, never copied: what the guest sends goes from its
 * buffers to the socket, what the host sends is read into the guest's buffers.  Credit bounds both ways:
 * the guest may have at most what was advertised in our hands, and a socket is not read while the guest
 * has no credit or no buffer.
 *
 * Limits: VSOCK_CONN_MAX connections, VSOCK_HELLO_MAX clients that have not yet sent their line; credit
 * advertised is VSOCK_CREDIT_LARGE a connection while VSOCK_CREDIT_POOL lasts, VSOCK_CREDIT_SMALL after.
 * System calls outside the ring: socket, connect, shutdown, close, fcntl at creation, write to ready_fd.
 * Source: virtio 1.2, 5.10.
 */
#ifndef SPORE_DEVICES_VSOCK_H
#define SPORE_DEVICES_VSOCK_H

#include <stdint.h>

#include "base/err.h"
#include "devices/dev.h"

#define VSOCK_CONN_MAX     1023
#define VSOCK_HELLO_MAX    64
#define VSOCK_PKT_MAX      65536u       /* payload of one packet to the guest */
#define VSOCK_CREDIT_LARGE (256u << 10) /* bytes */
#define VSOCK_CREDIT_SMALL (16u << 10)  /* bytes */
#define VSOCK_CREDIT_POOL  (32u << 20)  /* bytes advertised in large credits, all connections */
#define VSOCK_TIMEOUT_MS   2000u        /* hello line, answer of the guest, farewell */
#define VSOCK_HOST_PORT    (1u << 30)   /* first port of host-initiated connections; < 1 << 31 */
#define VSOCK_PATH_MAX     96           /* bytes of uds_path: "_4294967295" and NUL still fit */

struct vsock_cfg {
	uint64_t guest_cid; /* 3 .. 2^32 - 2 */
	int listen_fd; /* listening unix stream socket, or -1: no clients; borrowed (duplicated) */
	const char *uds_path; /* copied; NULL: connections of the guest are refused */
	int ready_fd;         /* eventfd, or -1; borrowed (duplicated) */
	uint32_t ready_port;  /* the guest's first REQUEST to it adds 1 to ready_fd; all get RST */
	uint32_t timeout_ms;  /* 0: VSOCK_TIMEOUT_MS */
	void (*ready)(void *ctx); /* io thread, with the signal of ready_fd; or NULL */
	void *ready_ctx;
};

extern const struct dev_ops vsock_ops;

/*
 * vsock_create() - make the device; clients are accepted from the driver's first reset or DRIVER_OK on
 * Return: 0; -EINVAL bad CID; -ENAMETOOLONG uds_path; -EMFILE and others of fcntl(); -ENOMEM.
 */
int vsock_create(struct dev **out, const struct vsock_cfg *cfg, struct errmsg *why);

/*
 * vsock_set_host() - another listening socket, another path: where a loaded guest meets its host
 * Connections that there are stay.
 * @listen_fd: the device's from success on, or -1
 * @uds_path: as in struct vsock_cfg
 * Thread: io.  Return: 0, -ENAMETOOLONG.
 */
int vsock_set_host(struct dev *dev, int listen_fd, const char *uds_path, struct errmsg *why)
	__attribute__((warn_unused_result));

/*
 * vsock_transport_reset() - drop every connection and owe the guest a TRANSPORT_RESET event
 * For a guest that was restored from a snapshot.  Nothing else is sent to the guest until it has taken
 * the event (made a buffer of the event queue available again, or reset the device): Linux does that after
 * it has handled the event, while it acknowledges the interrupt before.
 * A saved device owes the event, or has sent it and waits: who loads it need not call this.  The one that was
 * saved owes nothing.
 * Thread: io.  Source: virtio 1.2, 5.10.6.7.
 */
void vsock_transport_reset(struct dev *dev);

/* io: what the device holds at present. */
struct vsock_usage {
	unsigned conns;    /* connections, clients without a line included */
	uint64_t buffered; /* bytes of the guest that their sockets have not taken yet */
	uint64_t dropped;  /* packets of the guest that made no sense and were not answered */
	uint64_t resets;   /* RST packets owed or sent */
};
void vsock_usage(const struct dev *dev, struct vsock_usage *out);

#endif
