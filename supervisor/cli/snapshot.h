/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.h - what the commands on snapshot files share.  Thread: main. */
#ifndef SPORE_SUPERVISOR_CLI_SNAPSHOT_H
#define SPORE_SUPERVISOR_CLI_SNAPSHOT_H

#include "base/err.h"
#include "supervisor/cli/command.h"

/* The folder where a file's parents are sought: @folder, or its own.  A descriptor or -errno. */
int snapshot_folder(const char *path, const char *folder, struct errmsg *why);
/* For reading.  A descriptor or -errno. */
int snapshot_open(const char *path, struct errmsg *why);

#endif
