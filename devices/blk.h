/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk.h - what stands behind virtio-blk: a range of bytes with asynchronous operations
 *
 * A request is a `struct blk_op` embedded in its owner, as a loop_op is; its done() runs exactly once, on
 * the io thread, perhaps before blk_submit() returns.  Backends stack: a filter or an overlay owns the
 * backend below it.  Ranges are checked by the caller: they lie in [0, size).
 *
 *     vblk.c                the device
 *     blk_cow.c             overlay: own layer over read-only ones
 *     blk_fault.c           filter: errors and delays for tests
 *     blk_file.c            a file or block device
 *
 * A write that completed is in the host's page cache; a flush that completed made every write that had
 * completed before it durable.  Requests in flight at the same time are not ordered.
 * Thread: io, except create and destroy (ctl).
 */
#ifndef SPORE_DEVICES_BLK_H
#define SPORE_DEVICES_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

#define BLK_SECTOR  512u
#define BLK_IOV_MAX 128u /* of one request */

enum blk_kind {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,
	BLK_DISCARD, /* reads as zero afterwards, or not: the space is given back if that can be done */
	BLK_ZERO,       /* reads as zero afterwards, stays allocated */
	BLK_ZERO_UNMAP, /* reads as zero afterwards, the space is given back if that can be done */
};

struct blk_backend;
struct blk_op;
/* @err: 0, the whole range is done; or -errno, any part of it may be. */
typedef void blk_done_fn(struct blk_op *op, int err);

struct blk_op {
	/* set by the owner; `iov` and `count` are the backend's to change until done() */
	blk_done_fn *done;
	enum blk_kind kind;
	uint64_t off, len; /* bytes */
	struct iovec *iov; /* READ, WRITE: exactly `len` bytes */
	unsigned count;

	/* the backend's while the request is with it */
	struct blk_backend *backend;
	struct loop_op io;
	struct blk_op *next;
	uint64_t pos; /* bytes of `len` that are done */
};

struct blk_ops {
	const char *name; /* stable: log field */
	void (*submit)(struct blk_backend *backend, struct blk_op *op);
	/* No request is in flight.  Ends the backends below too. */
	void (*destroy)(struct blk_backend *backend);
};

/* The common part, embedded in every backend. */
struct blk_backend {
	/* const after create */
	const struct blk_ops *ops;
	struct loop *loop;
	uint64_t size; /* bytes */
	uint32_t
		grain; /* bytes: discards of aligned multiples of it give space back; a power of two */
	bool read_only;
};

static inline void blk_submit(struct blk_backend *backend, struct blk_op *op)
{
	backend->ops->submit(backend, op);
}

/* NULL is fine. */
static inline void blk_destroy(struct blk_backend *backend)
{
	if (backend)
		backend->ops->destroy(backend);
}

/* Zeroes to write.  Never written themselves; not const, so that they take no room in the binary. */
#define BLK_ZEROES 65536u
extern uint8_t blk_zeroes[BLK_ZEROES];

/* Drops the first `bytes` of a vector.  Return: the count that is left; *iov moves on. */
unsigned blk_iov_skip(struct iovec **iov, unsigned count, uint64_t bytes);

#endif
