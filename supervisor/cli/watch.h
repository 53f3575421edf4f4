/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h - a sandbox that is to be paused when its time is over
 *
 * A VMM ends itself when its time is over; to be paused, it needs somebody who does it.  That is a small process of its
 * own, `spore watch` (a command without a line in the help), which goes when the VMM does.
 * Thread: any.
 */
#ifndef SPORE_SUPERVISOR_CLI_WATCH_H
#define SPORE_SUPERVISOR_CLI_WATCH_H

#include "supervisor/store/box.h"

/*
 * Starts it where the sandbox's meta.json asks for one.  The sandbox is there by then: when it cannot be started, that is
 * said on stderr, and no more.
 */
void watch_start(const struct box *box, const struct state *st);

/* spore watch SANDBOX */
int cmd_watch(void *config, int argc, char **argv);

#endif
