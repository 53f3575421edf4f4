/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind a disk, and the disk in a snapshot. */
#include "devices/vblk_int.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "wire/snap_dev.h"

void vblk_measure(struct vblk *blk)
{
	const struct blk_backend *backend = blk->backend;

	__atomic_store_n(&blk->capacity, backend ? backend->size / BLK_SECTOR : 0,
			 __ATOMIC_RELEASE);
	__atomic_store_n(&blk->discard_grain, backend ? backend->grain / BLK_SECTOR : 1,
			 __ATOMIC_RELEASE);
}

/* Whether `backend` can be what the disk says it is. */
static int vblk_fits(const struct vblk *blk, const struct blk_backend *backend, struct errmsg *why)
{
	if (backend && backend->read_only && !blk->read_only)
		return err_set(why, EROFS, "drive %s", blk->dev.id);
	if (blk->loaded && backend && backend->size / BLK_SECTOR != blk->capacity)
		return err_set(
			why, EINVAL,
			"drive %s: the guest knows a disk of %llu sectors, this one has %llu",
			blk->dev.id, (unsigned long long)blk->capacity,
			(unsigned long long)(backend->size / BLK_SECTOR));
	return 0;
}

bool vblk_is_read_only(const struct dev *dev)
{
	return vblk_of_const(dev)->read_only;
}

int vblk_set_backend(struct dev *dev, struct blk_backend *backend, struct blk_backend **old,
		     struct errmsg *why)
{
	struct vblk *blk = vblk_of(dev);
	bool quiet = blk->quiet;
	uint64_t sectors = blk->capacity;

	int err = vblk_fits(blk, backend, why);
	if (err)
		return err;
	blk->quiet = true;
	vblk_drain(dev);
	blk->quiet = quiet;
	*old = blk->backend;
	blk->backend = backend;
	if (!blk->loaded || backend)
		vblk_measure(blk);
	if (blk->capacity != sectors)
		dev_config_changed(dev);
	if (blk->more && vblk_serves(blk))
		vblk_serve(blk);
	return 0;
}

struct blk_backend *vblk_backend(const struct dev *dev)
{
	return vblk_of_const(dev)->backend;
}

/* --- snapshot ----------------------------------------------------------------------------------- */
static uint32_t vblk_flags(const struct vblk *blk)
{
	return (blk->read_only ? SNAP_VBLK_READ_ONLY : 0) |
	       (blk->writeback ? SNAP_VBLK_WRITEBACK : 0);
}

void vblk_save(const struct dev *dev, struct snap_out *out, uint32_t instance)
{
	const struct vblk *blk = vblk_of_const(dev);
	struct snap_vblk *to = snap_put(out, SNAP_VBLK, SNAP_DEV_VERSION, instance, sizeof(*to));

	if (!to)
		return;
	*to = (struct snap_vblk){.capacity = blk->capacity,
				 .flags = vblk_flags(blk),
				 .discard_grain = blk->discard_grain};
	memcpy(to->id, dev->id, strlen(dev->id));
	struct limiter limit = blk->limit;
	limiter_save(&limit, &to->limit, clock_now());
}

static int check_saved(const struct vblk *blk, const struct snap_vblk *in, struct errmsg *why)
{
	size_t len = strlen(blk->dev.id);

	if (memcmp(in->id, blk->dev.id, len) != 0 ||
	    !bytes_zero(in->id + len, sizeof(in->id) - len))
		return err_set(why, EBADMSG, "the saved drive has another id");
	if (in->flags & ~(SNAP_VBLK_READ_ONLY | SNAP_VBLK_WRITEBACK))
		return err_set(why, EBADMSG, "the saved drive has unknown parts");
	if ((in->flags ^ vblk_flags(blk)) & SNAP_VBLK_READ_ONLY)
		return err_set(why, EBADMSG, "the saved drive is %s",
			       blk->read_only ? "writable" : "read-only");
	if ((in->flags ^ vblk_flags(blk)) & SNAP_VBLK_WRITEBACK)
		return err_set(why, EBADMSG, "the saved drive has %s",
			       blk->writeback ? "no write-back cache" : "a write-back cache");
	if (blk->backend && in->capacity != blk->capacity)
		return err_set(why, EBADMSG, "the saved drive has %llu sectors, this one %llu",
			       (unsigned long long)in->capacity, (unsigned long long)blk->capacity);
	return 0;
}

int vblk_load(struct dev *dev, const struct snap_in *in, uint32_t instance, struct errmsg *why)
{
	struct vblk *blk = vblk_of(dev);
	struct snap_vblk saved;

	int err = snap_take(in, SNAP_VBLK, SNAP_DEV_VERSION, instance, &saved, sizeof(saved), why);
	if (!err)
		err = check_saved(blk, &saved, why);
	if (err)
		return err;
	__atomic_store_n(&blk->capacity, saved.capacity, __ATOMIC_RELEASE);
	__atomic_store_n(&blk->discard_grain, saved.discard_grain, __ATOMIC_RELEASE);
	limiter_load(&blk->limit, &saved.limit, clock_now());
	blk->loaded = blk->quiet = true;
	return 0;
}
