/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vq.h - the device side of a split virtqueue
 *
 *   descriptor table          available ring (driver writes)     used ring (device writes)
 *   +------+-----+---+----+   +-------+-----+------+----+----+   +-------+-----+--------+----+
 *   | addr | len | f |next|   | flags | idx | ring[0..size) |uev|   | flags | idx | {id,len}* |aev|
 *   +------+-----+---+----+   +-------+-----+------+----+----+   +-------+-----+--------+----+
 *
 * A request popped from the queue is a token: a private copy of its chain, handed back exactly once, by
 * vq_push() (done) or vq_unpop() (not started).  A token carries the queue's generation: one popped
 * before a reset is refused afterwards, so a late completion is harmless.
 *
 * The driver is hostile: every descriptor is read once, checked, then used; every loop is bounded.
 * Thread: io.
 * Source: virtio 1.2, 2.7 (split virtqueues).
 */
#ifndef SPORE_DEVICES_VQ_H
#define SPORE_DEVICES_VQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/gmem.h"

#define VQ_SIZE_MAX      256 /* entries; a power of two */
#define VQ_SEG_MAX       128 /* buffers of one request, after indirection */
#define VQ_REQ_BYTES_MAX (UINT64_C(1) << 31)

struct vq {
	const struct gmem *gm;
	uint16_t size; /* entries, set by the driver: power of two, <= VQ_SIZE_MAX */
	bool ready;
	bool event_idx; /* VIRTIO_F_EVENT_IDX was acknowledged */
	gpa_t desc, avail, used;
	uint16_t next_avail; /* what to pop next */
	uint16_t next_used;  /* what to push next */
	uint16_t signalled;  /* value of next_used when the driver was last interrupted */
	uint16_t in_flight;  /* popped and not handed back */
	uint32_t generation; /* counts resets */
};

/* One buffer: `gpa` and `len` are checked to lie in guest memory. */
struct vq_seg {
	gpa_t at;
	uint32_t len;
};

/* A request: readable segments first (driver to device), then writable ones. */
struct vq_req {
	uint16_t head;
	uint16_t readable, writable; /* how many segments of each */
	uint32_t generation;
	uint64_t readable_bytes, writable_bytes;
	struct vq_seg seg[VQ_SEG_MAX];
};

/*
 * vq_check() - is the queue the driver described one that can run?
 * Return: 0; -EINVAL size not a power of two up to VQ_SIZE_MAX, or a part misaligned; -EFAULT a part lies
 * outside guest memory.  Until it has said 0, `ready` stays false.
 * Source: virtio 1.2, 2.7 (alignments and sizes).
 */
int vq_check(const struct vq *vq) __attribute__((warn_unused_result));

/*
 * vq_pop() - take the next request the driver made available
 * Bounds: VQ_SEG_MAX segments, VQ_REQ_BYTES_MAX bytes, 2 * VQ_SIZE_MAX descriptors looked at; one
 * indirect table a chain, last in it.  No more than vq->size requests are out at a time.  An indirect
 * table may be longer than the queue, against 2.7.5.3.1: Linux makes such chains.  Empty buffers are
 * skipped: 2.7.5 does not forbid them.
 * Return: 1 a request; 0 queue empty; -EPROTO the driver broke the ring (caller: dev_break()).
 * Source: virtio 1.2, 2.7.5 descriptor table, 2.7.6 available ring, 2.7.13.3 indices.
 */
int vq_pop(struct vq *vq, struct vq_req *req) __attribute__((warn_unused_result));

/* Gives the last popped request back untouched; it is popped again next. */
void vq_unpop(struct vq *vq, const struct vq_req *req);

/*
 * vq_push() - hand a request back with `written` bytes written to its writable segments
 * Marks nothing dirty but the used ring: the payload was marked when it was written.
 * Return: 0; -ESTALE popped before a reset (nothing happens); -EFAULT the used ring left memory.
 */
int vq_push(struct vq *vq, const struct vq_req *req, uint32_t written);

/*
 * vq_push_all() - hand `count` (>= 1) requests of one session back, seen by the driver all at once
 * For what spans requests: a frame in several buffers (5.1.6.4.1).  Return: as vq_push().
 */
int vq_push_all(struct vq *vq, const struct vq_req req[], const uint32_t written[], unsigned count);

/* True when the driver wants an interrupt for what was pushed since the last time (2.7.7, 2.7.10). */
bool vq_should_interrupt(struct vq *vq);

/*
 * vq_want_kicks() - ask the driver for (or spare it) notifications
 * Return: true when, after asking, there is already more to pop: pop again before waiting.
 */
bool vq_want_kicks(struct vq *vq, bool wanted);

/* Copies between a request's segments and host memory, from byte `off` of its readable or writable part.
 * Return: bytes copied (less than len where the request ends).  vq_write() marks pages dirty. */
size_t vq_read(const struct vq *vq, const struct vq_req *req, uint64_t off, void *dst, size_t len);
size_t vq_write(const struct vq *vq, const struct vq_req *req, uint64_t off, const void *src,
		size_t len);

/* Iovecs of `len` bytes from `off` of the readable or writable part.  Return: count, or -E2BIG / -EFAULT. */
int vq_iov_readable(const struct vq *vq, const struct vq_req *req, uint64_t off, uint64_t len,
		    struct iovec *iov, unsigned max);
int vq_iov_writable(const struct vq *vq, const struct vq_req *req, uint64_t off, uint64_t len,
		    struct iovec *iov, unsigned max);
/* Marks `len` bytes of the writable part dirty, on completion of a read into vq_iov_writable(). */
void vq_mark_written(const struct vq *vq, const struct vq_req *req, uint64_t off, uint64_t len);

/* Back to the state after power-on; tokens popped before are stale from now on. */
void vq_reset(struct vq *vq);

#endif
