/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_cow_int.h - the overlay's inside, shared by blk_cow.c (requests), blk_cow_flush.c and blk_cow_open.c
 */
#ifndef SPORE_DEVICES_BLK_COW_INT_H
#define SPORE_DEVICES_BLK_COW_INT_H

#include "base/cleanup.h"
#include "devices/blk_cow.h"

struct cow;

/* One request at work. */
struct cow_req {
	struct cow *cow;
	struct blk_op *op;
	struct blk_op sub;                  /* to a layer or the image */
	uint64_t first, end;                /* blocks held */
	void (*after)(struct cow_req *req); /* what follows the read or write at hand */

	/* the read at hand: disk offsets, and where it goes */
	void (*filled)(struct cow_req *req);
	uint64_t pos, stop, run;
	struct iovec *to;
	unsigned to_count;

	/* the write at hand */
	uint64_t w_off, w_end;
	uint32_t head_len, tail_len; /* bytes of bounce[] that complete the first and last block */
	struct iovec *from;
	unsigned from_count;
	struct iovec edge; /* zeroes for the edges of a zeroing, or the buffer of a fill */

	uint8_t *bounce; /* const after create: head block, tail block */
	struct iovec iov[BLK_IOV_MAX + 2];
};

struct cow_file {
	struct blk_backend *file;
	uint64_t data_off, blocks;
	uint8_t *map;
	uint64_t map_len;
};

struct cow_flush {
	struct blk_op sub;
	struct blk_op *waiting, *served; /* flushes of the next and of this round */
	uint8_t *stage;                  /* copies of map pages */
	uint64_t *staged;                /* bitmap: which */
	uint64_t page, pages;            /* what is being written */
	struct iovec iov;
	bool running;
};

struct cow {
	struct blk_backend backend;
	/* const after create */
	struct blk_backend *base;
	struct cow_file layer[BLK_COW_LAYERS_MAX];
	unsigned layer_count;
	uint32_t block;
	int top_fd;
	uint8_t *bounce;

	/* io */
	uint64_t *dirty; /* bitmap: pages of the top map that the disk does not have yet */
	struct cow_flush flush;
	struct blk_op *wait_head, **wait_tail;
	unsigned holding_count; /* requests that hold blocks */
	struct cow_req *holding[BLK_COW_INFLIGHT_MAX];
	unsigned free_count;
	uint16_t free[BLK_COW_INFLIGHT_MAX];
	struct cow_req *req; /* [BLK_COW_INFLIGHT_MAX] */
};

static inline struct cow *cow_of(struct blk_backend *backend)
{
	return container_of(backend, struct cow, backend);
}

static inline struct cow_file *cow_top(struct cow *cow)
{
	return &cow->layer[cow->layer_count - 1];
}

static inline uint64_t cow_map_pages(const struct cow_file *layer)
{
	return layer->map_len / COW_MAP_PAGE;
}

static inline bool cow_bit(const uint64_t *bitmap, uint64_t index)
{
	return bitmap[index / 64] >> index % 64 & 1;
}

void cow_submit(struct blk_backend *backend, struct blk_op *op);
/* Takes a flush; done when all marks made so far are durable, behind their data. */
void cow_flush(struct cow *cow, struct blk_op *op);

#endif
