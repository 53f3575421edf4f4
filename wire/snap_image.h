/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_image.h - a snapshot as it lies in its file, version 1
 *
 *   0        4096
 *   | header | STATE | DISKS | META | MEM ...             | MEMIDX | CHAIN | WS |
 *
 * Sections begin at multiples of 4096, a flat MEM at a multiple of 2 MiB; what lies between is zero.  A file is
 * never changed once it has its name.  Every section but MEM has its checksum in the header; MEM has one for each
 * block of 64 KiB in MEMIDX; so the header's own checksum, called the root, stands for the whole file.
 *
 * Kinds of memory:
 *   flat     page n lies at byte n * 4096 of MEM, pages of zeroes are holes; always a full image
 *   packed   the stored pages one after the other
 *   lz4      the stored pages one after the other, each 16 of them one LZ4 block; as they are where that saves
 *            less than 6 %
 * A stored page's place among the stored ones is its slot.  A page that is neither stored nor said to be zero is
 * its parent's; in a full image it is zero.
 *
 * An increment names its parent by id and root, never by a path.  CHAIN says where each page of the machine is
 * among the ancestors, so that a long chain costs nothing when it is loaded; it may be absent.
 * All numbers little-endian; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_IMAGE_H
#define SPORE_WIRE_SNAP_IMAGE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_IMAGE_MAGIC       "SPORSNAP"
#define SNAP_IMAGE_VERSION     1u
#define SNAP_IMAGE_X86_64      1u
#define SNAP_IMAGE_ALIGN       4096u
#define SNAP_IMAGE_FLAT_ALIGN  (2u << 20)
#define SNAP_IMAGE_SECTIONS    8u
#define SNAP_IMAGE_BLOCK_PAGES 16u
#define SNAP_IMAGE_BLOCK       65536u
#define SNAP_IMAGE_GROUP_PAGES 512u
#define SNAP_IMAGE_DEPTH_MAX   1024u
#define SNAP_IMAGE_CPUS_MAX    32u
#define SNAP_ID_LEN            16u

#define SNAP_META_MAX   65536u /* bytes */
#define SNAP_DISKS_MAX  8u
#define SNAP_LAYERS_MAX 1024u /* of all disks */
#define SNAP_DRIVE_LEN  32u
#define SNAP_WS_MAX     (64u << 20) /* bytes */

enum snap_image_type {
	SNAP_IMAGE_STATE = 1, /* snap.h */
	SNAP_IMAGE_DISKS = 2, /* snap_image_disks */
	SNAP_IMAGE_META = 3,  /* the writer's words */
	SNAP_IMAGE_MEM = 4,
	SNAP_IMAGE_MEMIDX = 5, /* snap_image_index */
	SNAP_IMAGE_CHAIN = 6,  /* snap_image_chain */
	SNAP_IMAGE_WS = 7,     /* snap_ws.h */
	SNAP_IMAGE_TYPES
};

struct snap_image_section {
	uint32_t type; /* 0: not used, and so are those behind it */
	uint32_t crc;  /* CRC-32C; MEM: 0 */
	uint64_t off;
	uint64_t len;
};
static_assert(sizeof(struct snap_image_section) == 24, "struct snap_image_section");
static_assert(offsetof(struct snap_image_section, off) == 8, "snap_image_section.off");

