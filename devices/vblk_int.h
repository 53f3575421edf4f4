/* SPDX-License-Identifier: Apache-2.0 */
/* vblk_int.h - the disk's inside, shared by vblk.c (requests) and vblk_state.c (what stands behind it, snapshots) */
#ifndef SPORE_DEVICES_VBLK_INT_H
#define SPORE_DEVICES_VBLK_INT_H

#include <stddef.h>

#include "base/cleanup.h"
#include "devices/limiter.h"
#include "devices/vblk.h"

struct blk_config {
	uint64_t capacity; /* sectors */
	uint32_t size_max, seg_max;
	uint8_t geometry[4];
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, rsvd0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, rsvd1[3];
};
_Static_assert(sizeof(struct blk_config) == 64 &&
		       offsetof(struct blk_config, write_zeroes_may_unmap) == 56,
	       "virtio 1.2, 5.2.4");

struct vblk_req {
	struct blk_op op;
	struct vblk *blk;
	uint32_t type;
	uint32_t ranges, next_range; /* DISCARD, WRITE_ZEROES */
	struct vq_req vq;
	struct iovec iov[BLK_IOV_MAX];
};

struct vblk {
	struct dev dev;
	/* const after create */
	bool read_only, writeback;
	struct blk_config
		config; /* little-endian; what depends on the backend is filled in when it is read */
	char serial[VBLK_ID_LEN];

	/* atomic, written by io: sectors that the guest sees, sectors a discard should be aligned to */
	uint64_t capacity;
	uint32_t discard_grain;

	/* io */
	struct blk_backend *backend; /* or NULL */
	bool loaded; /* until it goes on: the capacity is the one that the guest knows */
	struct loop_task turn_end; /* signals, and serves again what was left in the ring */
	bool more;                 /* the ring was left with requests in it */
	bool quiet;                /* between quiesce and unquiesce */
	struct limiter limit;
	struct loop_timer due; /* the limiter holds the ring back until then */
	unsigned free_count;
	uint16_t free[VBLK_INFLIGHT_MAX];
	struct vblk_req *req; /* [VBLK_INFLIGHT_MAX] */
};

static inline struct vblk *vblk_of(struct dev *dev)
{
	return container_of(dev, struct vblk, dev);
}

static inline const struct vblk *vblk_of_const(const struct dev *dev)
{
	return (const void *)((const char *)dev - offsetof(struct vblk, dev));
}

/* io: takes over the size of what is behind the disk now. */
void vblk_measure(struct vblk *blk);
/* io: takes what is in the ring, if the disk is one that does: vblk_serves(). */
void vblk_serve(struct vblk *blk);
bool vblk_serves(const struct vblk *blk);
/* io: waits for all requests in flight. */
void vblk_drain(struct dev *dev);

void vblk_save(const struct dev *dev, struct snap_out *out, uint32_t instance);
int vblk_load(struct dev *dev, const struct snap_in *in, uint32_t instance, struct errmsg *why);

#endif
