/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's state from a file: any bytes, signed with the right checksum so that the checks behind it run. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sign(uint8_t *blob, size_t len)
{
	struct snap_state_head head;

	memcpy(&head, blob, sizeof(head));
	head.crc = 0;
	memcpy(blob, &head, sizeof(head));
	head.crc = crc32c(blob, len);
	memcpy(blob, &head, sizeof(head));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free uint8_t *blob = malloc(size + 1);
	struct snap_in in;
	struct errmsg why;
	volatile uint8_t sum = 0;

	if (!blob)
		return 0;
	memcpy(blob, data, size);
	if (size >= sizeof(struct snap_state_head))
		sign(blob, size);
	if (snap_in_open(&in, blob, size, &why))
		return 0;
	for (uint32_t i = 0; i < in.count; i++) {
		uint32_t version;
		size_t len;
		const uint8_t *p =
			snap_find(&in, in.table[i].tag, in.table[i].instance, &version, &len);
		for (size_t k = 0; k < len; k++)
			sum = (uint8_t)(sum + p[k]);
	}
	return 0;
}
