/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon: page numbers on two queues, free ranges on a third, and one buffer of statistics that
 * travels to and fro.
 *
 * Inflate: page numbers in readable bytes.  Deflate: nothing to do, a page comes back when it is touched.  Reports: the writable buffers of a request *are* the free
 * ranges.  Statistics: the driver leaves a filled buffer with us; handing it back asks for the next one.
 *
 * Nothing that a page number says can do harm but to the guest itself: it is checked against guest memory
 * in gm_discard(), and a page outside is passed over.
 * Giving back costs time by what is there: VBALLOON_TURN_MAX bytes a turn, the rest waits for a timer.
 *
 * Thread: io; what others ask for stands under the lock.
 */
#include "devices/vballoon.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/snap_balloon.h"

/* --- state -------------------------------------------------------------------------------------- */
enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_FIRST_OPTIONAL, QUEUE_NONE = DEV_QUEUE_MAX };

/* Configuration space, 5.5.4: two numbers; what follows belongs to features that are not offered. */
enum { CONFIG_TARGET = 0, CONFIG_ACTUAL = 4, CONFIG_SIZE = 8 };

#define STATS_INTERVAL_MIN_S 1u  /* a loaded state may offer what the configuration does not */
#define STAT_SIZE            10u /* le16 tag, le64 value: packed (5.5.6.3) */

struct vballoon {
	struct dev dev;
	uint32_t stats_interval_s; /* const */

	unsigned stats_queue, report_queue; /* io: of this session; QUEUE_NONE */
	struct loop_timer more;             /* io: a ring was left with requests in it */
	struct loop_timer stats_due;        /* io */
	bool quiet;                         /* io: between quiesce and unquiesce */
	bool stats_held;                    /* io: `stats` is popped */
	struct vq_req stats;                /* io: the driver's buffer, handed back to ask again */
	struct vq_req req;                  /* io */
	uint32_t pfn[VBALLOON_PFNS_MAX];    /* io */

	uint32_t target_pages, actual_pages; /* atomic */
	pthread_mutex_t lock;                /* leaf */
	struct vballoon_info info;           /* lock: but for the two above */
};

static struct vballoon *vballoon_of(const struct dev *dev)
{
	return container_of((struct dev *)(uintptr_t)dev, struct vballoon, dev);
}

/* --- giving back -------------------------------------------------------------------------------- */

/* Return: bytes that left; what the range is wrong about is the guest's own loss. */
static uint64_t give_back(struct vballoon *b, uint64_t at, uint64_t len)
{
	int64_t got = gm_discard(b->dev.gm, gpa(at), len);

	if (got < 0 && got != -EFAULT)
		dev_log(&b->dev, "discard error=%d", (int)-got);
	return got > 0 ? (uint64_t)got : 0;
}

/* Neighbours that follow each other, up or down, go in one piece: Linux takes its pages in such runs. */
static uint64_t give_back_pfns(struct vballoon *b, unsigned count)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < count;) {
		uint64_t low = b->pfn[i], high = low + 1;
		for (i++; i < count && (b->pfn[i] == high || b->pfn[i] + UINT64_C(1) == low); i++) {
			low -= b->pfn[i] < low;
			high += b->pfn[i] == high;
		}
		sum += give_back(b, low * GM_PAGE, (high - low) * GM_PAGE);
	}
	return sum;
}

static uint64_t take_inflate(struct vballoon *b, struct vq *vq)
{
	size_t got = vq_read(vq, &b->req, 0, b->pfn, sizeof(b->pfn));
	unsigned count = (unsigned)(got / sizeof(b->pfn[0]));

	for (unsigned i = 0; i < count; i++)
		b->pfn[i] = le32toh(b->pfn[i]);
	uint64_t given = give_back_pfns(b, count);

	cleanup_unlock pthread_mutex_t *held = hold(&b->lock);
	b->info.inflated_bytes += (uint64_t)count * GM_PAGE;
	b->info.given_back_bytes += given;
	return (uint64_t)count * GM_PAGE;
}

