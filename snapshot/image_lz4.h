/* SPDX-License-Identifier: Apache-2.0 */
/* image_lz4.h - one LZ4 block; compressed only where it is worth it.  Thread: any. */
#ifndef SPORE_SNAPSHOT_IMAGE_LZ4_H
#define SPORE_SNAPSHOT_IMAGE_LZ4_H

#include <stdbool.h>
#include <stdint.h>

/*
 * lz4_pack() - compress `raw` bytes
 * @to: as much room again
 * Return: the length in `to`; `raw` when that would save less than 6 %: `to` holds nothing, keep `from` as it is.
 */
uint32_t lz4_pack(const void *from, uint32_t raw, void *to);

/* lz4_unpack() - hostile bytes: true when they were a block of exactly `raw` bytes. */
bool lz4_unpack(const void *from, uint32_t len, void *to, uint32_t raw);

#endif
