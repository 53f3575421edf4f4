/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h - a captured machine, or one that sleeps in a folder, into the empty VMM of a folder (vm.h)
 * Thread: any; the caller holds the sandbox's lock.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_LOAD_H
#define SPORE_SUPERVISOR_LIFECYCLE_LOAD_H

#include "snapshot/plan.h"
#include "supervisor/lifecycle/ctl.h"
#include "supervisor/lifecycle/layers.h"

/* What a VM is loaded from. */
struct life_source {
	const void *state;
	size_t state_len;
	const struct snap_plan *plan;
	const char *image;           /* below the disk's layers */
	const struct layers *layers; /* with their top */
};

/*
 * life_load() - put a machine into the empty VMM of a folder, and let it run
 * @flags: CTL_LOAD_*, besides CTL_LOAD_RUN
 * Return: 0, -errno: the VMM is of no use then.
 */
int life_load(int home_fd, const struct life_source *from, uint32_t flags, struct errmsg *why);

/*
 * life_load_folder() - the same from KEEP_HEAD (keep.h) of the folder and its sealed layers, with an empty top
 * An image that cannot be mapped is made one that can first.  KEEP_BASE is what was loaded, from then on.
 */
int life_load_folder(int home_fd, const char *image, uint32_t flags, struct errmsg *why);

#endif
