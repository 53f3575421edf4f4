/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_cow_int.h - the overlay's inside: blk_cow.c (requests), blk_cow_flush.c, blk_cow_open.c, blk_cow_push.c
 */
#ifndef SPORE_DEVICES_BLK_COW_INT_H
#define SPORE_DEVICES_BLK_COW_INT_H

#include "base/bytes.h"
#include "base/cleanup.h"
#include "devices/blk_cow.h"

struct cow;

/* Where a block is: a byte, so that the depth of the stack costs a read nothing. */
#define WHERE_BELOW  0u /* in the image, or zero behind its end */
#define WHERE_ZERO   255u
#define COW_NAME_MAX 64

_Static_assert(BLK_COW_LAYERS_MAX < WHERE_ZERO, "a byte says which layer");

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
	uint64_t map_len;
	uint8_t layer_id[COW_ID_LEN];
};

/* What only a layer that is written to has. */
struct cow_marks {
	uint8_t *map;
	uint64_t *dirty; /* bitmap: pages of the map that the disk does not have yet */
	uint8_t *stage;  /* copies of map pages, on their way to the disk */
	uint64_t *staged;
	int fd;
};

struct cow_flush {
	struct blk_op sub;
	struct blk_op *waiting, *served; /* flushes of the next and of this round */
	uint64_t page, pages;            /* what is being written */
	struct iovec iov;
	bool running;
};

struct cow {
	struct blk_backend backend;
	/* const after create */
	struct blk_backend *base;
	uint32_t block;
	uint8_t *bounce;
	char name[COW_NAME_MAX];

	/* io */
	struct cow_file layer[BLK_COW_LAYERS_MAX];
	unsigned layer_count;
	uint8_t *where; /* a byte a block: WHERE_BELOW, WHERE_ZERO, or a layer's index + 1 */
	struct cow_marks top;
	struct cow_flush flush;
	struct blk_op *wait_head, **wait_tail;
	unsigned holding_count; /* requests that hold blocks */
	struct cow_req *holding[BLK_COW_INFLIGHT_MAX];
	unsigned free_count;
	uint16_t free[BLK_COW_INFLIGHT_MAX];
	struct cow_req *req; /* [BLK_COW_INFLIGHT_MAX] */

	/* io while a layer is pushed, then ctl until it is sealed */
	struct {
		bool due;
		struct cow_file
			layer; /* its file: the one for writing, when it is read through another now */
		struct cow_marks marks;
		int below_fd; /* or -1 */
	} seal;
};

static inline struct cow *cow_of(struct blk_backend *backend)
{
	return container_of(backend, struct cow, backend);
}

static inline struct cow_file *cow_top(struct cow *cow)
{
	return &cow->layer[cow->layer_count - 1];
}

static inline uint64_t cow_blocks(const struct cow *cow)
{
	return (cow->backend.size + cow->block - 1) / cow->block;
}

static inline uint64_t cow_map_pages(const struct cow_file *layer)
{
	return layer->map_len / COW_MAP_PAGE;
}

static inline bool cow_bit(const uint64_t *bitmap, uint64_t index)
{
	return bitmap[index / 64] >> index % 64 & 1;
}

/* A layer whose header was checked; locked for writing when it is not sealed. */
int cow_file_open(struct cow_file *file, const struct cow_layer *layer, int fd, const char *name,
		  struct loop *loop, struct errmsg *why);
int cow_marks_create(struct cow_marks *marks, const struct cow_file *file, int fd,
		     struct errmsg *why);
void cow_marks_free(struct cow_marks *marks, uint64_t map_len);
/* Writes the pages of the map that the disk has not got.  Thread: ctl.  Return: 0, -errno. */
int cow_marks_write(const struct cow_marks *marks, uint64_t map_len);

/* Forgets the layer that was closed by a push. */
void cow_seal_drop(struct cow *cow);

void cow_submit(struct blk_backend *backend, struct blk_op *op);
/* Takes a flush; done when all marks made so far are durable, behind their data. */
void cow_flush(struct cow *cow, struct blk_op *op);

#endif
