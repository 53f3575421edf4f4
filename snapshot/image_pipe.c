/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/image_pipe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image_lz4.h"

#define BATCHES      4u
#define BATCH_BLOCKS 16u /* 1 MiB: what one write() takes */
#define BATCH_PAGES  (BATCH_BLOCKS * SNAP_IMAGE_BLOCK_PAGES)
#define BATCH_LEN    (BATCH_BLOCKS * BLOCK)
#define WORDS        (BATCH_PAGES / 64)
#define NO_BATCH     UINT64_MAX

enum batch_state { BATCH_FREE, BATCH_FILLED, BATCH_DONE };

struct batch {
	enum batch_state state; /* lock */
	uint64_t number;        /* of all: its first slot / BATCH_PAGES */
	uint64_t have[WORDS];   /* pages that were put */
	unsigned pages;         /* of the last one put, and 1 */
	uint8_t *in, *out;      /* out: lz4 only; each block at its own place */
	struct snap_image_block block[BATCH_BLOCKS];
};

struct pipe {
	struct io_stage *stage;
	uint64_t mem_off, pages, mem_len;
	enum snap_image_kind kind;
	struct batch batch[BATCHES];
	uint64_t open;              /* number of the batch being filled */
	unsigned fill, work, flush; /* places in the ring: caller's, thread's, caller's */
	struct snap_image_block *block;
	uint64_t block_count, block_cap;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	bool stop; /* lock */
	pthread_t thread;
	bool running;
};

/* --- the thread --------------------------------------------------------------------------------- */

static bool block_has(const struct batch *b, unsigned i)
{
	return b->have[i / 4] >> (i % 4 * SNAP_IMAGE_BLOCK_PAGES) & 0xffff;
}

static uint64_t block_raw(const struct pipe *pipe, const struct batch *b, unsigned i)
{
	uint64_t end =
		pipe->kind == SNAP_IMAGE_FLAT ? pipe->pages - b->number * BATCH_PAGES : b->pages;
	uint64_t left = end - i * SNAP_IMAGE_BLOCK_PAGES;

	return (left < SNAP_IMAGE_BLOCK_PAGES ? left : SNAP_IMAGE_BLOCK_PAGES) * PAGE;
}

static void work_block(const struct pipe *pipe, struct batch *b, unsigned i)
{
	const uint8_t *bytes = b->in + i * BLOCK;
	uint32_t raw = (uint32_t)block_raw(pipe, b, i), len = raw;

	if (pipe->kind == SNAP_IMAGE_LZ4) {
		uint8_t *to = b->out + i * BLOCK;
		len = lz4_pack(bytes, raw, to);
		if (len < raw)
			bytes = to;
	}
	b->block[i] = (struct snap_image_block){.len = len, .crc = crc32c(bytes, len)};
}

static unsigned batch_blocks(const struct pipe *pipe, const struct batch *b)
{
	uint64_t left =
		pipe->kind == SNAP_IMAGE_FLAT ? pipe->pages - b->number * BATCH_PAGES : b->pages;

	if (left > BATCH_PAGES)
		left = BATCH_PAGES;
	return (unsigned)((left + SNAP_IMAGE_BLOCK_PAGES - 1) / SNAP_IMAGE_BLOCK_PAGES);
}

static void work_batch(const struct pipe *pipe, struct batch *b)
{
	for (unsigned i = 0; i < batch_blocks(pipe, b); i++)
		if (block_has(b, i))
			work_block(pipe, b, i);
		else
			b->block[i] = (struct snap_image_block){.len = 0};
}

static void *work(void *arg)
{
	struct pipe *pipe = arg;

	VERIFY(pthread_mutex_lock(&pipe->lock) == 0);
	for (;;) {
		struct batch *b = &pipe->batch[pipe->work];
		while (!pipe->stop && b->state != BATCH_FILLED)
			pthread_cond_wait(&pipe->moved, &pipe->lock);
		if (pipe->stop)
			break;
		pthread_mutex_unlock(&pipe->lock);
		work_batch(pipe, b);
		VERIFY(pthread_mutex_lock(&pipe->lock) == 0);
		b->state = BATCH_DONE;
		pipe->work = (pipe->work + 1) % BATCHES;
		pthread_cond_broadcast(&pipe->moved);
	}
	pthread_mutex_unlock(&pipe->lock);
	return NULL;
}

