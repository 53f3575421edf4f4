/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_net.h - a network interface as it stands in a snapshot (SNAP_VNET, version 1), and rate limits
 *
 * Frames are not in it: those on the way are lost, as networks lose frames.  Nor is the backend, which every
 * clone gets anew.  Little-endian, fixed size; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_NET_H
#define SPORE_WIRE_SNAP_NET_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_VNET_VERSION 1u

/* A token bucket: its size and speed are configuration, and not in it. */
struct snap_bucket {
	int64_t budget; /* tokens; negative: debt */
	uint64_t burst; /* tokens that are left of what is granted once */
	uint64_t part;  /* of the next token, in 1 / refill_ns */
};
static_assert(sizeof(struct snap_bucket) == 24, "struct snap_bucket");
static_assert(offsetof(struct snap_bucket, part) == 16, "snap_bucket.part");

struct snap_limiter {
	struct snap_bucket bytes, ops;
};
static_assert(sizeof(struct snap_limiter) == 48, "struct snap_limiter");
static_assert(offsetof(struct snap_limiter, ops) == 24, "snap_limiter.ops");

struct snap_vnet {
	uint8_t mac[6];
	uint16_t mtu; /* 0: none was told to the guest */
	uint64_t rsvd;
	struct snap_limiter rx, tx;
};
static_assert(sizeof(struct snap_vnet) == 112, "struct snap_vnet");
static_assert(offsetof(struct snap_vnet, mtu) == 6, "snap_vnet.mtu");
static_assert(offsetof(struct snap_vnet, rx) == 16, "snap_vnet.rx");
static_assert(offsetof(struct snap_vnet, tx) == 64, "snap_vnet.tx");

#endif
