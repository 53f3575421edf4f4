/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_export.h - a snapshot with all that it needs as one stream, and back (wire/snap_export.h)
 *
 * Import trusts nothing: the stream is checked chunk by chunk, what is made is a new snapshot with an id of its own,
 * and layers get their names from the caller.  Nothing is there under a name before the whole stream was good.
 *
 * Thread: any.
 */
#ifndef SPORE_SNAPSHOT_IMAGE_EXPORT_H
#define SPORE_SNAPSHOT_IMAGE_EXPORT_H

#include "snapshot/image.h"

/* A file of a disk: a layer, or the image underneath. */
struct snap_layer_file {
	uint8_t id[SNAP_ID_LEN];
	int fd; /* borrowed */
};

/*
 * snap_export() - write a chain and its disks' layers to `fd`, which may be a pipe
 * @layer: all that are to come along
 * Return: 0; -EBADMSG something is damaged; -errno.
 */
int snap_export(struct snap_chain *chain, const struct snap_layer_file *layer, uint32_t count,
		int fd, struct errmsg *why) __attribute__((warn_unused_result));

struct snap_import {
	int fd;     /* the stream; may be a pipe */
	int dir_fd; /* of the snapshot and the layers */
	const char *name;
	enum snap_image_kind kind;
	bool no_layers; /* pass over the layers */
};

/*
 * snap_import() - make a snapshot from a stream; its layers become "ID.layer"
 * Layers are published first, the snapshot last.  A layer that is there already is refused.
 * Return: 0; -EBADMSG with what is wrong; -EEXIST; -errno: nothing is left behind.
 */
int snap_import(const struct snap_import *cfg, struct snap_written *out, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
