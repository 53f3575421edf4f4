/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flushing an overlay: the marks made so far are copied; the data becomes durable; the copies are
 * written; they become durable.  So the map on disk never says more than the data holds.  Flushes that
 * arrive meanwhile share the next round.  Where nothing was marked, one sync is all.
 *
 * Thread: io.
 */
#include "devices/blk_cow_int.h"

#include <string.h>

static void flush_begin(struct cow *cow);

static struct cow *cow_of_flush(struct blk_op *sub)
{
	struct cow_flush *flush = container_of(sub, struct cow_flush, sub);
	return container_of(flush, struct cow, flush);
}

/* Pages that were copied and did not get there are still to be written. */
static void flush_give_back(struct cow *cow)
{
	for (uint64_t i = 0; i < (cow_map_pages(cow_top(cow)) + 63) / 64; i++) {
		cow->top.dirty[i] |= cow->top.staged[i];
		cow->top.staged[i] = 0;
	}
}

static void flush_end(struct cow *cow, int err)
{
	struct blk_op *op = cow->flush.served;

	if (err)
		flush_give_back(cow);
	cow->flush.served = NULL;
	cow->flush.running = false;
	while (op) {
		struct blk_op *next = op->next;
		op->done(op, err);
		op = next;
	}
	if (cow->flush.waiting && !cow->flush.running)
		flush_begin(cow);
}

static void flush_submit(struct cow *cow, enum blk_kind kind, blk_done_fn *done)
{
	cow->flush.sub.kind = kind;
	cow->flush.sub.done = done;
	blk_submit(cow_top(cow)->file, &cow->flush.sub);
}

static void flush_durable(struct blk_op *sub, int err)
{
	struct cow *cow = cow_of_flush(sub);

	if (!err)
		memset(cow->top.staged, 0, (cow_map_pages(cow_top(cow)) + 63) / 64 * 8);
	flush_end(cow, err);
}

static void flush_wrote(struct blk_op *sub, int err);

/* Writes the next stretch of copied pages, or ends with the second sync. */
static void flush_write(struct cow *cow)
{
	struct cow_flush *flush = &cow->flush;
	uint64_t end = cow_map_pages(cow_top(cow));

	while (flush->page < end && !cow_bit(cow->top.staged, flush->page))
		flush->page++;
	for (flush->pages = 0; flush->page + flush->pages < end; flush->pages++)
		if (!cow_bit(cow->top.staged, flush->page + flush->pages))
			break;
	if (!flush->pages) {
		flush_submit(cow, BLK_FLUSH, flush_durable);
		return;
	}
	uint64_t off = flush->page * COW_MAP_PAGE, len = flush->pages * COW_MAP_PAGE;
	flush->iov = (struct iovec){cow->top.stage + off, (size_t)len};
	flush->sub.iov = &flush->iov;
	flush->sub.count = 1;
	flush->sub.off = COW_HEADER_LEN + off;
	flush->sub.len = len;
	flush_submit(cow, BLK_WRITE, flush_wrote);
}

static void flush_wrote(struct blk_op *sub, int err)
{
	struct cow *cow = cow_of_flush(sub);

	cow->flush.page += cow->flush.pages;
	if (err)
		flush_end(cow, err);
	else
		flush_write(cow);
}

static void flush_synced(struct blk_op *sub, int err)
{
	struct cow *cow = cow_of_flush(sub);

	cow->flush.page = 0;
	if (err)
		flush_end(cow, err);
	else
		flush_write(cow);
}

/* Copies the dirty pages.  Return: whether there were any. */
static bool flush_stage(struct cow *cow)
{
	const struct cow_file *top = cow_top(cow);
	bool any = false;

	for (uint64_t page = 0; page < cow_map_pages(top); page++) {
		if (!cow_bit(cow->top.dirty, page))
			continue;
		uint64_t off = page * COW_MAP_PAGE;
		memcpy(cow->top.stage + off, cow->top.map + off, COW_MAP_PAGE);
		cow->top.staged[page / 64] |= UINT64_C(1) << page % 64;
		cow->top.dirty[page / 64] &= ~(UINT64_C(1) << page % 64);
		any = true;
	}
	return any;
}

static void flush_begin(struct cow *cow)
{
	struct cow_flush *flush = &cow->flush;

	flush->running = true;
	flush->served = flush->waiting;
	flush->waiting = NULL;
	flush->sub.off = flush->sub.len = 0;
	flush_submit(cow, BLK_FLUSH, flush_stage(cow) ? flush_synced : flush_durable);
}

void cow_flush(struct cow *cow, struct blk_op *op)
{
	op->next = cow->flush.waiting;
	cow->flush.waiting = op;
	if (!cow->flush.running)
		flush_begin(cow);
}
