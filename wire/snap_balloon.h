/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_balloon.h - a balloon as it stands in a snapshot (SNAP_VBALLOON, version 1)
 *
 * The request that waits for the next statistics is not in it: it was given back to the ring.
 * Little-endian, fixed size; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_BALLOON_H
#define SPORE_WIRE_SNAP_BALLOON_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_VBALLOON_VERSION 1u
#define SNAP_VBALLOON_STATS   16u

struct snap_vballoon {
	uint32_t target_pages; /* of 4096 bytes */
	uint32_t actual_pages;
	uint32_t stat_mask; /* bit n: stat[n] is known; above SNAP_VBALLOON_STATS zero */
	uint32_t rsvd;
	uint64_t stat[SNAP_VBALLOON_STATS];
};
static_assert(sizeof(struct snap_vballoon) == 144, "struct snap_vballoon");
static_assert(offsetof(struct snap_vballoon, stat_mask) == 8, "snap_vballoon.stat_mask");
static_assert(offsetof(struct snap_vballoon, rsvd) == 12, "snap_vballoon.rsvd");
static_assert(offsetof(struct snap_vballoon, stat) == 16, "snap_vballoon.stat");

#endif
