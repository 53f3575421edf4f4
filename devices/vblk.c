/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: one queue of requests {header, data, status byte}.
 *
 *   kick -> pop all there is -> one backend request each -> (one system call) -> done() -> push
 *                                                           end of the turn: one interrupt
 *
 * Data goes between the backend and guest memory in place.  The header is copied once; the status is the
 * last writable byte, wherever the driver put it (framing is free, 2.7.4).  A request without room for
 * header or status cannot be answered and breaks the device; everything else gets a status.
 *
 * Sectors are 512 bytes, so that any image fits any guest; the topology says that 4 KiB is what is cheap.
 *
 * Requests live in a fixed pool, handed out last-in first-out: memory that a queue depth was never seen
 * to need is never touched.  Reset and quiesce wait for what is in flight: after them nothing writes to
 * guest memory any more.  A snapshot holds no requests, then, and what a ring still holds is looked at when
 * the device goes on, here or in another machine.  The rate limiter stands before vq_pop(): what it holds
 * back stays in the ring.
 *
 * Thread: io; vblk_config_read() any.
 */
#include "devices/vblk_int.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/snap_dev.h"

/* Feature bits, 5.2.3. */
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_TOPOLOGY     (UINT64_C(1) << 10)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

/* Request types and status, 5.2.6. */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
#define RANGE_UNMAP 1u

struct blk_hdr {
	uint32_t type, rsvd;
	uint64_t sector;
};
_Static_assert(sizeof(struct blk_hdr) == 16, "virtio 1.2, 5.2.6");

struct blk_range {
	uint64_t sector;
	uint32_t sectors, flags;
};
_Static_assert(sizeof(struct blk_range) == 16, "virtio 1.2, 5.2.6");

static struct vq *vblk_vq(struct vblk *blk)
{
	return &blk->dev.queue[0];
}

static uint64_t data_out(const struct vblk_req *req)
{
	return req->vq.readable_bytes - sizeof(struct blk_hdr);
}

static uint64_t data_in(const struct vblk_req *req)
{
	return req->vq.writable_bytes - 1;
}

/* --- guest side: the end of a request ----------------------------------------------------------- */
static void vblk_finish(struct vblk_req *req, uint8_t status, uint64_t written)
{
	struct vblk *blk = req->blk;
	struct vq *vq = vblk_vq(blk);

	/* `used.len` counts from the first writable byte: the status stands behind all data. */
	if (written == data_in(req))
		written++;
	if (vq_write(vq, &req->vq, data_in(req), &status, 1) != 1 ||
	    vq_push(vq, &req->vq, (uint32_t)written) == -EFAULT)
		dev_break(&blk->dev, "block queue: the used ring left memory");
	blk->free[blk->free_count++] = (uint16_t)(req - blk->req);
	loop_defer(blk->dev.loop, &blk->turn_end);
}

static void vblk_submit(struct vblk_req *req, enum blk_kind kind, uint64_t off, uint64_t len)
{
	req->op.kind = kind;
	req->op.off = off;
	req->op.len = len;
	blk_submit(req->blk->backend, &req->op);
}

static void vblk_next_range(struct vblk_req *req);

static void vblk_done(struct blk_op *op, int err)
{
	struct vblk_req *req = container_of(op, struct vblk_req, op);
	struct vblk *blk = req->blk;
	bool read = req->type == T_IN;

	/* A read that failed may have written anywhere in its range. */
	if (read)
		vq_mark_written(vblk_vq(blk), &req->vq, 0, data_in(req));
	if (err) {
		dev_log(&blk->dev, "io-error type=%u offset=%llu error=\"%s\"", req->type,
			(unsigned long long)op->off, strerror(-err));
		vblk_finish(req, S_IOERR, 0);
		return;
	}
	if (req->next_range < req->ranges) {
		vblk_next_range(req);
		return;
	}
	/* A driver that knows no flush believes that a completed write is durable (5.2.6.2). */
	if (op->kind != BLK_FLUSH && !read && blk->writeback && !(blk->dev.acked & F_FLUSH)) {
		vblk_submit(req, BLK_FLUSH, 0, 0);
		return;
	}
	vblk_finish(req, S_OK, read ? data_in(req) : 0);
}