/* --- the caller --------------------------------------------------------------------------------- */

static int keep_blocks(struct pipe *pipe, uint64_t first, const struct batch *b, struct errmsg *why)
{
	uint64_t end = first + batch_blocks(pipe, b);

	if (end > pipe->block_cap) {
		uint64_t cap = end > 2 * pipe->block_cap ? end + 256 : 2 * pipe->block_cap;
		struct snap_image_block *grown = realloc(pipe->block, cap * sizeof(*grown));
		if (!grown)
			return err_set(why, ENOMEM, "snapshot");
		pipe->block = grown;
		pipe->block_cap = cap;
	}
	/* Batches of a flat image in which there is nothing are passed over: holes. */
	memset(pipe->block + pipe->block_count, 0,
	       (first - pipe->block_count) * sizeof(*pipe->block));
	memcpy(pipe->block + first, b->block, (end - first) * sizeof(*pipe->block));
	pipe->block_count = end;
	return 0;
}

/* Neighbouring pages in one write; what is not there stays a hole. */
static int write_flat(struct pipe *pipe, const struct batch *b, struct errmsg *why)
{
	uint64_t base = pipe->mem_off + b->number * BATCH_LEN;
	int err = 0;

	for (unsigned from = 0; !err && from < BATCH_PAGES;) {
		unsigned end = from;
		while (end < BATCH_PAGES && b->have[end / 64] >> end % 64 & 1)
			end++;
		if (end > from)
			err = io_write(pipe->stage, b->in + from * PAGE, (end - from) * PAGE,
				       base + from * PAGE, why);
		from = end + 1;
	}
	if (!err)
		io_start_sync(pipe->stage, base, BATCH_LEN);
	return err;
}

/* Blocks lie one after the other: moved together, then one write. */
static int write_packed(struct pipe *pipe, const struct batch *b, struct errmsg *why)
{
	uint8_t *to = pipe->kind == SNAP_IMAGE_LZ4 ? b->out : b->in;
	uint64_t len = 0, at = pipe->mem_off + pipe->mem_len;

	for (unsigned i = 0; i < batch_blocks(pipe, b); i++) {
		bool raw = b->block[i].len == block_raw(pipe, b, i);
		memmove(to + len, (raw ? b->in : b->out) + i * BLOCK, b->block[i].len);
		len += b->block[i].len;
	}
	int err = io_write(pipe->stage, to, len, at, why);
	if (!err)
		io_start_sync(pipe->stage, at, len);
	pipe->mem_len += len;
	return err;
}

static int flush_batch(struct pipe *pipe, struct errmsg *why)
{
	struct batch *b = &pipe->batch[pipe->flush];
	int err = keep_blocks(pipe, b->number * BATCH_BLOCKS, b, why);

	if (!err)
		err = pipe->kind == SNAP_IMAGE_FLAT ? write_flat(pipe, b, why)
						    : write_packed(pipe, b, why);
	cleanup_unlock pthread_mutex_t *held = hold(&pipe->lock);
	b->state = BATCH_FREE;
	pipe->flush = (pipe->flush + 1) % BATCHES;
	return err;
}

/* Waits for the batch at `flush`, when it has been filled.  True: it is done. */
static bool next_done(struct pipe *pipe, bool wait)
{
	cleanup_unlock pthread_mutex_t *held = hold(&pipe->lock);
	const struct batch *b = &pipe->batch[pipe->flush];

	while (wait && b->state == BATCH_FILLED)
		pthread_cond_wait(&pipe->moved, &pipe->lock);
	return b->state == BATCH_DONE;
}

static void hand_over(struct pipe *pipe)
{
	cleanup_unlock pthread_mutex_t *held = hold(&pipe->lock);

	pipe->batch[pipe->fill].state = BATCH_FILLED;
	pipe->fill = (pipe->fill + 1) % BATCHES;
	pipe->open = NO_BATCH;
	pthread_cond_broadcast(&pipe->moved);
}

static int begin_batch(struct pipe *pipe, uint64_t number, struct errmsg *why)
{
	struct batch *b = &pipe->batch[pipe->fill];
	int err = 0;

	while (!err && next_done(pipe, false))
		err = flush_batch(pipe, why);
	if (!err && b->state != BATCH_FREE) { /* the ring is full: b is the oldest */
		next_done(pipe, true);
		err = flush_batch(pipe, why);
	}
	if (err)
		return err;
	memset(b->have, 0, sizeof(b->have));
	if (pipe->kind == SNAP_IMAGE_FLAT)
		memset(b->in, 0, BATCH_LEN);
	b->number = number;
	pipe->open = number;
	return 0;
}

