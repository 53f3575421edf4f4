/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture.h - a machine at one instant, as bytes and descriptors; and a machine made from them
 *
 *   generation 0     pause | save state, load it into the spare VM, exchange the two | run
 *                    behind: close the old VM, take down its mapping, seal the file: it is the base
 *   generation 1     before: make room for what was written (and copy it already: gather.h)
 *                    pause | save state, copy what was written | run
 *                    behind: seal what was copied; it lies over the base in the plan that goes out
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_CAPTURE_H
#define SPORE_VMM_CAPTURE_H

#include "base/err.h"
#include "snapshot/codec.h"
#include "vmm/dirty.h"
#include "vmm/gather.h"
#include "vmm/home.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/working_set.h"

struct capture {
	struct snap_out state;
	struct gather gather;                 /* generation 1 */
	struct home *spare;                   /* generation 0; then NULL */
	struct home *old;                     /* between a move and machine_tidy(): what it left */
	struct working_set working_set;       /* as it was asked for last */
	struct snap_plan base;                /* generation 1: what memory is mapped from */
	struct gm_holes *give[GM_REGION_MAX]; /* where it says so; in gmem from generation 1 on */
	struct snap_runs out;                 /* generation 1: runs of the last capture */
	int view[SNAP_SOURCES_MAX + 1];       /* descriptors of the last capture, borrowed */
	uint64_t sequence;
	bool settled;
	bool kept; /* a difference is safe: the next one may begin there */
	struct dirty dirty;
};

/* For a machine that can be captured: after its devices.  Return: 0 or -errno. */
int capture_create(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why);
void capture_destroy(struct vmm *m);

/* Memory is private mappings from here on: pages that the guest gives back are to be remembered. */
void capture_private(struct vmm *m);

int machine_capture(struct vmm *m, const struct vmm_capture_cfg *cfg, struct vmm_captured *out,
		    struct errmsg *why);
/* What a move left to be done, when there is time; the next capture does it first. */
int machine_tidy(struct vmm *m, struct errmsg *why);
int machine_settle(struct vmm *m, uint64_t sequence, enum vmm_outcome outcome, struct errmsg *why);
int machine_load(struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why);

#endif
