/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h - a snapshot's file and disk layers into an empty VMM (vm.h)
 * Thread: the VMM's owner.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_LOAD_H
#define SPORE_SUPERVISOR_LIFECYCLE_LOAD_H

#include "snapshot/image.h"
#include "supervisor/lifecycle/ctl.h"
#include "supervisor/lifecycle/layers.h"

struct life_load {
	struct snap_chain *chain;    /* flat or packed: others are flattened first */
	uint32_t flags;              /* CTL_LOAD_* */
	const char *image;           /* of the disk, or NULL: no disk */
	const struct layers *layers; /* with their top */
};

/*
 * life_load() - load and, with CTL_LOAD_RUN, run
 * The VMM keeps the socket of its vsock that it was started with.
 * Return: 0; -EOPNOTSUPP, -E2BIG the chain has to be flattened: nothing has happened; the VMM's -errno; -errno.
 */
int life_load(struct ctl_client *client, const struct life_load *load, struct ctl_loaded *out,
	      struct errmsg *why);

#endif