/* The whole pages within a range: its ends may lie anywhere. */
static uint64_t take_report(struct vballoon *b)
{
	uint64_t reported = 0, given = 0;

	for (unsigned i = b->req.readable; i < b->req.readable + b->req.writable; i++) {
		const struct vq_seg *seg = &b->req.seg[i];
		uint64_t from = (seg->at.v + GM_PAGE - 1) / GM_PAGE * GM_PAGE;
		uint64_t to = (seg->at.v + seg->len) / GM_PAGE * GM_PAGE;
		if (to <= from || to - from > VBALLOON_REPORT_MAX - reported)
			continue;
		reported += to - from;
		given += give_back(b, from, to - from);
	}
	cleanup_unlock pthread_mutex_t *held = hold(&b->lock);
	b->info.reported_bytes += reported;
	b->info.given_back_bytes += given;
	return reported;
}

static uint64_t take_one(struct vballoon *b, unsigned index)
{
	if (index == QUEUE_INFLATE)
		return take_inflate(b, &b->dev.queue[index]);
	return index == b->report_queue ? take_report(b) : 0;
}

/* Until the ring is empty (true) or *left is used up. */
static bool serve_queue(struct vballoon *b, unsigned index, uint64_t *left)
{
	struct vq *vq = &b->dev.queue[index];

	for (unsigned n = 0; n < VBALLOON_QUEUE_MAX && *left; n++) {
		int got = vq_pop(vq, &b->req);
		if (got < 0) {
			dev_break(&b->dev, "balloon queue: malformed ring or descriptor chain");
			return true;
		}
		if (!got && vq_want_kicks(vq, true))
			continue;
		if (!got)
			return true;
		uint64_t cost = take_one(b, index);
		*left -= cost < *left ? cost : *left;
		vq_push(vq, &b->req, 0);
	}
	return false;
}

static void vballoon_serve(struct vballoon *b)
{
	const unsigned all[] = {QUEUE_INFLATE, QUEUE_DEFLATE, b->report_queue};
	uint64_t left = VBALLOON_TURN_MAX;
	bool empty = true;

	for (unsigned i = 0; i < ARRAY_LEN(all) && b->dev.active; i++) {
		if (all[i] == QUEUE_NONE || !b->dev.queue[all[i]].ready)
			continue;
		empty &= serve_queue(b, all[i], &left);
		dev_signal(&b->dev, all[i]);
	}
	if (!empty && b->dev.active)
		loop_timer(b->dev.loop, &b->more, clock_now() + VBALLOON_PAUSE_NS);
}

static void vballoon_more(struct loop_op *op, int res)
{
	struct vballoon *b = container_of(op, struct vballoon, more.op);

	if (res == -ETIME && b->dev.active && !b->quiet)
		vballoon_serve(b);
}

/* --- statistics --------------------------------------------------------------------------------- */

static void stats_take(struct vballoon *b, const struct vq *vq)
{
	uint8_t raw[VBALLOON_STATS_MAX * STAT_SIZE];
	size_t len = vq_read(vq, &b->stats, 0, raw, sizeof(raw));

	cleanup_unlock pthread_mutex_t *held = hold(&b->lock);
	for (size_t at = 0; at + STAT_SIZE <= len; at += STAT_SIZE) {
		uint16_t tag = le16_load(raw + at);
		if (tag >= VBALLOON_STAT_COUNT)
			continue; /* of a later driver */
		b->info.stat[tag] = le64_load(raw + at + 2);
		b->info.stat_mask |= 1u << tag;
	}
	b->info.stat_count++;
}

static void stats_hand_back(struct vballoon *b)
{
	b->stats_held = false;
	vq_push(&b->dev.queue[b->stats_queue], &b->stats, 0);
	dev_signal(&b->dev, b->stats_queue);
}

static void stats_wait(struct vballoon *b)
{
	if (!b->stats_due.op.busy)
		loop_timer(b->dev.loop, &b->stats_due,
			   clock_now() + (uint64_t)b->stats_interval_s * NS_PER_SEC);
}

/* A driver that leaves more than one buffer gets the others back: one is enough to ask with. */
static void stats_kick(struct vballoon *b)
{
	struct vq *vq = &b->dev.queue[b->stats_queue];

	for (unsigned n = 0; n < VBALLOON_QUEUE_MAX; n++) {
		int got = vq_pop(vq, &b->req);
		if (got < 0) {
			dev_break(&b->dev, "statistics queue: malformed ring or descriptor chain");
			return;
		}
		if (!got && vq_want_kicks(vq, true))
			continue;
		if (!got)
			break;
		if (b->stats_held)
			stats_hand_back(b);
		b->stats = b->req;
		b->stats_held = true;
		stats_take(b, vq);
	}
	if (b->stats_held)
		stats_wait(b);
}

