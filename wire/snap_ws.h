/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_ws.h - a working set: the pages that a machine touches first when it wakes, in one piece, version 1
 *
 *   | head | runs | blocks | data |
 *
 * Runs are in the order in which the pages were touched.  The data are their pages in that order, each 16 of them
 * one LZ4 block, as they are where that saves less than 6 %.  It is a section of a snapshot, or a file beside it,
 * which then names it.  All numbers little-endian; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_WS_H
#define SPORE_WIRE_SNAP_WS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/snap_image.h"

#define SNAP_WS_MAGIC   "SPORWSET"
#define SNAP_WS_VERSION 1u
#define SNAP_WS_PAGES_MAX \
	15360u /* 60 MiB: with its index below SNAP_WS_MAX, and no section is larger */

struct snap_ws_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t crc;                  /* CRC-32C of all but the data, with this field zero */
	uint8_t image_id[SNAP_ID_LEN]; /* zero: of the snapshot that it is a section of */
	uint32_t image_root;
	uint32_t page_count;
	uint32_t run_count;
	uint32_t block_count;
	uint64_t pages; /* of the machine */
	uint64_t len;   /* of all */
};
static_assert(sizeof(struct snap_ws_head) == 64, "struct snap_ws_head");
static_assert(offsetof(struct snap_ws_head, image_id) == 16, "snap_ws_head.image_id");
static_assert(offsetof(struct snap_ws_head, pages) == 48, "snap_ws_head.pages");

#define SNAP_WS_WRITTEN 0x80000000u

struct snap_ws_run {
	uint32_t page;
	uint32_t count; /* and SNAP_WS_WRITTEN: they were written, not only read */
};
static_assert(sizeof(struct snap_ws_run) == 8, "struct snap_ws_run");

#endif
