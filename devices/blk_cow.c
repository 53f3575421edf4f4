/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write overlay.
 *
 * Read: cut into runs that one place holds (a layer, the image, nowhere), one after the other.
 *
 * Write: a block that this layer does not hold yet is written whole: what the guest left out of its first
 * and last block is read from below and goes into the same write.  When the write is done, the blocks
 * are marked as held.  Zeroing and discarding punch a hole and mark the blocks as zero; edges that
 * cover a block in part are written as zeroes (zeroing) or left alone (discarding).
 *
 * Requests that change the same block wait for each other, in the order they came (a range of blocks is
 * held from start to finish).  Reads wait for nobody: what is being replaced reads as before or after,
 * and the bytes a guest does not overlap itself are the same in both.
 *
 * Thread: io; create and destroy ctl.
 */
#include "devices/blk_cow_int.h"

#include <assert.h>
#include <string.h>

#define SRC_ZERO (-1)
#define SRC_BASE (-2)

_Static_assert(COW_BLOCK_MAX <= BLK_ZEROES, "an edge is zeroed in one piece");

static inline uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- the map ------------------------------------------------------------------------------------ */
static void cow_mark(struct cow *cow, uint64_t first, uint64_t end, enum cow_state state)
{
	assert(first <= end && end <= cow_top(cow)->blocks);
	for (uint64_t block = first; block < end; block++) {
		uint64_t page = block / 4 / COW_MAP_PAGE;
		if (cow_map_get(cow->top.map, block) == state)
			continue;
		cow_map_set(cow->top.map, block, state);
		cow->top.dirty[page / 64] |= UINT64_C(1) << page % 64;
		cow->where[block] = (uint8_t)(state == COW_HERE ? cow->layer_count : WHERE_ZERO);
	}
}

static bool cow_holds(const struct cow *cow, uint64_t block)
{
	return cow->where[block] == cow->layer_count;
}

/* Who has the byte at `off`: a layer's index, SRC_BASE or SRC_ZERO. */
static int cow_source(const struct cow *cow, uint64_t off)
{
	uint8_t where = cow->where[off / cow->block];

	if (where == WHERE_ZERO)
		return SRC_ZERO;
	if (where != WHERE_BELOW)
		return where - 1;
	return cow->base && off < cow->base->size ? SRC_BASE : SRC_ZERO;
}

/* The end of the run that begins at `off`, in which one place holds all. */
static uint64_t cow_run_end(const struct cow *cow, uint64_t off, uint64_t stop, int src)
{
	uint64_t end = off;

	while (end < stop && cow_source(cow, end) == src)
		end = min64(stop, (end / cow->block + 1) * cow->block);
	return src == SRC_BASE ? min64(end, cow->base->size) : end;
}

/* --- vectors ------------------------------------------------------------------------------------ */
/* Moves the first `len` bytes of a vector to `out`.  Return: how many pieces. */
static unsigned iov_take(struct iovec **iov, unsigned *count, uint64_t len, struct iovec *out)
{
	unsigned n = 0;

	for (uint64_t left = len; left;) {
		assert(*count && n < BLK_IOV_MAX);
		uint64_t piece = min64(left, (*iov)->iov_len);
		out[n++] = (struct iovec){(*iov)->iov_base, (size_t)piece};
		*count = blk_iov_skip(iov, *count, piece);
		left -= piece;
	}
	return n;
}

static void iov_zero(struct iovec **iov, unsigned *count, uint64_t len)
{
	while (len) {
		assert(*count);
		uint64_t piece = min64(len, (*iov)->iov_len);
		memset((*iov)->iov_base, 0, (size_t)piece); /* payload: written, never looked at */
		*count = blk_iov_skip(iov, *count, piece);
		len -= piece;
	}
}

/* --- ends of requests --------------------------------------------------------------------------- */
static void cow_admit_waiting(struct cow *cow);

static void cow_let_go(struct cow_req *req)
{
	struct cow *cow = req->cow;

	for (unsigned i = 0; i < cow->holding_count; i++)
		if (cow->holding[i] == req) {
			cow->holding[i] = cow->holding[--cow->holding_count];
			return;
		}
}

static void cow_finish(struct cow_req *req, int err)
{
	struct cow *cow = req->cow;
	struct blk_op *op = req->op;

	cow_let_go(req);
	cow->free[cow->free_count++] = (uint16_t)(req - cow->req);
	op->done(op, err);
	cow_admit_waiting(cow);
}

static void cow_sub(struct cow_req *req, struct blk_backend *to, enum blk_kind kind, uint64_t off,
		    uint64_t len)
{
	req->sub.kind = kind;
	req->sub.off = off;
	req->sub.len = len;
	blk_submit(to, &req->sub);
}

/* --- reading ------------------------------------------------------------------------------------ */
static void cow_read_step(struct cow_req *req);

