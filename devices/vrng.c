/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng: each request is a run of writable bytes; the device fills some and says how many.
 *
 * A request is answered in part when it is long (the specification asks for one byte at least), and a
 * driver that never stops asking gets VRNG_TURN_MAX bytes a turn: the rest waits for a timer, so that
 * the other devices on the loop keep their share of it.
 *
 * Thread: io.
 */
#include "devices/vrng.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"

/* --- state -------------------------------------------------------------------------------------- */
struct vrng {
	struct dev dev;
	struct loop_timer more; /* io: the ring was left with requests in it */
	bool quiet;             /* io: between quiesce and unquiesce */
	struct vq_req req;      /* io */
	uint8_t bytes[VRNG_REQ_MAX];
};

static struct vrng *vrng_of(struct dev *dev)
{
	return container_of(dev, struct vrng, dev);
}

/* --- guest side --------------------------------------------------------------------------------- */
static uint32_t vrng_answer(struct vrng *rng, struct vq *vq)
{
	size_t len = rng->req.writable_bytes < VRNG_REQ_MAX ? (size_t)rng->req.writable_bytes
							    : VRNG_REQ_MAX;
	/* Blocks before the host's pool is seeded only, which precedes us. */
	ssize_t got = getrandom(rng->bytes, len, 0);
	if (got < 0)
		got = 0;
	size_t put = vq_write(vq, &rng->req, 0, rng->bytes, (size_t)got);
	explicit_bzero(rng->bytes, (size_t)got);
	return (uint32_t)put;
}

static void vrng_later(struct vrng *rng)
{
	struct timespec now;

	if (rng->more.op.busy)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	loop_timer(rng->dev.loop, &rng->more,
		   (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + VRNG_PAUSE_NS);
}

/* Answers until the ring is empty or this turn's share is used up. */
static void vrng_serve(struct vrng *rng)
{
	struct vq *vq = &rng->dev.queue[0];
	uint32_t bytes = 0;

	for (unsigned n = 0; n < VRNG_QUEUE_MAX && bytes < VRNG_TURN_MAX; n++) {
		int got = vq_pop(vq, &rng->req);
		if (got < 0) {
			dev_break(&rng->dev, "entropy queue: malformed ring or descriptor chain");
			return;
		}
		if (!got && vq_want_kicks(vq, true))
			continue;
		if (!got) {
			dev_signal(&rng->dev, 0);
			return;
		}
		uint32_t put = vrng_answer(rng, vq);
		bytes += put;
		vq_push(vq, &rng->req, put);
	}
	dev_signal(&rng->dev, 0);
	vrng_later(rng);
}

static void vrng_kick(struct dev *dev, unsigned queue)
{
	struct vrng *rng = vrng_of(dev);

	assert(queue == 0);
	if (!rng->more.op.busy) /* else its turn comes with the timer */
		vrng_serve(rng);
}

static void vrng_more(struct loop_op *op, int res)
{
	struct vrng *rng = container_of(op, struct vrng, more.op);

	if (res == -ETIME && rng->dev.active && !rng->quiet)
		vrng_serve(rng);
}

/* --- host side ---------------------------------------------------------------------------------- */
static void vrng_reset(struct dev *dev)
{
	struct vrng *rng = vrng_of(dev);

	loop_cancel(dev->loop, &rng->more.op);
	while (rng->more.op.busy)
		VERIFY(loop_step(dev->loop, LOOP_WAIT) == 0);
}

static void vrng_quiesce(struct dev *dev)
{
	vrng_of(dev)->quiet = true;
	vrng_reset(dev);
}

static void vrng_unquiesce(struct dev *dev)
{
	vrng_of(dev)->quiet = false;
	if (dev->active)
		vrng_serve(vrng_of(dev));
}

static void vrng_config_read(const struct dev *dev, uint32_t off, void *buf, uint32_t len)
{
	(void)dev, (void)off, (void)buf, (void)len; /* it has none */
}

static void vrng_destroy(struct dev *dev)
{
	free(vrng_of(dev));
}

int vrng_create(struct dev **out, const char *id, struct errmsg *why)
{
	struct vrng *rng = calloc(1, sizeof(*rng));

	if (!rng)
		return err_set(why, ENOMEM, "entropy device %s", id);
	rng->dev.ops = &vrng_ops;
	rng->dev.offered = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	strncpy(rng->dev.id, id, sizeof(rng->dev.id) - 1);
	rng->more.op.done = vrng_more;
	*out = &rng->dev;
	return 0;
}

/* --- table -------------------------------------------------------------------------------------- */
const struct dev_ops vrng_ops = {
	.name = "rng",
	.snap_tag = SNAP_VRNG,
	.virtio_id = 4,
	.queue_count = 1,
	.queue_size = VRNG_QUEUE_MAX,
	.config_read = vrng_config_read,
	.kick = vrng_kick,
	.reset = vrng_reset,
	.quiesce = vrng_quiesce,
	.unquiesce = vrng_unquiesce,
	.destroy = vrng_destroy,
};
