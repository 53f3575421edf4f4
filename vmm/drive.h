/* SPDX-License-Identifier: Apache-2.0 */
/* drive.h - from a drive's descriptors to the backend of its disk.  Thread: ctl. */
#ifndef SPORE_VMM_DRIVE_H
#define SPORE_VMM_DRIVE_H

#include "base/err.h"
#include "base/loop.h"
#include "devices/blk.h"
#include "snapshot/cow.h"
#include "vmm/libvmm.h"

/*
 * drive_open() - a raw file, or a copy-on-write layer over one
 * An empty overlay file is made a layer over the drive's image; one that is a layer must name this image.
 * Return: 0; -EBUSY in use by another VM; -EBADMSG the layer is damaged or of another image; -errno.
 */
int drive_open(struct blk_backend **out, const struct vmm_drive *drive, struct loop *loop,
	       struct errmsg *why);

/*
 * drive_stack() - the disk of a load: a base, and layers that exist over it
 * @read_only: of a disk without layers
 * Return: as drive_open(); -EINVAL too many layers.
 */
int drive_stack(struct blk_backend **out, const char *id, const struct vmm_disk *disk,
		bool read_only, struct loop *loop, struct errmsg *why);

/* Makes an empty layer of a file, on what has that id.  Return: 0, -errno. */
int drive_format_layer(int fd, uint64_t size, const uint8_t below_id[COW_ID_LEN],
		       struct errmsg *why);

#endif
