/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep.h - a machine's memory in the files of a folder, increment on increment
 *
 *   memory.snap   the machine asleep, or a snapshot: the head of its chain (snapshot/image.h)
 *   base.snap     what the running VMM's memory once was: the parent of what is written of it next
 *   ID.snap       ancestors of either
 *
 * Every image that a folder needs is in it: other folders have the same files by hard links, for nothing in them ever
 * changes.  So a folder can be removed without a look at any other.
 *
 * Thread: any; the caller holds the sandbox's lock.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_KEEP_H
#define SPORE_SUPERVISOR_LIFECYCLE_KEEP_H

#include "snapshot/image.h"

#define KEEP_HEAD "memory.snap"
#define KEEP_BASE "base.snap"

#define KEEP_DEPTH_MAX  8   /* ancestors of one image: more, and a whole one is written */
#define KEEP_GROWTH_MAX 100 /* percent of the oldest that the increments may hold together */

/* snap_find_fn: an ancestor by its name.  @arg: int *, the folder's descriptor. */
snap_find_fn keep_find;

/*
 * keep_open() - an image of the folder with its ancestors
 * @name: KEEP_HEAD or KEEP_BASE
 * Return: 0; -ENOENT; as snap_chain_open().
 */
int keep_open(struct snap_chain **out, int dir_fd, const char *name, enum snap_chain_depth depth,
	      struct errmsg *why);

/*
 * keep_write() - write KEEP_HEAD: an increment on `base_fd`'s KEEP_BASE where that serves, else a whole image
 * @cfg:     state, plan, pages, cpus, disks; the rest is chosen here
 * @base_fd: the folder of the machine's sandbox; may be the same
 * Pages that the VMM maps from the base's own files are not even read.
 * Return: 0, durable; -errno: an earlier KEEP_HEAD is as it was.
 */
int keep_write(const struct snap_write *cfg, int base_fd, struct snap_written *out,
	       struct errmsg *why);

/* An image and its ancestors in another folder, or under another name.  Return: 0 or -errno. */
int keep_share(int from_fd, const char *name, int to_fd, const char *as, struct errmsg *why);

/* KEEP_HEAD becomes one file that can be mapped, durable.  Return: 0 or -errno: it is as it was. */
int keep_flatten(int dir_fd, struct errmsg *why);

/*
 * keep_sweep() - remove what a machine asleep does not need: KEEP_BASE, what killed writers left, and images that are not
 * KEEP_HEAD's ancestors
 * Return: how many images; -errno: the head's chain cannot be read whole, and nobody can say what it needs.
 */
int keep_sweep(int dir_fd);

#endif