static void vballoon_stats_due(struct loop_op *op, int res)
{
	struct vballoon *b = container_of(op, struct vballoon, stats_due.op);

	if (res == -ETIME && b->dev.active && !b->quiet && b->stats_held)
		stats_hand_back(b);
}

/* --- guest side --------------------------------------------------------------------------------- */

/* The optional queues, numbered without gaps (see vballoon.h). */
static void vballoon_activate(struct dev *dev)
{
	struct vballoon *b = vballoon_of(dev);
	unsigned next = QUEUE_FIRST_OPTIONAL;

	b->stats_queue = dev->acked & VBALLOON_F_STATS ? next++ : QUEUE_NONE;
	b->report_queue = dev->acked & VBALLOON_F_REPORTING ? next++ : QUEUE_NONE;
	static_assert(QUEUE_FIRST_OPTIONAL + 2 <= DEV_QUEUE_MAX, "queues of a balloon");
}

static void vballoon_kick(struct dev *dev, unsigned queue)
{
	struct vballoon *b = vballoon_of(dev);

	if (queue == b->stats_queue)
		stats_kick(b);
	else if (!b->more.op.busy) /* else its turn comes with the timer */
		vballoon_serve(b);
}

static void vballoon_config_read(const struct dev *dev, uint32_t off, void *buf, uint32_t len)
{
	const struct vballoon *b = vballoon_of(dev);
	uint8_t raw[CONFIG_SIZE];

	if (off >= CONFIG_SIZE)
		return;
	le32_store(raw + CONFIG_TARGET, __atomic_load_n(&b->target_pages, __ATOMIC_RELAXED));
	le32_store(raw + CONFIG_ACTUAL, __atomic_load_n(&b->actual_pages, __ATOMIC_RELAXED));
	memcpy(buf, raw + off, len < CONFIG_SIZE - off ? len : CONFIG_SIZE - off);
}

/* Only `actual` is the driver's to write (5.5.4), in one piece (4.2.2.2). */
static void vballoon_config_write(struct dev *dev, uint32_t off, const void *buf, uint32_t len)
{
	struct vballoon *b = vballoon_of(dev);

	if (off == CONFIG_ACTUAL && len == sizeof(b->actual_pages))
		__atomic_store_n(&b->actual_pages, le32_load(buf), __ATOMIC_RELAXED);
}

/* --- host side ---------------------------------------------------------------------------------- */

static void vballoon_stop(struct vballoon *b)
{
	loop_cancel(b->dev.loop, &b->more.op);
	loop_cancel(b->dev.loop, &b->stats_due.op);
	while (b->more.op.busy || b->stats_due.op.busy)
		VERIFY(loop_step(b->dev.loop, LOOP_WAIT) == 0);
}

static void vballoon_reset(struct dev *dev)
{
	struct vballoon *b = vballoon_of(dev);

	vballoon_stop(b);
	b->stats_held = false;
	b->stats_queue = b->report_queue = QUEUE_NONE;
	__atomic_store_n(&b->actual_pages, 0, __ATOMIC_RELAXED);
}

/* The buffer of statistics goes back to the ring, as if it had not been looked at: no request is in flight. */
static void vballoon_quiesce(struct dev *dev)
{
	struct vballoon *b = vballoon_of(dev);

	b->quiet = true;
	vballoon_stop(b);
	if (b->stats_held)
		vq_unpop(&dev->queue[b->stats_queue], &b->stats);
	b->stats_held = false;
}

static void vballoon_unquiesce(struct dev *dev)
{
	struct vballoon *b = vballoon_of(dev);

	b->quiet = false;
	if (dev->active)
		vballoon_serve(b);
	if (dev->active && b->stats_queue != QUEUE_NONE && dev->queue[b->stats_queue].ready)
		stats_kick(b);
}

