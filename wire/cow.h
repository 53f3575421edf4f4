/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cow.h - a copy-on-write layer of a disk, version 1, as it lies in its file
 *
 *   0           4096                data_off                         data_off + blocks * block_size
 *   | header    | map, 2 bits a block | block 0 | block 1 | ...       |
 *
 * A block stands at its own offset: finding one takes no table but the map, and the file is sparse.
 * The map says where to look: in what lies below, here, or nowhere (zero).  All numbers little-endian.
 *
 * On disk the map never runs ahead of the data: a block is said to be here only when its bytes are
 * durable.  So a layer is consistent at any instant, up to the last flush that was answered.
 *
 * The layer names what it lies on by an identity, never by a path.
 */
#ifndef SPORE_WIRE_COW_H
#define SPORE_WIRE_COW_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define COW_MAGIC      "SPORECOW"
#define COW_VERSION    1u
#define COW_HEADER_LEN 4096u
#define COW_MAP_PAGE   4096u /* the map is written in such pieces; its length is a multiple */
#define COW_ID_LEN     16u
#define COW_DATA_ALIGN 65536u

#define COW_BLOCK_MIN 4096u
#define COW_BLOCK_MAX 65536u
#define COW_SIZE_MAX  (UINT64_C(1) << 41) /* bytes of the disk: 2 TiB */

#define COW_SEALED 1u /* flags: never written again; map_crc is valid */

/* States of a block; 3 does not occur. */
enum cow_state { COW_BELOW = 0, COW_HERE = 1, COW_ZERO = 2 };

struct cow_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t flags;
	uint32_t block_size; /* power of two, COW_BLOCK_MIN to COW_BLOCK_MAX */
	uint32_t rsvd0;
	uint64_t size;       /* bytes of the disk, a multiple of 512, at least below_size */
	uint64_t below_size; /* bytes of what lies below */
	uint8_t below_id[COW_ID_LEN]; /* of what lies below: an image or the next layer */
	uint8_t layer_id[COW_ID_LEN];
	uint64_t map_off, map_len, data_off;
	uint32_t map_crc; /* CRC-32C of the map when sealed, else 0 */
	uint32_t crc;     /* CRC-32C of the header's 4096 bytes with this field zero */
	uint8_t rsvd1[COW_HEADER_LEN - 104];
};
static_assert(sizeof(struct cow_header) == COW_HEADER_LEN, "header");
static_assert(offsetof(struct cow_header, size) == 24, "header");
static_assert(offsetof(struct cow_header, below_id) == 40, "header");
static_assert(offsetof(struct cow_header, map_off) == 72, "header");
static_assert(offsetof(struct cow_header, crc) == 100, "header");
static_assert(offsetof(struct cow_header, rsvd1) == 104, "header");

#endif
