/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - what stands behind virtio-net: a file descriptor that takes and gives Ethernet frames
 *
 * A backend never waits: it says -EAGAIN, and its owner polls `fd`.  So nothing is ever in flight, and there
 * is nothing to drain.
 *
 *     vnet.c                the device
 *     net_fault.c           filter: loss for tests
 *     net_egress.c          what a guest may reach
 *     net_stream.c          passt's socket: length and frame
 *     net_tap.c             a tap, with offloads
 *
 * Thread: io, except create and destroy (ctl).
 */
#ifndef SPORE_DEVICES_NET_H
#define SPORE_DEVICES_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

#define NET_FRAME_MAX \
	65550u /* bytes: 65536 and an Ethernet header, what a segment of TSO can have */
#define NET_FRAME_MIN 14u
#define NET_IOV_MAX   128u
#define NET_MAC_LEN   6u

/* struct virtio_net_hdr_v1, virtio 1.2, 5.1.6; little-endian. */
struct net_hdr {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct net_hdr) == 12, "virtio 1.2, 5.1.6");

/* A frame on its way out. */
struct net_tx {
	struct net_hdr hdr;
	uint32_t len;   /* of the frame, NET_FRAME_MIN..NET_FRAME_MAX */
	unsigned count; /* of the frame's vectors */
	struct iovec
		*iov; /* iov[-1] is the backend's to use; they lie in guest memory, which changes */
};

/* A frame that has come in: the backend's, until net_take(). */
struct net_rx {
	struct net_hdr hdr;
	const uint8_t *frame;
	uint32_t len; /* at most NET_FRAME_MAX */
};

struct net_backend;

struct net_ops {
	const char *name; /* stable: log field */
	/* Tells which of `features` the driver has taken.  0 or -errno. */
	int (*set_offload)(struct net_backend *net, uint64_t taken);
	/* 0: gone, or dropped; -EAGAIN: nothing was done, poll fd for writing; else the backend is dead. */
	int (*send)(struct net_backend *net, const struct net_tx *tx);
	/* What of earlier frames is still here goes on.  0: nothing is; else as send().  NULL: never anything. */
	int (*flush)(struct net_backend *net);
	/* 1: *rx is the oldest frame; 0: none, poll fd for reading; -errno: the backend is dead. */
	int (*peek)(struct net_backend *net, struct net_rx *rx);
	/* The frame that peek() gave is done with. */
	void (*take)(struct net_backend *net);
	void (*destroy)(struct net_backend *net);
};

/* The common part, embedded in every backend. */
struct net_backend {
	/* const after create */
	const struct net_ops *ops;
	int fd;            /* owned; non-blocking */
	uint64_t features; /* of virtio-net, 5.1.3: the offloads it can do */
};

static inline int net_send(struct net_backend *net, const struct net_tx *tx)
{
	return net->ops->send(net, tx);
}

static inline int net_flush(struct net_backend *net)
{
	return net->ops->flush ? net->ops->flush(net) : 0;
}

static inline int net_peek(struct net_backend *net, struct net_rx *rx)
{
	return net->ops->peek(net, rx);
}

static inline void net_take(struct net_backend *net)
{
	net->ops->take(net);
}

/* NULL is fine. */
static inline void net_destroy(struct net_backend *net)
{
	if (net)
		net->ops->destroy(net);
}

/* Feature bits, 5.1.3. */
#define NET_F_CSUM       (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_F_MTU        (UINT64_C(1) << 3)
#define NET_F_MAC        (UINT64_C(1) << 5)
#define NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_F_HOST_TSO4  (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6  (UINT64_C(1) << 12)
#define NET_F_MRG_RXBUF  (UINT64_C(1) << 15)
#define NET_F_STATUS     (UINT64_C(1) << 16)

#endif
