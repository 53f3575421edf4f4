/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layers.h - the writable layers of a sandbox's disk: disk-0.cow, disk-1.cow, ... in its folder (home.h)
 *
 * The lowest lies on the image.  A layer above that does not lie on the one below it has been made of all below it
 * (layers_compact()) and is the lowest now.  That a lowest layer lies on the image is for the VMM to check.
 *
 * A capture seals the top layer and puts a fresh one on it, so from the bottom up they are sealed, and the first
 * that is not is the one that the VMM writes to.  What lies above that one was made for a capture that has not come
 * to pass, and is made anew by the next.
 *
 * Thread: any; whoever changes them holds the sandbox's lock.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_LAYERS_H
#define SPORE_SUPERVISOR_LIFECYCLE_LAYERS_H

#include <stdint.h>

#include "base/err.h"
#include "wire/cow.h"

#define LAYERS_MAX 63 /* sealed ones: with the top, what a VMM takes (VMM_LAYERS_MAX) */

#define LAYERS_DEEP 8 /* sealed ones that a sleeping sandbox may have */

#define LAYERS_NAME_MAX 24
/* The name of layer `index`, from the bottom. */
void layers_name(char name[static LAYERS_NAME_MAX], unsigned index);

/* The sealed layers, opened for reading.  layers_close() it. */
struct layers {
	int fd[LAYERS_MAX + 1]; /* bottom to top; the one behind the sealed ones: layers_top() */
	uint8_t id[LAYERS_MAX][COW_ID_LEN];
	unsigned first; /* number of the lowest */
	unsigned count; /* of the sealed ones */
	uint64_t size;  /* of the disk, in bytes */
	uint32_t block_size;
};

/*
 * layers_open() - look at what there is
 * Return: 0; -EBADMSG one is damaged; -E2BIG; -errno.
 */
int layers_open(struct layers *out, int home_fd, struct errmsg *why);
void layers_close(struct layers *layers);

/*
 * layers_compact() - make one of the sealed layers when there are more than LAYERS_DEEP, and no VMM has them
 * Killed at any moment, the disk reads the same.  Return: 0; -errno: they are as they were.
 */
int layers_compact(int home_fd, struct errmsg *why);

/* disk-`index`.cow, to write to: an empty file, whatever was there.  Return: a descriptor; -errno. */
int layers_fresh(int home_fd, unsigned index, struct errmsg *why);
/* The same for reading: the VMM's present top.  Return: a descriptor; -errno. */
int layers_read(int home_fd, unsigned index, struct errmsg *why);

/*
 * layers_top() - an empty layer on the sealed ones, as layers->fd[layers->count], open for writing
 * There is at least one sealed one.  Return: 0; -errno.
 */
int layers_top(struct layers *layers, int home_fd, struct errmsg *why);

#endif