void vballoon_set_target(struct dev *dev, uint32_t pages)
{
	__atomic_store_n(&vballoon_of(dev)->target_pages, pages, __ATOMIC_RELAXED);
	dev_config_changed(dev);
}

void vballoon_info(const struct dev *dev, struct vballoon_info *out)
{
	struct vballoon *b = vballoon_of(dev);
	cleanup_unlock pthread_mutex_t *held = hold(&b->lock);
	*out = b->info;
	out->target_pages = __atomic_load_n(&b->target_pages, __ATOMIC_RELAXED);
	out->actual_pages = __atomic_load_n(&b->actual_pages, __ATOMIC_RELAXED);
}

static void vballoon_save(const struct dev *dev, struct snap_out *out, uint32_t instance)
{
	static_assert(SNAP_VBALLOON_STATS == VBALLOON_STAT_COUNT, "statistics in a snapshot");
	struct snap_vballoon *to =
		snap_put(out, SNAP_VBALLOON, SNAP_VBALLOON_VERSION, instance, sizeof(*to));
	struct vballoon_info info;

	if (!to)
		return;
	vballoon_info(dev, &info);
	to->target_pages = info.target_pages;
	to->actual_pages = info.actual_pages;
	to->stat_mask = info.stat_mask;
	memcpy(to->stat, info.stat, sizeof(to->stat));
}

/* Which queue is which follows from the features, which the transport has loaded before. */
static int vballoon_load(struct dev *dev, const struct snap_in *in, uint32_t instance,
			 struct errmsg *why)
{
	struct vballoon *b = vballoon_of(dev);
	struct snap_vballoon from;

	int err = snap_take(in, SNAP_VBALLOON, SNAP_VBALLOON_VERSION, instance, &from, sizeof(from),
			    why);
	if (err)
		return err;
	if (from.rsvd || from.stat_mask >> SNAP_VBALLOON_STATS)
		return err_set(why, EBADMSG, "device %s: reserved bits are set", dev->id);
	vballoon_activate(dev);
	b->target_pages = from.target_pages;
	b->actual_pages = from.actual_pages;
	cleanup_unlock pthread_mutex_t *held = hold(&b->lock);
	b->info.stat_mask = from.stat_mask;
	memcpy(b->info.stat, from.stat, sizeof(b->info.stat));
	return 0;
}

static void vballoon_destroy(struct dev *dev)
{
	struct vballoon *b = vballoon_of(dev);

	pthread_mutex_destroy(&b->lock);
	free(b);
}

int vballoon_create(struct dev **out, const struct vballoon_cfg *cfg, struct errmsg *why)
{
	struct vballoon *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(why, ENOMEM, "balloon %s", cfg->id);
	VERIFY(pthread_mutex_init(&b->lock, NULL) == 0);
	b->dev.ops = &vballoon_ops;
	b->dev.offered = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
			 (cfg->stats_interval_s ? VBALLOON_F_STATS : 0) |
			 (cfg->deflate_on_oom ? VBALLOON_F_OOM : 0) |
			 (cfg->reporting ? VBALLOON_F_REPORTING : 0);
	strncpy(b->dev.id, cfg->id, sizeof(b->dev.id) - 1);
	b->stats_interval_s = cfg->stats_interval_s ? cfg->stats_interval_s : STATS_INTERVAL_MIN_S;
	b->target_pages = cfg->target_pages;
	b->stats_queue = b->report_queue = QUEUE_NONE;
	b->more.op.done = vballoon_more;
	b->stats_due.op.done = vballoon_stats_due;
	*out = &b->dev;
	return 0;
}

/* --- table -------------------------------------------------------------------------------------- */
const struct dev_ops vballoon_ops = {
	.name = "balloon",
	.snap_tag = SNAP_VBALLOON,
	.virtio_id = 5,
	.queue_count = DEV_QUEUE_MAX,
	.queue_size = VBALLOON_QUEUE_MAX,
	.config_read = vballoon_config_read,
	.config_write = vballoon_config_write,
	.activate = vballoon_activate,
	.kick = vballoon_kick,
	.reset = vballoon_reset,
	.quiesce = vballoon_quiesce,
	.unquiesce = vballoon_unquiesce,
	.save = vballoon_save,
	.load = vballoon_load,
	.destroy = vballoon_destroy,
};
