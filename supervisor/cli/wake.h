/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.h - a sandbox's VMM that is woken rather than booted: for resume, fork and create --from
 * Thread: any; one caller a sandbox.
 */
#ifndef SPORE_SUPERVISOR_CLI_WAKE_H
#define SPORE_SUPERVISOR_CLI_WAKE_H

#include "supervisor/lifecycle/vm.h"
#include "supervisor/store/box.h"

#define WAKE_LIMIT_MS 30000 /* for the guest's agent to say that all is done */

/* An empty VMM in the box's folder, of the shape that its meta.json says.  Return: 0 or -errno. */
int wake_start(struct life_vm **out, const struct box *box, struct errmsg *why);

enum wake_as { WAKE_SAME, WAKE_CLONE };
/*
 * wake_finish() - the guest runs: set its clock, reseed it, and as a clone name it anew
 * Return: 0; -ETIMEDOUT with the last reason; -errno.
 */
int wake_finish(struct life_vm *vm, const struct box *box, enum wake_as as, struct errmsg *why);

/* It is a running sandbox from here on: deadline, state, and the VMM stays.  Return: 0 or -errno. */
int wake_enter(struct life_vm *vm, struct box *box, const struct state *st, struct errmsg *why);

/* All of it, from the memory and the disk that lie in the box's folder.  *out in every case.  Return: 0 or -errno. */
int wake_folder(struct life_vm **out, struct box *box, const struct state *st, enum wake_as as,
		struct errmsg *why);

#endif
