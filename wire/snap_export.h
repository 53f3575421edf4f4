/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_export.h - a snapshot, its parents laid over each other, with its disks' layers, as one stream, version 1
 *
 *   | head | chunk | payload | chunk | payload | ...
 *
 * It can be written to and read from a pipe.  A chunk's checksum goes on with the one before it, so that none can be
 * left out, moved, or taken from another stream; END is the last.  Order: STATE, then DISKS, META and WS as there
 * are, then PAGES ascending, then each LAYER with its DATA.  Pages that do not come are zero, and so are bytes of a
 * layer.  All numbers little-endian; `rsvd` is zero and checked.  A stream names no path.
 */
#ifndef SPORE_WIRE_SNAP_EXPORT_H
#define SPORE_WIRE_SNAP_EXPORT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/snap_image.h"

#define SNAP_EXPORT_MAGIC      "SPOREXPT"
#define SNAP_EXPORT_VERSION    1u
#define SNAP_EXPORT_PAGES      64u /* of one chunk, at most */
#define SNAP_EXPORT_DATA       (256u << 10)
#define SNAP_EXPORT_LAYERS_MAX (SNAP_LAYERS_MAX + SNAP_DISKS_MAX)
#define SNAP_EXPORT_LAYER_MAX  (UINT64_C(1) << 42) /* bytes of a layer's file */

struct snap_export_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t arch;
	uint32_t page_size;
	uint32_t cpus;
	uint64_t pages;
	uint32_t rsvd;
	uint32_t
		crc; /* CRC-32C of the head with this field zero; the first chunk goes on from it */
};
static_assert(sizeof(struct snap_export_head) == 40, "struct snap_export_head");
static_assert(offsetof(struct snap_export_head, pages) == 24, "snap_export_head.pages");

enum snap_export_type {
	SNAP_EXPORT_STATE = 1,
	SNAP_EXPORT_DISKS = 2,
	SNAP_EXPORT_META = 3,
	SNAP_EXPORT_WS = 4,
	SNAP_EXPORT_PAGE = 5,  /* page numbers, 4 bytes each, ascending; then the pages */
	SNAP_EXPORT_LAYER = 6, /* no payload; where: the length of the file that begins */
	SNAP_EXPORT_BYTES = 7, /* of the layer, from `where` on, ascending */
	SNAP_EXPORT_END = 8,   /* no payload; where: chunks before it */
};

struct snap_export_chunk {
	uint32_t type; /* enum snap_export_type */
	uint32_t
		crc; /* CRC-32C, going on with the chunk before, of this with `crc` zero and its payload */
	uint32_t len; /* of the payload as it comes */
	uint32_t raw; /* unpacked; more than len: it is an LZ4 block */
	uint64_t where;
	uint8_t id[SNAP_ID_LEN]; /* LAYER: of the layer; else zero */
};
static_assert(sizeof(struct snap_export_chunk) == 40, "struct snap_export_chunk");
static_assert(offsetof(struct snap_export_chunk, where) == 16, "snap_export_chunk.where");

#endif