/* --- guest side: its beginning, by type ----------------------------------------------------------- */
static bool in_disk(const struct vblk *blk, uint64_t sector, uint64_t bytes)
{
	uint64_t sectors = blk->backend ? blk->backend->size / BLK_SECTOR : 0;
	return sector <= sectors && bytes / BLK_SECTOR <= sectors - sector;
}

static void vblk_io(struct vblk_req *req, const struct blk_hdr *hdr)
{
	struct vblk *blk = req->blk;
	bool read = req->type == T_IN;
	uint64_t len = read ? data_in(req) : data_out(req);

	if (len % BLK_SECTOR || !in_disk(blk, hdr->sector, len) || (!read && blk->read_only)) {
		vblk_finish(req, S_IOERR, 0);
		return;
	}
	int count = read ? vq_iov_writable(vblk_vq(blk), &req->vq, 0, len, req->iov, BLK_IOV_MAX)
			 : vq_iov_readable(vblk_vq(blk), &req->vq, sizeof(*hdr), len, req->iov,
					   BLK_IOV_MAX);
	if (count < 0) {
		vblk_finish(req, S_IOERR, 0);
		return;
	}
	req->op.iov = req->iov;
	req->op.count = (unsigned)count;
	vblk_submit(req, read ? BLK_READ : BLK_WRITE, hdr->sector * BLK_SECTOR, len);
}

static void vblk_flush(struct vblk_req *req)
{
	if (req->blk->writeback && !req->blk->read_only)
		vblk_submit(req, BLK_FLUSH, 0, 0);
	else
		vblk_finish(req, S_OK, 0);
}

static void vblk_get_id(struct vblk_req *req)
{
	uint64_t len = data_in(req) < VBLK_ID_LEN ? data_in(req) : VBLK_ID_LEN;
	size_t put = vq_write(vblk_vq(req->blk), &req->vq, 0, req->blk->serial, (size_t)len);
	vblk_finish(req, S_OK, put);
}

static uint8_t range_check(const struct vblk_req *req, const struct blk_range *range)
{
	bool discard = req->type == T_DISCARD;

	if (range->flags & ~(discard ? 0 : RANGE_UNMAP))
		return S_UNSUPP; /* 5.2.6.2 */
	if (range->sectors > (discard ? VBLK_DISCARD_MAX : VBLK_ZERO_MAX))
		return S_IOERR;
	return in_disk(req->blk, range->sector, (uint64_t)range->sectors * BLK_SECTOR) ? S_OK
										       : S_IOERR;
}

/* Ranges are copied when their turn comes, each once. */
static void vblk_next_range(struct vblk_req *req)
{
	struct blk_range range;
	uint64_t off = sizeof(struct blk_hdr) + sizeof(range) * (uint64_t)req->next_range++;

	if (vq_read(vblk_vq(req->blk), &req->vq, off, &range, sizeof(range)) != sizeof(range)) {
		vblk_finish(req, S_IOERR, 0);
		return;
	}
	range = (struct blk_range){.sector = le64toh(range.sector),
				   .sectors = le32toh(range.sectors),
				   .flags = le32toh(range.flags)};
	uint8_t status = range_check(req, &range);
	if (status != S_OK) {
		vblk_finish(req, status, 0);
		return;
	}
	enum blk_kind kind = req->type == T_DISCARD      ? BLK_DISCARD
			     : range.flags & RANGE_UNMAP ? BLK_ZERO_UNMAP
							 : BLK_ZERO;
	vblk_submit(req, kind, range.sector * BLK_SECTOR, (uint64_t)range.sectors * BLK_SECTOR);
}

static void vblk_ranges(struct vblk_req *req)
{
	uint64_t count = data_out(req) / sizeof(struct blk_range);

	if (req->blk->read_only || data_out(req) % sizeof(struct blk_range) || !count ||
	    count > VBLK_RANGE_MAX) {
		vblk_finish(req, S_IOERR, 0);
		return;
	}
	req->ranges = (uint32_t)count;
	vblk_next_range(req);
}