static void cow_read_done(struct blk_op *sub, int err)
{
	struct cow_req *req = container_of(sub, struct cow_req, sub);

	if (err) {
		cow_finish(req, err);
		return;
	}
	req->pos += req->run;
	cow_read_step(req);
}

static void cow_read_run(struct cow_req *req, int src)
{
	const struct cow_file *layer = src >= 0 ? &req->cow->layer[src] : NULL;

	req->sub.done = cow_read_done;
	req->sub.iov = req->iov;
	req->sub.count = iov_take(&req->to, &req->to_count, req->run, req->iov);
	cow_sub(req, layer ? layer->file : req->cow->base, BLK_READ,
		req->pos + (layer ? layer->data_off : 0), req->run);
}

/* Reads [pos, stop) into `to`, then goes on with filled(). */
static void cow_read_step(struct cow_req *req)
{
	while (req->pos < req->stop) {
		int src = cow_source(req->cow, req->pos);
		req->run = cow_run_end(req->cow, req->pos, req->stop, src) - req->pos;
		if (src != SRC_ZERO) {
			cow_read_run(req, src);
			return;
		}
		iov_zero(&req->to, &req->to_count, req->run);
		req->pos += req->run;
	}
	req->filled(req);
}

static void cow_done_ok(struct cow_req *req)
{
	cow_finish(req, 0);
}

static void cow_read(struct cow_req *req)
{
	req->pos = req->op->off;
	req->stop = req->op->off + req->op->len;
	req->to = req->op->iov;
	req->to_count = req->op->count;
	req->filled = cow_done_ok;
	cow_read_step(req);
}

/* --- writing ------------------------------------------------------------------------------------ */
static void cow_write_done(struct blk_op *sub, int err)
{
	struct cow_req *req = container_of(sub, struct cow_req, sub);
	struct cow *cow = req->cow;

	if (err) {
		cow_finish(req, err);
		return;
	}
	cow_mark(cow, req->w_off / cow->block, (req->w_end + cow->block - 1) / cow->block,
		 COW_HERE);
	req->after(req);
}

/* Head, the guest's bytes, tail: whole blocks where this layer had none. */
static void cow_write_data(struct cow_req *req)
{
	struct cow_file *top = cow_top(req->cow);
	uint64_t off = req->w_off - req->head_len, end = req->w_end + req->tail_len;
	unsigned n = 0;

	if (req->head_len)
		req->iov[n++] = (struct iovec){req->bounce, req->head_len};
	memcpy(req->iov + n, req->from, req->from_count * sizeof(*req->from));
	n += req->from_count;
	if (req->tail_len)
		req->iov[n++] = (struct iovec){req->bounce + req->cow->block, req->tail_len};
	req->sub.done = cow_write_done;
	req->sub.iov = req->iov;
	req->sub.count = n;
	cow_sub(req, top->file, BLK_WRITE, top->data_off + off, end - off);
}

static void cow_fill(struct cow_req *req, uint64_t off, uint32_t len, uint8_t *to,
		     void (*filled)(struct cow_req *req))
{
	req->edge = (struct iovec){to, len};
	req->to = &req->edge;
	req->to_count = 1;
	req->pos = off;
	req->stop = off + len;
	req->filled = filled;
	cow_read_step(req);
}

static void cow_fill_tail(struct cow_req *req)
{
	if (req->tail_len)
		cow_fill(req, req->w_end, req->tail_len, req->bounce + req->cow->block,
			 cow_write_data);
	else
		cow_write_data(req);
}

/* Writes [off, end) from `from`, marks it, then goes on with after(). */
static void cow_write_range(struct cow_req *req, uint64_t off, uint64_t end, struct iovec *from,
			    unsigned count)
{
	struct cow *cow = req->cow;
	uint32_t into = (uint32_t)(off % cow->block), over = (uint32_t)(end % cow->block);

	req->w_off = off;
	req->w_end = end;
	req->from = from;
	req->from_count = count;
	req->head_len = into && !cow_holds(cow, off / cow->block) ? into : 0;
	req->tail_len = over && !cow_holds(cow, end / cow->block) ? cow->block - over : 0;
	if (req->head_len)
		cow_fill(req, off - into, into, req->bounce, cow_fill_tail);
	else
		cow_fill_tail(req);
}

static void cow_write(struct cow_req *req)
{
	req->after = cow_done_ok;
	cow_write_range(req, req->op->off, req->op->off + req->op->len, req->op->iov,
			req->op->count);
}

/* --- zeroing and discarding --------------------------------------------------------------------- */
/* [off, head_end) and [tail_off, end) cover a block in part, [head_end, tail_off) whole ones. */
struct cow_cut {
	uint64_t off, head_end, tail_off, end;
};

static struct cow_cut cow_cut(const struct cow_req *req)
{
	uint64_t block = req->cow->block, off = req->op->off, end = off + req->op->len;
	/* What lies behind the end of the disk belongs to its last block. */
	uint64_t whole_end = end == req->cow->backend.size ? end : end / block * block;
	uint64_t head_end = min64(end, (off + block - 1) / block * block);

