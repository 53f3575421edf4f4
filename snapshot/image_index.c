/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages an image has, and in which slots: MEMIDX. */
#include <stdlib.h>
#include <errno.h>
#include <string.h>

#include "snapshot/image_impl.h"

#define GROUP_WORDS    8u
#define WORD_PAGES     64u
#define BRIDGE_PAGES   512u /* smaller holes of a flat image are mapped: fewer runs */
#define BRIDGED_RUNS   (SNAP_MAPS_MAX / 2)
#define BLOCKS_A_GROUP (SNAP_IMAGE_GROUP_PAGES / SNAP_IMAGE_BLOCK_PAGES)

static uint64_t round_up(uint64_t val, uint64_t to)
{
	return (val + to - 1) / to;
}

/* The pages of block `b`: stored ones, or of the machine when it is flat. */
static uint64_t block_pages(const struct snap_image *image, uint64_t b)
{
	uint64_t all =
		image->index.kind == SNAP_IMAGE_FLAT ? image->head.pages : image->index.stored;
	uint64_t left = all - b * SNAP_IMAGE_BLOCK_PAGES;

	return left < SNAP_IMAGE_BLOCK_PAGES ? left : SNAP_IMAGE_BLOCK_PAGES;
}

uint64_t index_block_raw(const struct snap_image *image, uint64_t b)
{
	return block_pages(image, b) * PAGE;
}

static int check_shape(const struct snap_image *image, struct errmsg *why)
{
	const struct snap_image_index *x = &image->index;
	uint64_t pages = image->head.pages, len = image_len(image, SNAP_IMAGE_MEMIDX);
	bool flat = x->kind == SNAP_IMAGE_FLAT;

	if (x->kind < SNAP_IMAGE_FLAT || x->kind > SNAP_IMAGE_LZ4 || x->rsvd)
		return image_bad(why, "memory of unknown kind %u", x->kind);
	if (flat &&
	    (image->head.depth || image->section[SNAP_IMAGE_MEM]->off % SNAP_IMAGE_FLAT_ALIGN))
		return image_bad(why, "flat memory that cannot be mapped");
	if (x->stored > pages || x->zero > pages - x->stored ||
	    x->group_count > round_up(pages, SNAP_IMAGE_GROUP_PAGES) ||
	    x->block_count != round_up(flat ? pages : x->stored, SNAP_IMAGE_BLOCK_PAGES))
		return image_bad(why, "its index counts wrongly");
	if (len != sizeof(*x) + x->group_count * sizeof(*image->group) +
			   x->block_count * sizeof(*image->block))
		return image_bad(why, "its index has another length");
	return 0;
}

/* Bits of pages behind the end of the machine. */
static uint64_t word_behind(const struct snap_image *image, uint64_t first_page)
{
	uint64_t pages = image->head.pages;

	if (first_page + WORD_PAGES <= pages)
		return 0;
	return first_page >= pages ? UINT64_MAX : UINT64_MAX << (pages - first_page);
}

static int check_group(const struct snap_image *image, const struct snap_image_group *g,
		       uint64_t *stored, uint64_t *zero, struct errmsg *why)
{
	uint64_t seen = 0, first = (uint64_t)g->group * SNAP_IMAGE_GROUP_PAGES;

	if (g->rank != *stored)
		return image_bad(why, "its index ranks group %u wrongly", g->group);
	for (unsigned i = 0; i < GROUP_WORDS; i++) {
		uint64_t behind = word_behind(image, first + i * WORD_PAGES);
		if ((g->stored[i] & g->zero[i]) || ((g->stored[i] | g->zero[i]) & behind) ||
		    (g->zero[i] && !image->head.depth))
			return image_bad(why, "its index of group %u cannot be", g->group);
		seen |= g->stored[i] | g->zero[i];
		*stored += (uint64_t)__builtin_popcountll(g->stored[i]);
		*zero += (uint64_t)__builtin_popcountll(g->zero[i]);
	}
	return seen ? 0 : image_bad(why, "its index has an empty group %u", g->group);
}

static int check_groups(const struct snap_image *image, struct errmsg *why)
{
	uint64_t stored = 0, zero = 0, next = 0;
	int err = 0;

	for (uint64_t i = 0; !err && i < image->index.group_count; i++) {
		const struct snap_image_group *g = &image->group[i];
		if (g->group < next)
			return image_bad(why, "its index is out of order");
		next = (uint64_t)g->group + 1;
		err = check_group(image, g, &stored, &zero, why);
	}
	if (!err && (stored != image->index.stored || zero != image->index.zero))
		return image_bad(why, "its index counts wrongly");
	return err;
}