uint8_t *pipe_put(struct pipe *pipe, uint64_t slot, int *err, struct errmsg *why)
{
	uint64_t number = slot / BATCH_PAGES;
	unsigned at = (unsigned)(slot % BATCH_PAGES);

	if (pipe->open != number) {
		if (pipe->open != NO_BATCH)
			hand_over(pipe);
		*err = begin_batch(pipe, number, why);
		if (*err)
			return NULL;
	}
	struct batch *b = &pipe->batch[pipe->fill];
	b->have[at / 64] |= UINT64_C(1) << at % 64;
	b->pages = at + 1;
	return b->in + at * PAGE;
}

int pipe_finish(struct pipe *pipe, const struct snap_image_block **block, uint64_t *block_count,
		uint64_t *mem_len, struct errmsg *why)
{
	int err = 0;

	if (pipe->open != NO_BATCH)
		hand_over(pipe);
	while (!err && next_done(pipe, true))
		err = flush_batch(pipe, why);
	if (!err && pipe->kind == SNAP_IMAGE_FLAT) {
		struct batch end = {.number = (pipe->pages + BATCH_PAGES - 1) / BATCH_PAGES};
		uint64_t all = (pipe->pages + SNAP_IMAGE_BLOCK_PAGES - 1) / SNAP_IMAGE_BLOCK_PAGES;
		if (pipe->block_count < all) {
			end.number = (all - 1) / BATCH_BLOCKS;
			uint64_t first = end.number * BATCH_BLOCKS;
			if (first >= pipe->block_count)
				err = keep_blocks(pipe, first, &end, why);
		}
		pipe->mem_len = pipe->pages * PAGE;
	}
	*block = pipe->block;
	*block_count = pipe->block_count;
	*mem_len = pipe->mem_len;
	return err;
}

static int alloc_batches(struct pipe *pipe)
{
	for (unsigned i = 0; i < BATCHES; i++) {
		struct batch *b = &pipe->batch[i];
		b->in = aligned_alloc(PAGE, BATCH_LEN);
		b->out = pipe->kind == SNAP_IMAGE_LZ4 ? aligned_alloc(PAGE, BATCH_LEN) : NULL;
		if (!b->in || (pipe->kind == SNAP_IMAGE_LZ4 && !b->out))
			return -ENOMEM;
	}
	return 0;
}

int pipe_create(struct pipe **out, struct io_stage *stage, uint64_t mem_off, uint64_t pages,
		enum snap_image_kind kind, struct errmsg *why)
{
	struct pipe *pipe = calloc(1, sizeof(*pipe));

	if (!pipe)
		return err_set(why, ENOMEM, "snapshot");
	pipe->stage = stage;
	pipe->mem_off = mem_off;
	pipe->pages = pages;
	pipe->kind = kind;
	pipe->open = NO_BATCH;
	VERIFY(pthread_mutex_init(&pipe->lock, NULL) == 0);
	VERIFY(pthread_cond_init(&pipe->moved, NULL) == 0);
	int err = alloc_batches(pipe);
	if (!err)
		err = -pthread_create(&pipe->thread, NULL, work, pipe);
	pipe->running = !err;
	if (err) {
		pipe_destroy(pipe);
		return err_set(why, err, "snapshot: thread that compresses");
	}
	*out = pipe;
	return 0;
}

static void stop_thread(struct pipe *pipe)
{
	{
		cleanup_unlock pthread_mutex_t *held = hold(&pipe->lock);
		pipe->stop = true;
		pthread_cond_broadcast(&pipe->moved);
	}
	VERIFY(pthread_join(pipe->thread, NULL) == 0);
}

void pipe_destroy(struct pipe *pipe)
{
	if (!pipe)
		return;
	if (pipe->running)
		stop_thread(pipe);
	for (unsigned i = 0; i < BATCHES; i++) {
		free(pipe->batch[i].in);
		free(pipe->batch[i].out);
	}
	free(pipe->block);
	pthread_cond_destroy(&pipe->moved);
	pthread_mutex_destroy(&pipe->lock);
	free(pipe);
}