static void vblk_start(struct vblk_req *req)
{
	struct vblk *blk = req->blk;
	struct blk_hdr hdr;

	if (!req->vq.writable_bytes ||
	    vq_read(vblk_vq(blk), &req->vq, 0, &hdr, sizeof(hdr)) != sizeof(hdr)) {
		blk->free[blk->free_count++] = (uint16_t)(req - blk->req);
		dev_break(&blk->dev, "block request without a header or a status byte");
		return;
	}
	hdr = (struct blk_hdr){.type = le32toh(hdr.type), .sector = le64toh(hdr.sector)};
	req->type = hdr.type;
	req->ranges = req->next_range = 0;
	if (!blk->backend && hdr.type != T_GET_ID) {
		vblk_finish(req, S_IOERR, 0);
		return;
	}
	switch (hdr.type) {
	case T_IN:
	case T_OUT: vblk_io(req, &hdr); break;
	case T_FLUSH: vblk_flush(req); break;
	case T_GET_ID: vblk_get_id(req); break;
	case T_DISCARD:
	case T_WRITE_ZEROES: vblk_ranges(req); break;
	default: vblk_finish(req, S_UNSUPP, 0); break;
	}
}

/* --- guest side: the queue ---------------------------------------------------------------------- */
/* Takes one request off the ring and starts it.  Return: as vq_pop(). */
static int vblk_take(struct vblk *blk)
{
	struct vblk_req *req = &blk->req[blk->free[blk->free_count - 1]];
	int got = vq_pop(vblk_vq(blk), &req->vq);

	if (got < 0)
		dev_break(&blk->dev, "block queue: malformed ring or descriptor chain");
	if (got == 1) {
		blk->free_count--;
		req->blk = blk;
		req->op.done = vblk_done;
		limiter_spend(&blk->limit, req->vq.readable_bytes + req->vq.writable_bytes);
		vblk_start(req);
	}
	return got;
}

/* May a request begin now?  Else the ring is looked at again when its time comes. */
static bool vblk_open(struct vblk *blk)
{
	uint64_t now = clock_now();

	if (blk->due.op.busy)
		return false;
	if (limiter_ready(&blk->limit, now))
		return true;
	loop_timer(blk->dev.loop, &blk->due, limiter_due(&blk->limit, now));
	return false;
}

/* Starts what is in the ring: as much as fits the pool, and no more than one ring full a turn. */
void vblk_serve(struct vblk *blk)
{
	blk->more = false;
	vq_want_kicks(vblk_vq(blk), false);
	for (unsigned n = 0; n < VBLK_QUEUE_SIZE && blk->free_count; n++) {
		if (!vblk_open(blk))
			return;
		int got = vblk_take(blk);
		if (!blk->dev.active)
			return;
		if (!got && !vq_want_kicks(vblk_vq(blk), true))
			return;
	}
	blk->more = true;
	loop_defer(blk->dev.loop, &blk->turn_end);
}

bool vblk_serves(const struct vblk *blk)
{
	return blk->dev.active && !blk->quiet;
}

static void vblk_kick(struct dev *dev, unsigned queue)
{
	assert(queue == 0);
	assert(loop_here(dev->loop));
	if (vblk_serves(vblk_of(dev)))
		vblk_serve(vblk_of(dev));
	else
		vblk_of(dev)->more = true; /* its backend is being exchanged */
}

static void vblk_turn_end(struct loop_task *task)
{
	struct vblk *blk = container_of(task, struct vblk, turn_end);

	dev_signal(&blk->dev, 0);
	if (blk->more && blk->free_count && vblk_serves(blk))
		vblk_serve(blk);
}

static void vblk_due(struct loop_op *op, int res)
{
	struct vblk *blk = container_of(op, struct vblk, due.op);

	if (res != -ECANCELED && vblk_serves(blk))
		vblk_serve(blk);
}

static void vblk_config_read(const struct dev *dev, uint32_t off, void *buf, uint32_t len)
{
	const struct vblk *blk = vblk_of_const(dev);
	struct blk_config config = blk->config;
	uint32_t size = sizeof(config);

	config.capacity = htole64(__atomic_load_n(&blk->capacity, __ATOMIC_ACQUIRE));
	config.discard_sector_alignment =
		htole32(__atomic_load_n(&blk->discard_grain, __ATOMIC_ACQUIRE));
	if (off < size)
		memcpy(buf, (const uint8_t *)&config + off, len < size - off ? len : size - off);
}

