/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image is identified by its size and the time of its last change: enough to refuse a layer whose
 * image was rebuilt underneath it.
 */
#include "vmm/drive.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
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

int drive_format_layer(int fd, uint64_t size, const uint8_t below_id[COW_ID_LEN],
		       struct errmsg *why)
{
	return cow_format_on(fd, size, DRIVE_BLOCK, below_id, why);
}

/* Makes a layer of an empty file; any other is left alone. */
static int drive_format_if_empty(const struct blk_cow_cfg *cfg, int fd, struct errmsg *why)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_set(why, errno, "overlay");
	return st.st_size ? 0 : drive_format_layer(fd, cfg->base->size, cfg->base_id, why);
}

/* Layers over an image, bottom to top; owns `base` from success on. */
static int drive_layers(struct blk_backend **out, const char *id, struct blk_backend *base,
			const struct vmm_disk *disk, struct loop *loop, struct errmsg *why)
{
	struct blk_cow_cfg cfg = {
		.name = id,
		.loop = loop,
		.base = base,
		.layer_count = disk->layer_count,
	};

	if (disk->layer_count > ARRAY_LEN(cfg.layer))
		return err_set(why, EINVAL, "%u layers: at most %zu can lie over each other",
			       disk->layer_count, ARRAY_LEN(cfg.layer));
	memcpy(cfg.layer, disk->layer_fd, disk->layer_count * sizeof(cfg.layer[0]));
	int err = drive_image_id(disk->base_fd, cfg.base_id, why);
	if (!err && disk->layer_count == 1)
		err = drive_format_if_empty(&cfg, cfg.layer[0], why);
	return err ? err : blk_cow_create(out, &cfg, why);
}

int drive_stack(struct blk_backend **out, const char *id, const struct vmm_disk *disk,
		bool read_only, struct loop *loop, struct errmsg *why)
{
	bool only_read = read_only || disk->layer_count;
	struct blk_backend *file;

	int err = blk_file_create(&file, disk->base_fd,
				  only_read ? BLK_FILE_READ_ONLY : BLK_FILE_READ_WRITE, id, loop,
				  why);
	if (err || !disk->layer_count) {
		if (!err)
			*out = file;
		return err;
	}
	err = drive_layers(out, id, file, disk, loop, why);
	if (err)
		blk_destroy(file);
	return err;
}

int drive_open(struct blk_backend **out, const struct vmm_drive *drive, struct loop *loop,
	       struct errmsg *why)
{
	const struct vmm_disk disk = {
		.base_fd = drive->fd,
		.layer_fd = &drive->overlay_fd,
		.layer_count = drive->overlay_fd >= 0,
	};

	return drive_stack(out, drive->id, &disk, drive->read_only, loop, why);
}
