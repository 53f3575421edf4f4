/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_cow.h - a disk as a stack: an image below, sealed layers on it, and one layer of its own on top
 *
 * The image and the sealed layers are only read, so that any number of VMs share them; what this VM
 * writes goes to the top layer (wire/cow.h).
 */
#ifndef SPORE_DEVICES_BLK_COW_H
#define SPORE_DEVICES_BLK_COW_H

#include "devices/blk.h"
#include "snapshot/cow.h"

#define BLK_COW_LAYERS_MAX   128 /* reading does not get slower with their number, opening does */
#define BLK_COW_INFLIGHT_MAX 256 /* requests at work; more wait */

struct blk_cow_cfg {
	const char *name; /* names the disk in messages */
	struct loop *loop;
	struct blk_backend *base;      /* or NULL: zeroes; owned from success on */
	uint8_t base_id[COW_ID_LEN];   /* identity of `base`, as the lowest layer must name it */
	int layer[BLK_COW_LAYERS_MAX]; /* bottom to top, the last open for writing; duplicated */
	unsigned layer_count;          /* at least 1 */
};

/*
 * blk_cow_create() - open a stack
 * Checked: every header, every map, that each layer names the one below it, that all but the top are
 * sealed and the top is not; the top is locked for this VM (blk_file_lock()), the others for reading.
 * The memory it takes grows with what was written: 320 bytes a MiB with blocks of 4 KiB.
 * Return: 0; -EBADMSG a layer is damaged or does not belong here; -EBUSY; -errno.
 */
int blk_cow_create(struct blk_backend **out, const struct blk_cow_cfg *cfg, struct errmsg *why);

/*
 * Growing a layer while the VM is paused: what takes time happens before the pause and after it.
 *
 *   before   blk_cow_next_create()   open and check the new layer, allocate            ctl
 *   paused   blk_cow_push()          the old top gets no more writes; constant time    io, quiesced
 *   after    blk_cow_seal_finish()   its map and header go to disk, sealed             ctl
 *
 * Only after that may another VM open what was the top.
 */
struct blk_cow_next;

/*
 * blk_cow_next_create() - a layer that can be pushed on `disk`
 * @fd: an empty layer (cow_format()) made on the disk's present top, of its size; duplicated; locked
 * @below_fd: the present top's file, open for reading only: what it is read through from the push on;
 *   duplicated; or -1: it is read on through the descriptor that wrote it
 * Return: 0; -EBADMSG not an empty layer on this disk's top; -EINVAL `below_fd` is another file; -E2BIG
 * BLK_COW_LAYERS_MAX layers there are; -EBUSY; -errno.
 */
int blk_cow_next_create(struct blk_cow_next **out, struct blk_backend *disk, int fd, int below_fd,
			struct errmsg *why) __attribute__((warn_unused_result));
void blk_cow_next_destroy(struct blk_cow_next *next); /* NULL is fine; ctl */
/* Takes `next`.  No request is in flight.  Return: 0; -EBUSY the layer below has not been sealed yet. */
int blk_cow_push(struct blk_backend *disk, struct blk_cow_next *next)
	__attribute__((warn_unused_result));
/*
 * blk_cow_seal_finish() - make durable what the last push closed, and seal it
 * May be called again after an error; the VM is not concerned by it.
 * Return: 0, also when there is nothing to do; -errno.
 */
int blk_cow_seal_finish(struct blk_backend *disk, struct errmsg *why)
	__attribute__((warn_unused_result));

/* Layers and their ids, bottom to top.  ctl, paused or not.  Return: how many. */
unsigned blk_cow_layer_ids(const struct blk_backend *disk, uint8_t id[][COW_ID_LEN], unsigned max);
/* True for a backend of blk_cow_create(): the others have no layers. */
bool blk_is_cow(const struct blk_backend *backend);

#endif
