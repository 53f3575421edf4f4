/* SPDX-License-Identifier: Apache-2.0 */
/* fnv.h - FNV-1a, 64 bits: tells tables apart; no protection against who wants them to look alike. */
#ifndef SPORE_BASE_FNV_H
#define SPORE_BASE_FNV_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t fnv1a(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
