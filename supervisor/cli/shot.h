/* SPDX-License-Identifier: Apache-2.0 */
/* shot.h - between the commands that make snapshots and those that make sandboxes of them.  Thread: main. */
#ifndef SPORE_SUPERVISOR_CLI_SHOT_H
#define SPORE_SUPERVISOR_CLI_SHOT_H

#include "base/err.h"
#include "supervisor/cli/cmd_sandbox.h"

/*
 * shot_copy() - memory and sealed disk of one folder in another, by hard links
 * Return: 0; -errno: what was made stays in the folder, which is thrown away.
 */
int shot_copy(int from_fd, int to_fd, struct errmsg *why);

/* create --from.  Return: the exit status. */
int create_from(const struct create_args *args);

#endif
