/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/image_lz4.h"

#include <lz4.h>

#define WORTH_PERCENT 94u

uint32_t lz4_pack(const void *from, uint32_t raw, void *to)
{
	int most = (int)((uint64_t)raw * WORTH_PERCENT / 100);
	int len = LZ4_compress_default(from, to, (int)raw, most);

	return len > 0 ? (uint32_t)len : raw;
}

bool lz4_unpack(const void *from, uint32_t len, void *to, uint32_t raw)
{
	return LZ4_decompress_safe(from, to, (int)len, (int)raw) == (int)raw;
}