/* --- host side ---------------------------------------------------------------------------------- */
/* Waits for what is in flight, and for the interrupt it caused. */
void vblk_drain(struct dev *dev)
{
	struct vblk *blk = vblk_of(dev);

	assert(loop_here(dev->loop));
	loop_cancel(dev->loop, &blk->due.op);
	while (blk->free_count < VBLK_INFLIGHT_MAX || blk->turn_end.queued || blk->due.op.busy)
		VERIFY(loop_step(dev->loop, LOOP_WAIT) == 0);
}

static void vblk_reset(struct dev *dev)
{
	vblk_drain(dev);
	vblk_of(dev)->more = false;
}

static void vblk_quiesce(struct dev *dev)
{
	vblk_of(dev)->quiet = true;
	vblk_drain(dev);
}

static void vblk_unquiesce(struct dev *dev)
{
	vblk_of(dev)->quiet = false;
	vblk_of(dev)->loaded = false;
	if (dev->active)
		vblk_serve(vblk_of(dev));
}

static void vblk_destroy(struct dev *dev)
{
	struct vblk *blk = vblk_of(dev);

	blk_destroy(blk->backend);
	free(blk->req);
	free(blk);
}

static void vblk_fill_config(struct vblk *blk)
{
	blk->config = (struct blk_config){
		.seg_max = htole32(VQ_SEG_MAX - 2),
		.blk_size = htole32(BLK_SECTOR),
		.physical_block_exp = 3,
		.min_io_size = htole16(8),
		.num_queues = htole16(1),
		.max_discard_sectors = htole32(VBLK_DISCARD_MAX),
		.max_discard_seg = htole32(VBLK_RANGE_MAX),
		.max_write_zeroes_sectors = htole32(VBLK_ZERO_MAX),
		.max_write_zeroes_seg = htole32(VBLK_RANGE_MAX),
		.write_zeroes_may_unmap = 1,
	};
}

static void vblk_init(struct vblk *blk, const struct vblk_cfg *cfg)
{
	blk->dev.ops = &vblk_ops;
	blk->dev.offered = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
			   F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY;
	blk->dev.offered |= cfg->read_only ? F_RO : F_DISCARD | F_WRITE_ZEROES;
	if (cfg->writeback && !cfg->read_only)
		blk->dev.offered |= F_FLUSH;
	strncpy(blk->dev.id, cfg->id, sizeof(blk->dev.id) - 1);
	memcpy(blk->serial, blk->dev.id, sizeof(blk->serial));
	blk->backend = cfg->backend;
	blk->read_only = cfg->read_only;
	blk->writeback = cfg->writeback;
	blk->turn_end.run = vblk_turn_end;
	blk->due.op.done = vblk_due;
	limiter_init(&blk->limit, &cfg->limit, clock_now());
	for (unsigned i = 0; i < VBLK_INFLIGHT_MAX; i++)
		blk->free[blk->free_count++] = (uint16_t)(VBLK_INFLIGHT_MAX - 1 - i);
	vblk_fill_config(blk);
	vblk_measure(blk);
}

int vblk_create(struct dev **out, const struct vblk_cfg *cfg, struct errmsg *why)
{
	if (cfg->backend && cfg->backend->read_only && !cfg->read_only)
		return err_set(why, EROFS, "drive %s", cfg->id);
	cleanup_free struct vblk *blk = calloc(1, sizeof(*blk));
	cleanup_free struct vblk_req *pool = calloc(VBLK_INFLIGHT_MAX, sizeof(*pool));
	if (!blk || !pool)
		return err_set(why, ENOMEM, "drive %s", cfg->id);
	vblk_init(blk, cfg);
	blk->req = steal_ptr(&pool);
	*out = &steal_ptr(&blk)->dev;
	return 0;
}

/* --- table -------------------------------------------------------------------------------------- */
const struct dev_ops vblk_ops = {
	.name = "blk",
	.snap_tag = SNAP_VBLK,
	.virtio_id = 2,
	.queue_count = 1,
	.queue_size = VBLK_QUEUE_SIZE,
	.config_read = vblk_config_read,
	.kick = vblk_kick,
	.reset = vblk_reset,
	.quiesce = vblk_quiesce,
	.unquiesce = vblk_unquiesce,
	.save = vblk_save,
	.load = vblk_load,
	.destroy = vblk_destroy,
};
