/* SPDX-License-Identifier: Apache-2.0 */
/* image_impl.h - what the files of snapshot/image*.c share; nobody else includes it. */
#ifndef SPORE_SNAPSHOT_IMAGE_IMPL_H
#define SPORE_SNAPSHOT_IMAGE_IMPL_H

#include "snapshot/image.h"

#define PAGE  SNAP_PAGE_SIZE
#define BLOCK SNAP_IMAGE_BLOCK

#define NO_BLOCK UINT64_MAX

struct snap_image {
	int fd;
	struct snap_image_header head;
	const struct snap_image_section *section[SNAP_IMAGE_TYPES]; /* in head; NULL: absent */
	/* MEMIDX; the pointers lie in `index_bytes` */
	uint8_t *index_bytes;
	struct snap_image_index index;
	const struct snap_image_group *group;
	const struct snap_image_block *block;
	uint64_t *block_off; /* lz4: of each block in MEM; else NULL */
	/* the other sections; NULL: absent, or opened as an ancestor */
	uint8_t *state, *meta, *disk_bytes, *chain, *ws;
	struct snap_disk *disks;
	uint32_t disk_count;
	/* the block read last */
	uint8_t *cache, *stored;
	uint64_t cached;
};

struct snap_chain {
	struct snap_image **image; /* the head first */
	uint32_t count;
	struct snap_runs runs; /* of all pages; source: place in `image`; off: slot * page size */
};

enum image_part { IMAGE_ALL, IMAGE_MEMORY_ONLY };

int image_bad(struct errmsg *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* image_open.c */
int image_open(struct snap_image **out, int fd, enum image_part part, struct errmsg *why);
/* Reads a whole section and checks its sum; absent: *bytes is NULL.  @max: bytes. */
int image_section(const struct snap_image *image, enum snap_image_type type, uint64_t max,
		  uint8_t **bytes, struct errmsg *why);
bool image_id_is_zero(const uint8_t id[SNAP_ID_LEN]);
uint64_t image_len(const struct snap_image *image, enum snap_image_type type);

/* image_index.c */
int index_parse(struct snap_image *image, struct errmsg *why);
/* Stored and zero pages as runs of `source`; off counts slots (flat: pages). */
int index_runs(const struct snap_image *image, uint32_t source, struct snap_runs *out);
/* Is the page stored, and no hole that a flat image's runs bridge?  Logarithmic. */
bool index_stores(const struct snap_image *image, uint64_t page);
/* Bytes that block `b` takes when it is not compressed. */
uint64_t index_block_raw(const struct snap_image *image, uint64_t b);

/* image_read.c */
enum image_check { IMAGE_CHECKED, IMAGE_UNCHECKED };
/* The page in `slot`; unchecked it is read alone where the file is raw. */
int image_read_slot(struct snap_image *image, uint64_t slot, enum image_check check, uint8_t *to,
		    struct errmsg *why);
/* Reads block `b` into image->cache and checks it. */
int image_read_block(struct snap_image *image, uint64_t b, struct errmsg *why);

/* image_disks.c: DISKS in both directions.  The encoded bytes are malloc'ed. */
int disks_encode(const struct snap_disk *disks, uint32_t count, uint8_t **bytes, size_t *len,
		 struct errmsg *why);
int disks_parse(struct snap_image *image, struct errmsg *why);

/* image_chain.c: CHAIN for a head with these runs (source 0: its own) over `parent`; *bytes NULL: too many. */
int chain_encode(const struct snap_chain *parent, const struct snap_runs *own, uint8_t **bytes,
		 size_t *len);

#endif
