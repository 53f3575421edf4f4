/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pager.h - memory of a machine that comes when it is touched: for snapshots that cannot be mapped
 *
 * The VMM registers a part of its guest's memory with a userfaultfd and hands that to a process of its own, the
 * pager, over a socket (CTL_PAGE_IN, wire/ctl.h).  The pager knows the snapshot, the VMM does not.  It answers
 * faults, always 16 pages at once (one compressed block); first it brings the working set in one batch, and between
 * faults all the rest in order.  Then it says so and is done.
 *
 * What the machine has given back meanwhile does not come back: the VMM puts unregistered memory there, in which
 * nothing can be put, and no 16 pages are brought twice.
 * The VMM is hostile: its addresses are used only as those of its own memory, which is all that its userfaultfd
 * reaches.
 *
 * Thread: any; one caller an object.
 */
#ifndef SPORE_SNAPSHOT_PAGER_H
#define SPORE_SNAPSHOT_PAGER_H

#include "snapshot/image_ws.h"

struct pager_cfg {
	struct snap_chain *chain;
	const struct snap_runs *lazy; /* which pages come from here: in order, without overlap */
	struct snap_ws *ws;           /* or NULL */
	int sock; /* connected SEQPACKET socket to the VMM, blocking; borrowed */
};

struct pager_count {
	uint64_t faults; /* that were answered */
	uint64_t batch;  /* pages of the working set */
	uint64_t pages;  /* put in place, working set and zeroes included */
};

/*
 * pager_serve() - serve one machine until all of its memory is there
 * @out: may be NULL
 * Return: 0; -EPIPE the VMM is gone; -EPROTO it does not keep to the protocol; -EBADMSG the snapshot is damaged;
 * -errno.  Unless the VMM is gone it is told, and ends.
 */
int pager_serve(const struct pager_cfg *cfg, struct pager_count *out, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