struct snap_image_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t arch;
	uint32_t page_size;
	uint32_t depth;                 /* number of ancestors */
	uint8_t id[SNAP_ID_LEN];        /* random */
	uint8_t parent_id[SNAP_ID_LEN]; /* zero: none */
	uint32_t parent_root;
	uint32_t cpus;
	uint64_t pages;   /* of the machine's RAM, the gap for devices not counted */
	uint64_t created; /* ns since 1970 */
	uint64_t file_len;
	uint32_t crc; /* the root: CRC-32C of the header's 4096 bytes with this field zero */
	uint32_t rsvd0;
	struct snap_image_section section[SNAP_IMAGE_SECTIONS]; /* in the order of their offsets */
	uint8_t rsvd1[SNAP_IMAGE_ALIGN - 96 - SNAP_IMAGE_SECTIONS * 24];
};
static_assert(sizeof(struct snap_image_header) == SNAP_IMAGE_ALIGN, "header");
static_assert(offsetof(struct snap_image_header, id) == 24, "header");
static_assert(offsetof(struct snap_image_header, parent_root) == 56, "header");
static_assert(offsetof(struct snap_image_header, pages) == 64, "header");
static_assert(offsetof(struct snap_image_header, crc) == 88, "header");
static_assert(offsetof(struct snap_image_header, section) == 96, "header");

enum snap_image_kind { SNAP_IMAGE_FLAT = 1, SNAP_IMAGE_PACKED = 2, SNAP_IMAGE_LZ4 = 3 };

/* 512 pages of the machine, of which at least one is stored or zero. */
struct snap_image_group {
	uint32_t group;     /* its first page is group * 512 */
	uint32_t rank;      /* pages stored in all groups before it */
	uint64_t stored[8]; /* a bit each page, the lowest first */
	uint64_t zero[8];   /* pages that are zero and were not in the parent; full images: none */
};
static_assert(sizeof(struct snap_image_group) == 136, "struct snap_image_group");
static_assert(offsetof(struct snap_image_group, stored) == 8, "snap_image_group.stored");

/* Blocks lie one after the other: packed and lz4.  Flat: a block for each 16 pages; len 0: all a hole. */
struct snap_image_block {
	uint32_t len; /* as it lies in MEM; what its pages take: as they are */
	uint32_t crc; /* CRC-32C of these bytes */
};
static_assert(sizeof(struct snap_image_block) == 8, "struct snap_image_block");

/* Groups follow in ascending order, then blocks. */
struct snap_image_index {
	uint32_t kind; /* enum snap_image_kind */
	uint32_t rsvd;
	uint64_t stored; /* pages */
	uint64_t zero;   /* pages */
	uint64_t group_count;
	uint64_t block_count;
};
static_assert(sizeof(struct snap_image_index) == 40, "struct snap_image_index");

/* `disk_count` disks follow, then the ids of all their layers, each disk's from the bottom to the top. */
struct snap_image_disks {
	uint32_t disk_count;
	uint32_t layer_count; /* of all disks */
};
static_assert(sizeof(struct snap_image_disks) == 8, "struct snap_image_disks");

struct snap_image_disk {
	uint8_t drive[SNAP_DRIVE_LEN]; /* [A-Za-z0-9_]+, filled up with zeroes */
	uint8_t base_id[SNAP_ID_LEN];  /* what the lowest layer lies on */
	uint64_t generation;           /* counts the layers ever sealed */
	uint32_t layer_count;
	uint32_t rsvd;
};
static_assert(sizeof(struct snap_image_disk) == 64, "struct snap_image_disk");
static_assert(offsetof(struct snap_image_disk, generation) == 48, "snap_image_disk.generation");

/* An ancestor that holds pages. */
struct snap_image_layer {
	uint8_t id[SNAP_ID_LEN];
	uint32_t root;
	uint32_t rsvd;
};
static_assert(sizeof(struct snap_image_layer) == 24, "struct snap_image_layer");

#define SNAP_IMAGE_ZERO UINT32_MAX

struct snap_image_run {
	uint32_t page, count;
	uint32_t layer; /* 0: this file; n: the n-th of the layers; SNAP_IMAGE_ZERO */
	uint32_t slot;  /* of the first page; in a flat layer its page */
};
static_assert(sizeof(struct snap_image_run) == 16, "struct snap_image_run");

/* `layer_count` layers follow, then runs that cover all pages once and in order. */
struct snap_image_chain {
	uint32_t layer_count;
	uint32_t run_count;
};
static_assert(sizeof(struct snap_image_chain) == 8, "struct snap_image_chain");

#endif
