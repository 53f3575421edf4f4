/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - a plan of guest memory (snapshot/plan.h), put in place
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_MEMORY_H
#define SPORE_VMM_MEMORY_H

#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"
#include "snapshot/anon.h"
#include "snapshot/plan.h"
#include "vmm/libvmm.h"

/*
 * memory_keep() - a copy of a stranger's plan, checked, its descriptors duplicated
 * @to: zeroed
 * @lazy: zeroed; what comes from a pager: zeroes in `to`, so that all that a capture finds there is a change
 * Return: 0; -EBADMSG with what is wrong; -errno.
 */
int memory_keep(struct snap_plan *to, struct snap_runs *lazy, const struct vmm_memory *from,
		uint64_t pages, struct errmsg *why) __attribute__((warn_unused_result));

/* Takes `fd` over.  Return: its number as a source; -ENOMEM, -E2BIG (then it is the caller's still). */
int memory_add_source(struct snap_plan *plan, int fd);

/*
 * memory_map() - put a checked plan at `map` (`pages` pages of reserved addresses)
 * Return: 0, -errno: what is at `map` is of no use then.
 */
int memory_map(const struct snap_plan *plan, void *map, uint64_t pages, struct errmsg *why);

/* The pages that the guest gave back (gm_discard()): zeroes, unless they were written since.  0 or -ENOMEM. */
int memory_holes(struct snap_runs *to, const struct gmem *gm);

/* What has become of memory since its base. */
struct memory_change {
	const struct snap_runs *holes;
	const struct anon *written, *again;
	uint32_t
		source; /* a file that holds the pages of `written`, then those of `again`, one behind the other */
};

/*
 * memory_changed() - `base` with a change over it
 * @to: empty
 * Return: 0 or -ENOMEM.
 */
int memory_changed(struct snap_runs *to, const struct snap_runs *base,
		   const struct memory_change *change);

#endif
