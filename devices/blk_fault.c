/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request of ours goes below as one of its own, so that its end can be changed; it is allocated, for
 * this is a test's tool.  A failure after the fact carries out the first half, as a full disk does.
 *
 * Thread: io.
 */
#include "devices/blk_fault.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"

struct fault {
	struct blk_backend backend;
	struct blk_backend *below;
	struct blk_fault_plan *plan;
};

struct fault_op {
	struct fault *fault;
	struct blk_op *op;
	struct blk_op sub;
	struct loop_timer timer;
	int err; /* what to answer in place of success */
};

static struct fault *fault_of(struct blk_backend *backend)
{
	return container_of(backend, struct fault, backend);
}

static void fault_end(struct fault_op *f, int err)
{
	struct blk_op *op = f->op;

	free(f);
	op->done(op, err);
}

static void fault_done(struct blk_op *sub, int err)
{
	struct fault_op *f = container_of(sub, struct fault_op, sub);
	fault_end(f, err ? err : f->err);
}

/* Leaves the first `len` bytes of a vector.  Return: its count. */
static unsigned iov_cut(struct iovec *iov, unsigned count, uint64_t len)
{
	for (unsigned i = 0; i < count; i++) {
		if (len <= iov[i].iov_len) {
			iov[i].iov_len = (size_t)len;
			return i + 1;
		}
		len -= iov[i].iov_len;
	}
	return count;
}

static void fault_go(struct fault_op *f)
{
	const struct blk_op *op = f->op;
	bool half = f->err && f->fault->plan->after && op->len >= 2 * BLK_SECTOR;

	if (f->err && !half) {
		fault_end(f, f->err);
		return;
	}
	f->sub = (struct blk_op){.done = fault_done,
				 .kind = op->kind,
				 .off = op->off,
				 .len = half ? op->len / 2 / BLK_SECTOR * BLK_SECTOR : op->len,
				 .iov = op->iov,
				 .count = op->count};
	if (half && op->iov)
		f->sub.count = iov_cut(f->sub.iov, f->sub.count, f->sub.len);
	blk_submit(f->fault->below, &f->sub);
}

static void fault_timer(struct loop_op *io, int res)
{
	(void)res;
	fault_go(container_of(io, struct fault_op, timer.op));
}

static int fault_draw(struct blk_fault_plan *plan)
{
	if (plan->countdown) {
		plan->countdown--;
		return 0;
	}
	if (!plan->fail)
		return 0;
	plan->fail--;
	return plan->err;
}

static void fault_submit(struct blk_backend *backend, struct blk_op *op)
{
	struct fault *fault = fault_of(backend);
	struct fault_op *f = calloc(1, sizeof(*f));
	bool counts = fault->plan->kinds & BLK_FAULT_KIND(op->kind);
	struct timespec now;

	VERIFY(f);
	f->fault = fault;
	f->op = op;
	f->err = counts ? fault_draw(fault->plan) : 0;
	if (!counts || !fault->plan->delay_ns) {
		fault_go(f);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	f->timer.op.done = fault_timer;
	loop_timer(backend->loop, &f->timer,
		   (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec +
			   fault->plan->delay_ns);
}

static void fault_destroy(struct blk_backend *backend)
{
	blk_destroy(fault_of(backend)->below);
	free(fault_of(backend));
}

static const struct blk_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.destroy = fault_destroy,
};

int blk_fault_create(struct blk_backend **out, struct blk_backend *below,
		     struct blk_fault_plan *plan)
{
	struct fault *fault = calloc(1, sizeof(*fault));

	if (!fault)
		return -ENOMEM;
	fault->backend = *below;
	fault->backend.ops = &fault_ops;
	fault->below = below;
	fault->plan = plan;
	*out = &fault->backend;
	return 0;
}
