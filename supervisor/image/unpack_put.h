/* SPDX-License-Identifier: Apache-2.0 */
/* unpack_put.h - one entry of an archive, made in the folder (unpack.h) */
#ifndef SPORE_SUPERVISOR_IMAGE_UNPACK_PUT_H
#define SPORE_SUPERVISOR_IMAGE_UNPACK_PUT_H

#include "supervisor/image/unpack.h"

struct archive;
struct archive_entry;

/*
 * unpack_clean() - the path of an entry as this folder knows it
 * @out: UNPACK_PATH_MAX bytes; without leading, doubled and trailing slashes and without "."; "" is the top
 * Return: 0; -EBADMSG it holds ".." or is too long.
 */
int unpack_clean(const char *path, char *out, struct errmsg *why);

/* A folder of the image; "" is the top.  A descriptor; -ENOENT; -errno. */
int unpack_open_folder(int root, const char *path, struct errmsg *why);

/* @path: clean */
int unpack_put(struct unpack *u, struct archive *a, struct archive_entry *e, const char *path,
	       struct errmsg *why);

#endif
