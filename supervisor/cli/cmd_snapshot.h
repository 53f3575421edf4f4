/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_snapshot.h - what the options of `spore snapshot ...` on files fill */
#ifndef SPORE_SUPERVISOR_CLI_CMD_SNAPSHOT_H
#define SPORE_SUPERVISOR_CLI_CMD_SNAPSHOT_H

#include <stdbool.h>

struct snapshot_args {
	bool json, flat, no_disks;
	const char *folder; /* where parents and layers are; NULL: the file's own */
};

int cmd_snapshot_inspect(void *config, int argc, char **argv);
int cmd_snapshot_verify(void *config, int argc, char **argv);
int cmd_snapshot_compact(void *config, int argc, char **argv);
int cmd_snapshot_export(void *config, int argc, char **argv);
int cmd_snapshot_import(void *config, int argc, char **argv);

#endif
