/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of memory from a file: read, checked, decompressed.  The last one is kept. */
#include "snapshot/image_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image_io.h"
#include "snapshot/image_lz4.h"

static int bad_block(const struct snap_image *image, uint64_t b, const char *what,
		     struct errmsg *why)
{
	return image_bad(why, "%s: block %llu of its memory %s", snap_id_text(image->head.id).text,
			 (unsigned long long)b, what);
}

static uint64_t block_off(const struct snap_image *image, uint64_t b)
{
	return image->section[SNAP_IMAGE_MEM]->off +
	       (image->block_off ? image->block_off[b] : b * BLOCK);
}

static int buffers(struct snap_image *image, struct errmsg *why)
{
	if (!image->cache)
		image->cache = malloc(BLOCK);
	if (!image->stored)
		image->stored = malloc(BLOCK);
	return image->cache && image->stored ? 0 : err_set(why, ENOMEM, "snapshot");
}

static int fill_cache(struct snap_image *image, uint64_t b, struct errmsg *why)
{
	uint32_t len = image->block[b].len;
	uint64_t raw = index_block_raw(image, b);
	uint8_t *to = len == raw ? image->cache : image->stored;

	if (!len) { /* a hole of a flat image */
		memset(image->cache, 0, raw);
		return 0;
	}
	int err = io_read(image->fd, to, len, block_off(image, b), why);
	if (err)
		return err;
	if (crc32c(to, len) != image->block[b].crc)
		return bad_block(image, b, "is damaged", why);
	if (len < raw && !lz4_unpack(to, len, image->cache, (uint32_t)raw))
		return bad_block(image, b, "cannot be decompressed", why);
	return 0;
}

int image_read_block(struct snap_image *image, uint64_t b, struct errmsg *why)
{
	if (image->cached == b)
		return 0;
	image->cached = NO_BLOCK;
	int err = buffers(image, why);
	if (!err)
		err = fill_cache(image, b, why);
	if (!err)
		image->cached = b;
	return err;
}

int image_read_slot(struct snap_image *image, uint64_t slot, enum image_check check, uint8_t *to,
		    struct errmsg *why)
{
	uint64_t b = slot / SNAP_IMAGE_BLOCK_PAGES;

	if (check == IMAGE_UNCHECKED && image->index.kind != SNAP_IMAGE_LZ4 && image->cached != b)
		return io_read(image->fd, to, PAGE,
			       image->section[SNAP_IMAGE_MEM]->off + slot * PAGE, why);
	int err = image_read_block(image, b, why);
	if (!err)
		memcpy(to, image->cache + slot % SNAP_IMAGE_BLOCK_PAGES * PAGE, PAGE);
	return err;
}

/* --- verify ------------------------------------------------------------------------------------- */

/* Bytes [from, end) read as zero; holes are passed over. */
static int check_zero(const struct snap_image *image, uint64_t from, uint64_t end,
		      struct errmsg *why)
{
	static const uint8_t zero[PAGE];
	uint8_t buf[PAGE];

	while (from < end) {
		off_t data = lseek(image->fd, (off_t)from, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return 0;
		if (data >= 0 && (uint64_t)data > from)
			from = (uint64_t)data;
		if (from >= end)
			return 0;
		size_t len = end - from < PAGE ? end - from : PAGE;
		int err = io_read(image->fd, buf, len, from, why);
		if (err)
			return err;
		if (memcmp(buf, zero, len) != 0)
			return image_bad(why, "%s: bytes where none may be, at %llu",
					 snap_id_text(image->head.id).text,
					 (unsigned long long)from);
		from += len;
	}
	return 0;
}

static int verify_gaps(const struct snap_image *image, struct errmsg *why)
{
	uint64_t from = sizeof(image->head);
	int err = 0;

	for (unsigned i = 0; !err && i < SNAP_IMAGE_SECTIONS && image->head.section[i].type; i++) {
		err = check_zero(image, from, image->head.section[i].off, why);
		from = image->head.section[i].off + image->head.section[i].len;
	}
	return err;
}

/* Pages of a flat image that the index does not name must read as zero even where their block is stored. */
static int check_holes(const struct snap_image *image, struct errmsg *why)
{
	uint64_t off = image->section[SNAP_IMAGE_MEM]->off, next = 0;
	int err = 0;

	for (uint64_t i = 0; !err && i < image->index.group_count; i++) {
		const struct snap_image_group *g = &image->group[i];
		uint64_t first = (uint64_t)g->group * SNAP_IMAGE_GROUP_PAGES;
		for (unsigned p = 0; !err && p < SNAP_IMAGE_GROUP_PAGES; p++) {
			if (!(g->stored[p / 64] >> p % 64 & 1))
				continue;
			err = check_zero(image, off + next * PAGE, off + (first + p) * PAGE, why);
			next = first + p + 1;
		}
	}
	return err ? err
		   : check_zero(image, off + next * PAGE, off + image->head.pages * PAGE, why);
}

int snap_image_verify(struct snap_image *image, struct errmsg *why)
{
	int err = verify_gaps(image, why);

	for (uint64_t b = 0; !err && b < image->index.block_count; b++)
		if (image->block[b].len)
			err = image_read_block(image, b, why);
	image->cached = NO_BLOCK;
	if (!err && image->index.kind == SNAP_IMAGE_FLAT)
		err = check_holes(image, why);
	return err;
}
