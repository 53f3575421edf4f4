/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.h - the checksum of everything we keep: CRC-32C (Castagnoli), as in iSCSI (RFC 3720, B.4)
 *
 * With SSE 4.2 it takes the processor's instruction (about 8 bytes a nanosecond), else bit by bit.
 * Thread: any.
 */
#ifndef SPORE_BASE_CRC32C_H
#define SPORE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `len` bytes. */
uint32_t crc32c(const void *bytes, size_t len);

/*
 * crc32c_more() - go on with a checksum
 * @crc: of what came before; 0 at the start
 * crc32c_more(crc32c(a, n), b, m) is the checksum of a and b one after the other.
 */
uint32_t crc32c_more(uint32_t crc, const void *bytes, size_t len);

#endif
