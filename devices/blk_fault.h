/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_fault.h - a filter that makes the backend below it fail or dawdle, for tests
 */
#ifndef SPORE_DEVICES_BLK_FAULT_H
#define SPORE_DEVICES_BLK_FAULT_H

#include "devices/blk.h"

#define BLK_FAULT_KIND(kind) (1u << (kind))
#define BLK_FAULT_ALL        0x3fu

/* What happens next; may be changed at any time on the io thread. */
struct blk_fault_plan {
	uint32_t kinds;     /* BLK_FAULT_KIND() bits: requests that count */
	uint32_t countdown; /* this many of them pass first */
	uint32_t fail;      /* then so many fail */
	int err;            /* with this -errno */
	bool after;         /* fail them after they were carried out in part: the first half is */
	uint64_t delay_ns;  /* of every request that counts, before it goes below */
};

/*
 * blk_fault_create() - @plan: shared with the test, outlives the backend; @below: owned from success on
 * Return: 0, -ENOMEM.
 */
int blk_fault_create(struct blk_backend **out, struct blk_backend *below,
		     struct blk_fault_plan *plan);

#endif
