/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import.h - files into the store
 *
 * An ext4 file is copied as it is.  A tar or an OCI layout is unpacked and made into a file system by
 * mke2fs, in a process of its own: as root directly, else in a user namespace in which the owners in
 * the archive exist (unshare --map-auto), else in one with a single user: owners are then lost, and the
 * caller is told how many.
 *
 * Thread: main (it forks).
 */
#ifndef SPORE_SUPERVISOR_IMAGE_IMPORT_H
#define SPORE_SUPERVISOR_IMAGE_IMPORT_H

#include <stdint.h>

#include "supervisor/image/store.h"

#define IMPORT_BYTES_MAX (UINT64_C(16) << 30) /* of content, unless told otherwise */
#define IMPORT_SIZE_MIN  (UINT64_C(8) << 30)  /* room costs nothing: the file is sparse */

struct import {
	const char *name, *path;
	const char *self;   /* our own executable, for the packing process */
	uint64_t size;      /* of the file system; 0: by content */
	uint64_t bytes_max; /* of content; 0: the default */
	enum store_commit how;
};

/* Return: 0; -EINVAL not an image; -EEXIST; -errno. */
int import_image(const struct import *import, struct errmsg *why);

/* Runs the recipe (guest/image/build) and takes what it made. */
int import_build(const char *recipe, const char *name, struct errmsg *why);

/*
 * import_pack() - the packing process: content to `STAGE/rootfs.ext4`
 * @stage: a staging folder of the store; its `root` folder is made and removed
 */
int import_pack(const char *path, const char *stage, uint64_t size, uint64_t bytes_max,
		struct errmsg *why);

#endif
