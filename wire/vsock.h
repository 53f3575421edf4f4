/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h - the packet header and constants of virtio-vsock (virtio 1.2, 5.10)
 *
 * Little-endian, 44 bytes without padding, in front of every packet in both directions.
 */
#ifndef SPORE_WIRE_VSOCK_H
#define SPORE_WIRE_VSOCK_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define VSOCK_CID_HOST UINT64_C(2)
#define VSOCK_CID_MIN  UINT64_C(3) /* lowest that a guest may have */

enum vsock_op {
	VSOCK_OP_INVALID = 0,
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

#define VSOCK_TYPE_STREAM 1

/* Flags of SHUTDOWN: what its sender will no longer do. */
#define VSOCK_SHUT_RCV  1u
#define VSOCK_SHUT_SEND 2u
#define VSOCK_SHUT_BOTH 3u

#define VSOCK_EVENT_TRANSPORT_RESET 0u

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len; /* payload bytes */
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt; /* the sender's credit: 5.10.6.3 */
} __attribute__((packed));

static_assert(sizeof(struct vsock_hdr) == 44, "virtio 1.2, 5.10.6");
static_assert(offsetof(struct vsock_hdr, len) == 24, "virtio 1.2, 5.10.6");
static_assert(offsetof(struct vsock_hdr, op) == 30, "virtio 1.2, 5.10.6");
static_assert(offsetof(struct vsock_hdr, fwd_cnt) == 40, "virtio 1.2, 5.10.6");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are used as they lie in memory");

#endif
