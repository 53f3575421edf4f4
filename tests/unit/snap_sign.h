/* SPDX-License-Identifier: Apache-2.0 */
/* snap_sign.h - make the checksum of a state right again after a change, as who means harm would */
#ifndef SPORE_TESTS_SNAP_SIGN_H
#define SPORE_TESTS_SNAP_SIGN_H

#include <string.h>

#include "base/crc32c.h"
#include "wire/snap.h"

/* @len: at least a head's */
static inline void snap_sign(uint8_t *blob, size_t len)
{
	struct snap_state_head head;

	memcpy(&head, blob, sizeof(head));
	head.crc = 0;
	memcpy(blob, &head, sizeof(head));
	head.crc = crc32c(blob, len);
	memcpy(blob, &head, sizeof(head));
}

#endif
