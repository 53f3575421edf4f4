/* SPDX-License-Identifier: Apache-2.0 */
/* copy_place.h - objects from a guest, put beneath a folder of the host.  Names are one component. */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_COPY_PLACE_H
#define SPORE_SUPERVISOR_LIFECYCLE_COPY_PLACE_H

#include <stdint.h>

#include "base/err.h"

/* A folder below `root`, reached through no link and no mount point's way out.  A descriptor or -errno. */
int copy_open_beneath(int root, const char *path, struct errmsg *why);

/* One that is there is taken as it is.  Only permission bits of `mode`; the owner may always enter. */
int copy_make_folder(int parent, const char *name, uint32_t mode, struct errmsg *why);

/* Replaces a link or a file that is there, not a folder. */
int copy_make_link(int parent, const char *name, const char *target, struct errmsg *why);

/* A new file: no name (or a temporary one) until commit, whole at its name after it. */
struct copy_place {
	int parent, fd;
	char temp[32]; /* empty: it has no name */
};
int copy_place_begin(struct copy_place *place, int parent, struct errmsg *why);
int copy_place_commit(struct copy_place *place, const char *name, uint32_t mode, int64_t mtime_ns,
		      struct errmsg *why);
/* After commit, or instead of it. */
void copy_place_end(struct copy_place *place);

#endif
