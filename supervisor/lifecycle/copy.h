/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.h - files and folders into a guest and out of it
 *
 * In: the caller's files are trusted; regular files, folders and symbolic links go in with their
 * permission bits and times, anything else is left out and counted.
 *
 * Out: everything from the guest is hostile: names, types, sizes, modes, the number and depth of
 * entries, and whether the second look agrees with the first.  So every object is made beneath the
 * destination by openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), a file under a temporary name that
 * replaces, never follows, what stands at its place; set-id bits are dropped; devices, FIFOs and
 * sockets are left out, and so are symbolic links that lead out of the destination; bounds end the copy.
 *
 * As with cp, a destination that is a folder, or ends in a slash, takes the source in under its own name.
 *
 * Thread: one copy a thread; calls block, bounded by at->timeout_ms without progress.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_COPY_H
#define SPORE_SUPERVISOR_LIFECYCLE_COPY_H

#include <stdint.h>

#include "supervisor/agentc/agentc.h"

#define COPY_BYTES_MAX   (UINT64_C(64) << 30)
#define COPY_ENTRIES_MAX 1000000u
#define COPY_DEPTH_MAX   64u /* what the agent lists at most */

struct copy {
	struct agentc *at;
	const char *user; /* in the guest; NULL: the agent's choice */
	uint64_t bytes_max, entries_max;
	/* out */
	uint64_t bytes, entries, left_out;
	void (*tick)(void *arg, uint64_t bytes); /* now and then, or NULL */
	void *tick_arg;
	int (*stop)(void); /* nonzero ends the copy with -EINTR; or NULL; asked between pieces */
};

/* Return: 0; -errno with the file's name in *why.  What was copied before stays. */
int copy_in(struct copy *copy, const char *host_path, const char *guest_path, struct errmsg *why);
int copy_out(struct copy *copy, const char *guest_path, const char *host_path, struct errmsg *why);

#endif