	return (struct cow_cut){off, head_end, whole_end > head_end ? whole_end : head_end, end};
}

static void cow_zero_edge(struct cow_req *req, uint64_t off, uint64_t end,
			  void (*after)(struct cow_req *req))
{
	req->after = after;
	if (off == end || cow_source(req->cow, off) == SRC_ZERO) {
		after(req);
		return;
	}
	/* One iovec for cow_write_data(), which copies it: the fill's use of `edge` comes in between. */
	req->iov[BLK_IOV_MAX] = (struct iovec){blk_zeroes, (size_t)(end - off)};
	cow_write_range(req, off, end, &req->iov[BLK_IOV_MAX], 1);
}

static void cow_zero_tail(struct cow_req *req)
{
	struct cow_cut cut = cow_cut(req);
	cow_zero_edge(req, cut.tail_off, cut.end, cow_done_ok);
}

static void cow_zero_edges(struct cow_req *req)
{
	struct cow_cut cut = cow_cut(req);

	if (req->op->kind == BLK_DISCARD)
		cow_finish(req, 0);
	else
		cow_zero_edge(req, cut.off, cut.head_end, cow_zero_tail);
}

static void cow_zero_whole(struct cow_req *req)
{
	struct cow_cut cut = cow_cut(req);
	uint64_t block = req->cow->block;

	if (cut.head_end < cut.tail_off)
		cow_mark(req->cow, cut.head_end / block, (cut.tail_off + block - 1) / block,
			 COW_ZERO);
	cow_zero_edges(req);
}

static void cow_punched(struct blk_op *sub, int err)
{
	struct cow_req *req = container_of(sub, struct cow_req, sub);

	if (err)
		cow_finish(req, err);
	else
		cow_zero_whole(req);
}

static void cow_zero(struct cow_req *req)
{
	struct cow *cow = req->cow;
	struct cow_cut cut = cow_cut(req);
	bool held = false;

	for (uint64_t off = cut.head_end; off < cut.tail_off && !held; off += cow->block)
		held = cow_holds(cow, off / cow->block);
	if (!held) {
		cow_zero_whole(req);
		return;
	}
	req->sub.done = cow_punched;
	cow_sub(req, cow_top(cow)->file, BLK_DISCARD, cow_top(cow)->data_off + cut.head_end,
		cut.tail_off - cut.head_end);
}
/* --- beginnings of requests --------------------------------------------------------------------- */
static uint64_t op_first(const struct cow *cow, const struct blk_op *op)
{
	return op->off / cow->block;
}

static uint64_t op_end(const struct cow *cow, const struct blk_op *op)
{
	return (op->off + op->len + cow->block - 1) / cow->block;
}

static bool cow_may_start(const struct cow *cow, const struct blk_op *op)
{
	if (!cow->free_count)
		return false;
	if (op->kind == BLK_READ)
		return true;
	for (unsigned i = 0; i < cow->holding_count; i++)
		if (op_first(cow, op) < cow->holding[i]->end &&
		    cow->holding[i]->first < op_end(cow, op))
			return false;
	return true;
}

static void cow_start(struct cow *cow, struct blk_op *op)
{
	unsigned index = cow->free[--cow->free_count];
	struct cow_req *req = &cow->req[index];

	req->cow = cow;
	req->op = op;
	req->bounce = cow->bounce + 2ull * cow->block * index;
	if (op->kind == BLK_READ) {
		cow_read(req);
		return;
	}
	req->first = op_first(cow, op);
	req->end = op_end(cow, op);
	cow->holding[cow->holding_count++] = req;
	if (op->kind == BLK_WRITE)
		cow_write(req);
	else
		cow_zero(req);
}

/* In the order they came: one that must wait holds back those behind it. */
static void cow_admit_waiting(struct cow *cow)
{
	while (cow->wait_head && cow_may_start(cow, cow->wait_head)) {
		struct blk_op *op = cow->wait_head;
		cow->wait_head = op->next;
		if (!cow->wait_head)
			cow->wait_tail = &cow->wait_head;
		cow_start(cow, op);
	}
}

void cow_submit(struct blk_backend *backend, struct blk_op *op)
{
	struct cow *cow = cow_of(backend);

	assert(op->len <= backend->size && op->off <= backend->size - op->len);
	op->backend = backend;
	if (op->kind == BLK_FLUSH) {
		cow_flush(cow, op);
	} else if (!op->len) {
		op->done(op, 0);
	} else if ((cow->wait_head && op->kind != BLK_READ) || !cow_may_start(cow, op)) {
		op->next = NULL;
		*cow->wait_tail = op;
		cow->wait_tail = &op->next;
	} else {
		cow_start(cow, op);
	}
}
