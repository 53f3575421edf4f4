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

#define BLK_COW_LAYERS_MAX   8
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
 * The memory it takes grows with what was written: 64 bytes a MiB.
 * Return: 0; -EBADMSG a layer is damaged or does not belong here; -EBUSY; -errno.
 */
int blk_cow_create(struct blk_backend **out, const struct blk_cow_cfg *cfg, struct errmsg *why);

#endif
