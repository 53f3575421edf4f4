/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image is identified by its size and the time of its last change: enough to refuse a layer whose
 * image was rebuilt underneath it.
 */
#include "vmm/drive.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "devices/blk_cow.h"
#include "devices/blk_file.h"
#include "snapshot/cow.h"

#define DRIVE_BLOCK COW_BLOCK_MIN /* a file system's block: its writes need no copy from below */

static int drive_image_id(int fd, uint8_t id[COW_ID_LEN], struct errmsg *why)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_set(why, errno, "image");
	le64_store(id, (uint64_t)st.st_size);
	le64_store(id + 8, (uint64_t)st.st_mtim.tv_sec * NS_PER_SEC + (uint64_t)st.st_mtim.tv_nsec);
	return 0;
}

/* Makes a layer of an empty file; any other is left alone. */
static int drive_format_if_empty(const struct blk_cow_cfg *cfg, int fd, struct errmsg *why)
{
	struct stat st;
	struct cow_layer layer = {
		.size = cfg->base->size, .below_size = cfg->base->size, .block_size = DRIVE_BLOCK};

	if (fstat(fd, &st))
		return err_set(why, errno, "overlay");
	if (st.st_size)
		return 0;
	memcpy(layer.below_id, cfg->base_id, COW_ID_LEN);
	if (getrandom(layer.layer_id, COW_ID_LEN, 0) != COW_ID_LEN)
		return err_set(why, EIO, "overlay: getrandom");
	return cow_format(fd, &layer, why);
}

static int drive_overlay(struct blk_backend **out, const struct vmm_drive *drive,
			 struct blk_backend *base, struct loop *loop, struct errmsg *why)
{
	struct blk_cow_cfg cfg = {
		.name = drive->id,
		.loop = loop,
		.base = base,
		.layer = {drive->overlay_fd},
		.layer_count = 1,
	};

	int err = drive_image_id(drive->fd, cfg.base_id, why);
	if (!err)
		err = drive_format_if_empty(&cfg, drive->overlay_fd, why);
	return err ? err : blk_cow_create(out, &cfg, why);
}

int drive_open(struct blk_backend **out, const struct vmm_drive *drive, struct loop *loop,
	       struct errmsg *why)
{
	bool only_read = drive->read_only || drive->overlay_fd >= 0;
	struct blk_backend *file;

	int err = blk_file_create(&file, drive->fd,
				  only_read ? BLK_FILE_READ_ONLY : BLK_FILE_READ_WRITE, drive->id,
				  loop, why);
	if (err || drive->overlay_fd < 0) {
		if (!err)
			*out = file;
		return err;
	}
	err = drive_overlay(out, drive, file, loop, why);
	if (err)
		blk_destroy(file);
	return err;
}