bool index_stores(const struct snap_image *image, uint64_t page)
{
	uint64_t low = 0, high = image->index.group_count;
	uint64_t number = page / SNAP_IMAGE_GROUP_PAGES, in = page % SNAP_IMAGE_GROUP_PAGES;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (image->group[middle].group < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < image->index.group_count && image->group[low].group == number &&
	       image->group[low].stored[in / WORD_PAGES] >> in % WORD_PAGES & 1;
}

/* Does a flat image store any page of block `b`?  *at goes up with b. */
static bool flat_block_stored(const struct snap_image *image, uint64_t b, uint64_t *at)
{
	uint64_t group = b / BLOCKS_A_GROUP, in = b % BLOCKS_A_GROUP;

	while (*at < image->index.group_count && image->group[*at].group < group)
		++*at;
	if (*at == image->index.group_count || image->group[*at].group != group)
		return false;
	return image->group[*at].stored[in / 4] >> (in % 4 * SNAP_IMAGE_BLOCK_PAGES) & 0xffff;
}

static int check_blocks(struct snap_image *image, struct errmsg *why)
{
	uint32_t kind = image->index.kind;
	uint64_t sum = 0, at = 0;

	for (uint64_t b = 0; b < image->index.block_count; b++) {
		const struct snap_image_block *block = &image->block[b];
		uint64_t raw = index_block_raw(image, b);
		bool hole = kind == SNAP_IMAGE_FLAT && !flat_block_stored(image, b, &at);
		bool good = kind == SNAP_IMAGE_LZ4 ? block->len && block->len <= raw
						   : block->len == (hole ? 0 : raw);
		if (!good || (hole && block->crc))
			return image_bad(why, "block %llu has a length that cannot be",
					 (unsigned long long)b);
		if (image->block_off)
			image->block_off[b] = sum;
		sum += kind == SNAP_IMAGE_FLAT ? raw : block->len;
	}
	return sum == image_len(image, SNAP_IMAGE_MEM)
		       ? 0
		       : image_bad(why, "its memory has another length than its blocks");
}

int index_parse(struct snap_image *image, struct errmsg *why)
{
	if (image_len(image, SNAP_IMAGE_MEMIDX) < sizeof(image->index))
		return image_bad(why, "its index is cut short");
	memcpy(&image->index, image->index_bytes, sizeof(image->index));
	int err = check_shape(image, why);
	if (err)
		return err;
	image->group = (const void *)(image->index_bytes + sizeof(image->index));
	image->block = (const void *)(image->group + image->index.group_count);
	if (image->index.kind == SNAP_IMAGE_LZ4) {
		image->block_off = malloc((image->index.block_count + 1) * sizeof(uint64_t));
		if (!image->block_off)
			return err_set(why, ENOMEM, "snapshot");
	}
	err = check_groups(image, why);
	return err ? err : check_blocks(image, why);
}

/* --- as runs ------------------------------------------------------------------------------------ */

/* How many bits are set one after the other from bit `from` on. */
static unsigned ones(uint64_t word, unsigned from)
{
	uint64_t rest = ~(word >> from);

	return rest ? (unsigned)__builtin_ctzll(rest) : WORD_PAGES;
}

static uint64_t mask(unsigned from, unsigned count)
{
	return (count == WORD_PAGES ? UINT64_MAX : (UINT64_C(1) << count) - 1) << from;
}

struct slots {
	struct snap_runs *out;
	uint32_t source;
	bool flat;
	uint64_t next; /* slot */
};

static int word_runs(struct slots *s, uint64_t page, uint64_t stored, uint64_t zero)
{
	uint64_t any = stored | zero;
	int err = 0;

	while (any && !err) {
		unsigned at = (unsigned)__builtin_ctzll(any);
		bool here = stored >> at & 1;
		unsigned count = ones(here ? stored : zero, at);
		struct snap_run run = {.page = page + at, .count = count, .kind = SNAP_RUN_ZERO};
		if (here) {
			run.kind = SNAP_RUN_MAP;
			run.source = s->source;
			run.off = (s->flat ? run.page : s->next) * PAGE;
			s->next += count;
		}
		err = snap_runs_add(s->out, &run);
		any &= ~mask(at, count);
	}
	return err;
}

/* Joins the runs of a flat image over holes of up to `gap` pages: they read as zeroes. */
static void bridge(struct snap_runs *runs, uint64_t gap)
{
	size_t kept = 0;

	for (size_t i = 1; i < runs->count; i++) {
		struct snap_run *last = &runs->run[kept];
		const struct snap_run *run = &runs->run[i];
		if (run->page - (last->page + last->count) <= gap)
			last->count = run->page + run->count - last->page;
		else
			runs->run[++kept] = *run;
	}
	if (runs->count)
		runs->count = kept + 1;
}

int index_runs(const struct snap_image *image, uint32_t source, struct snap_runs *out)
{
	struct slots s = {
		.out = out, .source = source, .flat = image->index.kind == SNAP_IMAGE_FLAT};
	int err = 0;

	for (uint64_t i = 0; !err && i < image->index.group_count; i++) {
		const struct snap_image_group *g = &image->group[i];
		uint64_t page = (uint64_t)g->group * SNAP_IMAGE_GROUP_PAGES;
		for (unsigned w = 0; !err && w < GROUP_WORDS; w++)
			err = word_runs(&s, page + w * WORD_PAGES, g->stored[w], g->zero[w]);
	}
	if (err || !s.flat)
		return err;
	for (uint64_t gap = BRIDGE_PAGES; gap == BRIDGE_PAGES || out->count > BRIDGED_RUNS;
	     gap *= 2)
		bridge(out, gap);
	return 0;
}
