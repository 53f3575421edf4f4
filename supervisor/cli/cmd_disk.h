/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_disk.h - what the options of `spore disk ...` fill */
#ifndef SPORE_SUPERVISOR_CLI_CMD_DISK_H
#define SPORE_SUPERVISOR_CLI_CMD_DISK_H

#include <stdbool.h>

struct disk_args {
	bool json;
};

#endif
