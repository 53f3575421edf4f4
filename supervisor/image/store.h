/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - images: ${XDG_DATA_HOME:-~/.local/share}/spore/images/NAME/{rootfs.ext4,image.json}
 *
 * An image is complete or absent: it is made in a folder of its own (.stage-XXXXXX), made durable, and
 * renamed last.  Whoever makes one holds a lock on its staging folder; a staging folder that nobody
 * holds was left by a crash, and the next writer removes it.  A sandbox holds a shared lock on the file it
 * runs from, which is how `rm` knows that an image is in use.
 *
 * Thread: any; no globals.  Other processes may work on the same store at the same time.
 */
#ifndef SPORE_SUPERVISOR_IMAGE_STORE_H
#define SPORE_SUPERVISOR_IMAGE_STORE_H

#include <stdint.h>

#include "base/err.h"

#define STORE_PATH_MAX      4096
#define STORE_NAME_MAX      64 /* bytes, with the NUL */
#define STORE_DEFAULT_IMAGE "base"
#define STORE_FILE          "rootfs.ext4"
#define STORE_META          "image.json"

/* The store's folder, which need not exist.  @out: STORE_PATH_MAX bytes.  0, -ENOENT (no HOME), -ENAMETOOLONG. */
int store_root(char *out, struct errmsg *why);

/* 1 when `name` is [a-z0-9][a-z0-9._-]*, shorter than STORE_NAME_MAX; else 0. */
int store_name_good(const char *name);
/* The same as an error: 0 or -EINVAL. */
int store_name_check(const char *name, struct errmsg *why);

/*
 * store_resolve() - the file of an image
 * @image: a name in the store, or a path (it holds a slash).  The name `base`, when the store has none,
 *         is the base image of the build tree or installation (files.h).
 * @path:  out, STORE_PATH_MAX bytes
 * Return: 0; -ENOENT; -EINVAL.
 */
int store_resolve(const char *image, char *path, struct errmsg *why);

struct store_image {
	char name[STORE_NAME_MAX];
	char source[256]; /* where it came from; escaped already */
	uint64_t bytes, disk_bytes;
	int64_t created; /* seconds since 1970 */
};

/* By name.  A folder that is no complete image is passed over.  Return: 0, -errno, or what on_image gave. */
typedef int (*store_on_image)(void *arg, const struct store_image *image);
int store_list(store_on_image on_image, void *arg, struct errmsg *why);

/* A staging folder: made by begin, ended by exactly one of commit and abort. */
struct store_stage {
	char path[STORE_PATH_MAX];
	int lock_fd; /* of the folder */
};
int store_stage_begin(struct store_stage *stage, struct errmsg *why);
/*
 * store_stage_commit() - the folder's rootfs.ext4 becomes the image `name`
 * @source: goes into image.json
 * Return: 0; -EEXIST without STORE_REPLACE; -errno.  On failure the stage is still there: abort it.
 */
enum store_commit { STORE_NEW, STORE_REPLACE };
int store_stage_commit(struct store_stage *stage, const char *name, const char *source,
		       enum store_commit how, struct errmsg *why);
void store_stage_abort(struct store_stage *stage);

/* 0; -ENOENT; -EBUSY while a sandbox uses it. */
int store_remove(const char *name, struct errmsg *why);

#endif
