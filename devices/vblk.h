/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vblk.h - virtio-blk: a disk
 * Source: virtio 1.2, 5.2.
 */
#ifndef SPORE_DEVICES_VBLK_H
#define SPORE_DEVICES_VBLK_H

#include <stdbool.h>

#include "devices/blk.h"
#include "devices/dev.h"
#include "devices/limiter.h"

#define VBLK_QUEUE_SIZE   256
#define VBLK_INFLIGHT_MAX VBLK_QUEUE_SIZE     /* requests with the backend at one time */
#define VBLK_RANGE_MAX    16                  /* ranges of one discard or write-zeroes request */
#define VBLK_ID_LEN       20                  /* bytes of the identity string, 5.2.6 */
#define VBLK_DISCARD_MAX  (UINT32_C(1) << 21) /* sectors of one range: 1 GiB */
#define VBLK_ZERO_MAX     (UINT32_C(1) << 16) /* sectors of one range: 32 MiB; may have to be written */

extern const struct dev_ops vblk_ops;

struct vblk_cfg {
	const char *id;              /* in messages, and the disk's serial number */
	struct blk_backend *backend; /* NULL: nothing yet, see vblk_set_backend() */
	bool read_only;
	bool writeback; /* flush is offered and reaches the disk; false: it is not offered (Unsafe) */
	struct limiter_cfg limit; /* requests and their data */
};

/*
 * vblk_create() - ctl thread; the device owns cfg->backend from success on
 * Return: 0; -EROFS the backend cannot be written and the disk is to be; -ENOMEM.
 */
int vblk_create(struct dev **out, const struct vblk_cfg *cfg, struct errmsg *why);

/* Any thread. */
bool vblk_is_read_only(const struct dev *dev);

/*
 * vblk_set_backend() - put another disk behind the device
 * A disk without a backend has no sectors, and its requests fail.  Requests in flight are waited for.  The
 * driver is told of a size that differs, by a configuration interrupt; after a load and before the device
 * goes on, the size must be the one that the guest knows.
 * @backend: the device's from success on; NULL: nothing
 * @old: out: what was behind it and is the caller's to destroy, or NULL
 * Thread: io.  Return: 0; -EROFS it cannot be written and the disk is to be; -EINVAL not of the saved size.
 */
int vblk_set_backend(struct dev *dev, struct blk_backend *backend, struct blk_backend **old,
		     struct errmsg *why) __attribute__((warn_unused_result));

/* What is behind it, the device's, or NULL.  io, or ctl while nobody exchanges it. */
struct blk_backend *vblk_backend(const struct dev *dev);

#endif
