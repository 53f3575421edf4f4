/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.h - a sandbox's VMM that is woken rather than booted: for resume and fork
 * Thread: main.
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
int wake_enter(struct life_vm *vm, struct box *box, struct errmsg *why);

#endif
