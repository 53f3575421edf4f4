/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gather.h - the pages that a capture of private memory copies, into one packed file
 *
 * What was written is what is anonymous (snapshot/anon.h), narrowed to what is dirty (dirty.h) where only the
 * difference to the last kept capture is wanted.  Two ways:
 *
 *   without the dirty log   before: count, make room          pause: find and copy all of it
 *   with it                 before: find and copy all of it   pause: copy again what was written meanwhile
 *
 * So with the log on, the pause grows with how fast the guest writes and not with how much it has written.  A page
 * that is copied while the guest writes it may be torn; it is dirty then, and copied again when the guest stands.
 *
 *   file:  | pages of `first`, in order | pages of `again` that `first` does not have, in order |
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_GATHER_H
#define SPORE_VMM_GATHER_H

#include "base/err.h"
#include "snapshot/anon.h"
#include "snapshot/plan.h"
#include "vmm/dirty.h"

enum gather_what { GATHER_SINCE_BASE, GATHER_SINCE_KEPT };

struct gather {
	struct anon first, again;
	struct snap_runs holes; /* what the guest had given back */
	int fd;                 /* -1: none */
	uint8_t *map;           /* of the file, while it is filled */
	uint64_t bytes;         /* of the mapping: all of memory */
	bool early;             /* `first` was copied before the pause */
};

/* Opens /proc/self/pagemap: before the sandbox closes. */
int gather_create(struct gather *g, struct errmsg *why);
void gather_destroy(struct gather *g);

/* The machine runs (or not). */
int gather_before(struct gather *g, struct vmm *m, struct dirty *dirty, enum gather_what what,
		  struct errmsg *why);
/* It is paused. */
int gather_paused(struct gather *g, struct vmm *m, struct dirty *dirty, enum gather_what what,
		  struct errmsg *why);
/* It runs again (or not): cuts the file to its pages and seals it.  The file stays until gather_forget(). */
int gather_behind(struct gather *g, struct errmsg *why);
void gather_forget(struct gather *g);

/* Pages in the file. */
uint64_t gather_count(const struct gather *g);

#endif
