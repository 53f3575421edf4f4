/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_image.h - what the options of `spore image ...` fill */
#ifndef SPORE_SUPERVISOR_CLI_CMD_IMAGE_H
#define SPORE_SUPERVISOR_CLI_CMD_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

struct image_args {
	bool json, replace;
	const char *recipe; /* or NULL */
	uint64_t size;      /* bytes; 0: by content */
	uint64_t max_size;  /* bytes; 0: the default */
};

#endif
