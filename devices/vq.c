/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split virtqueue, device side.  Two rules carry everything:
 *
 *   - a descriptor is copied once (gm_read), the copy is checked, the copy is used;
 *   - a loop over what the driver wrote counts down from a constant, never from the driver's own data.
 *
 * Index arithmetic is modulo 2^16 on purpose: the casts to uint16_t are the wrap of the rings.
 */
#include "devices/vq.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

/* Descriptor flags (virtio 1.2, 2.7.5) and ring flags (2.7.6, 2.7.8). */
#define DESC_NEXT      1u
#define DESC_WRITE     2u
#define DESC_INDIRECT  4u
#define AVAIL_NO_IRQ   1u
#define USED_NO_NOTIFY 1u

/* As it lies in guest memory, little-endian. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
_Static_assert(sizeof(struct desc) == 16, "virtio 1.2, 2.7.5");

struct used_elem {
	uint32_t id;
	uint32_t len;
};
_Static_assert(sizeof(struct used_elem) == 8, "virtio 1.2, 2.7.8");

static gpa_t avail_idx(const struct vq *vq)
{
	return gpa_add(vq->avail, 2);
}

static gpa_t avail_ring(const struct vq *vq, uint16_t index)
{
	return gpa_add(vq->avail, 4 + 2 * (uint64_t)(index % vq->size));
}

static gpa_t used_event(const struct vq *vq)
{
	return gpa_add(vq->avail, 4 + 2 * (uint64_t)vq->size);
}

static gpa_t used_idx(const struct vq *vq)
{
	return gpa_add(vq->used, 2);
}

static gpa_t used_ring(const struct vq *vq, uint16_t index)
{
	return gpa_add(vq->used, 4 + 8 * (uint64_t)(index % vq->size));
}

static gpa_t avail_event(const struct vq *vq)
{
	return gpa_add(vq->used, 4 + 8 * (uint64_t)vq->size);
}

int vq_check(const struct vq *vq)
{
	uint64_t size = vq->size;

	if (!size || size > VQ_SIZE_MAX || (size & (size - 1)))
		return -EINVAL;
	if (vq->desc.v % 16 || vq->avail.v % 2 || vq->used.v % 4)
		return -EINVAL;
	if (!gm_contains(vq->gm, vq->desc, 16 * size) ||
	    !gm_contains(vq->gm, vq->avail, 6 + 2 * size) ||
	    !gm_contains(vq->gm, vq->used, 6 + 8 * size))
		return -EFAULT;
	return 0;
}

static int desc_load(const struct vq *vq, gpa_t table, uint16_t index, struct desc *d)
{
	struct desc raw;

	if (gm_read(vq->gm, gpa_add(table, sizeof(raw) * (uint64_t)index), &raw, sizeof(raw)))
		return -EPROTO;
	*d = (struct desc){.addr = le64toh(raw.addr),
			   .len = le32toh(raw.len),
			   .flags = le16toh(raw.flags),
			   .next = le16toh(raw.next)};
	return 0;
}

/* Appends one buffer; empty ones carry nothing and are left out (the specification does not forbid them). */
static int req_add(const struct vq *vq, struct vq_req *req, const struct desc *d, bool *writable)
{
	bool writes = d->flags & DESC_WRITE;

	if (*writable && !writes)
		return -EPROTO; /* 2.7.4.2: writable buffers come after all readable ones */
	*writable = writes;
	if (!d->len)
		return 0;
	unsigned count = (unsigned)req->readable + req->writable;
	if (count == VQ_SEG_MAX || !gm_contains(vq->gm, gpa(d->addr), d->len))
		return -EPROTO;
	uint64_t total = req->readable_bytes + req->writable_bytes + d->len;
	if (total > VQ_REQ_BYTES_MAX)
		return -EPROTO;
	req->seg[count] = (struct vq_seg){.at = gpa(d->addr), .len = d->len};
	if (writes) {
		req->writable++;
		req->writable_bytes += d->len;
	} else {
		req->readable++;
		req->readable_bytes += d->len;
	}
	return 0;
}

/* Where a walk goes on: entry `index` of a table of `count` descriptors. */
struct cursor {
	gpa_t table;
	uint32_t count;
	uint16_t index;
	bool indirect;
};

/* Follows a descriptor that refers to a table of descriptors: once a chain, and last in it (2.7.5.3). */
static int enter_table(const struct vq *vq, struct cursor *at, const struct desc *d)
{
	if (at->indirect || (d->flags & DESC_NEXT))
		return -EPROTO;
	if (!d->len || d->len % sizeof(struct desc) || !gm_contains(vq->gm, gpa(d->addr), d->len))
		return -EPROTO;
	*at = (struct cursor){
		.table = gpa(d->addr), .count = d->len / sizeof(struct desc), .indirect = true};
	return 0;
}

static int req_fill(const struct vq *vq, struct vq_req *req)
{
	struct cursor at = {.table = vq->desc, .count = vq->size, .index = req->head};
	bool writable = false;

	/* Honest chains end far earlier; one that loops is caught here at the latest. */
	for (unsigned n = 0; n < 2 * VQ_SIZE_MAX; n++) {
		struct desc d;
		if (at.index >= at.count || desc_load(vq, at.table, at.index, &d))
			return -EPROTO;
		if (d.flags & DESC_INDIRECT) {
			if (enter_table(vq, &at, &d))
				return -EPROTO;
			continue;
		}
		if (req_add(vq, req, &d, &writable))
			return -EPROTO;
		if (!(d.flags & DESC_NEXT))
			return 0;
		at.index = d.next;
	}
	return -EPROTO;
}

int vq_pop(struct vq *vq, struct vq_req *req)
{
	uint16_t idx, head;

	assert(vq->gm);
	if (!vq->ready)
		return 0;
	if (gm_load16(vq->gm, avail_idx(vq), &idx))
		return -EPROTO;
	uint16_t pending = (uint16_t)(idx - vq->next_avail);
	if (!pending)
		return 0;
	/* A chain takes a descriptor at least: there cannot be more of them than descriptors. */
	if (pending > vq->size || vq->in_flight >= vq->size)
		return -EPROTO;
	if (gm_load16(vq->gm, avail_ring(vq, vq->next_avail), &head) || head >= vq->size)
		return -EPROTO;
	req->head = head;
	req->readable = req->writable = 0;
	req->readable_bytes = req->writable_bytes = 0;
	req->generation = vq->generation;
	if (req_fill(vq, req))
		return -EPROTO;
	vq->next_avail++;
	vq->in_flight++;
	return 1;
}

void vq_unpop(struct vq *vq, const struct vq_req *req)
{
	if (req->generation != vq->generation)
		return;
	assert(vq->in_flight > 0);
	vq->next_avail--;
	vq->in_flight--;
}

int vq_push_all(struct vq *vq, const struct vq_req req[], const uint32_t written[], unsigned count)
{
	int err = 0;

	if (req[0].generation != vq->generation)
		return -ESTALE;
	assert(vq->in_flight >= count);
	for (unsigned i = 0; i < count; i++) {
		struct used_elem elem = {.id = htole32(req[i].head), .len = htole32(written[i])};
		assert(written[i] <= req[i].writable_bytes);
		err |= gm_write(vq->gm, used_ring(vq, (uint16_t)(vq->next_used + i)), &elem,
				sizeof(elem));
	}
	vq->in_flight = (uint16_t)(vq->in_flight - count);
	if (err)
		return -EFAULT;
	uint16_t next = (uint16_t)(vq->next_used + count);
	if (gm_store16(vq->gm, used_idx(vq), next)) /* releases the elements */
		return -EFAULT;
	vq->next_used = next;
	return 0;
}

int vq_push(struct vq *vq, const struct vq_req *req, uint32_t written)
{
	return vq_push_all(vq, req, &written, 1);
}

bool vq_should_interrupt(struct vq *vq)
{
	uint16_t new = vq->next_used, old = vq->signalled, val;

	if (!vq->ready || new == old)
		return false;
	/* used.idx must be out before used_event or flags is read: the driver does it the other way. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vq->signalled = new;
	if (gm_load16(vq->gm, vq->event_idx ? used_event(vq) : vq->avail, &val))
		return true;
	if (!vq->event_idx)
		return !(val & AVAIL_NO_IRQ);
	/* Did new pass val + 1?  (2.7.10, with the wrap that the casts give.) */
	return (uint16_t)(new - val - 1) < (uint16_t)(new - old);
}

bool vq_want_kicks(struct vq *vq, bool wanted)
{
	uint16_t idx;
	int err = 0;

	if (!vq->ready)
		return false;
	if (!vq->event_idx)
		err = gm_store16(vq->gm, vq->used, (uint16_t)(wanted ? 0 : USED_NO_NOTIFY));
	else if (wanted) /* otherwise the event index stays behind, and nothing crosses it */
		err = gm_store16(vq->gm, avail_event(vq), vq->next_avail);
	if (err || !wanted)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !gm_load16(vq->gm, avail_idx(vq), &idx) && idx != vq->next_avail;
}

/* A walk over the bytes [off, off + len) of a run of segments. */
struct span_walk {
	const struct vq_seg *seg;
	unsigned left; /* segments */
	uint64_t off;  /* into the first of them */
	uint64_t len;  /* bytes still wanted */
};

static struct span_walk walk_readable(const struct vq_req *req, uint64_t off, uint64_t len)
{
	return (struct span_walk){.seg = req->seg, .left = req->readable, .off = off, .len = len};
}

static struct span_walk walk_writable(const struct vq_req *req, uint64_t off, uint64_t len)
{
	return (struct span_walk){
		.seg = req->seg + req->readable, .left = req->writable, .off = off, .len = len};
}

/* The next piece, which lies in one segment; false at the end. */
static bool walk_next(struct span_walk *w, struct vq_seg *piece)
{
	while (w->left && w->off >= w->seg->len) {
		w->off -= w->seg->len;
		w->seg++;
		w->left--;
	}
	if (!w->left || !w->len)
		return false;
	uint64_t len = w->seg->len - w->off;
	if (len > w->len)
		len = w->len;
	*piece = (struct vq_seg){.at = gpa_add(w->seg->at, w->off), .len = (uint32_t)len};
	w->off += len;
	w->len -= len;
	return true;
}

size_t vq_read(const struct vq *vq, const struct vq_req *req, uint64_t off, void *dst, size_t len)
{
	struct span_walk w = walk_readable(req, off, len);
	struct vq_seg piece;
	size_t done = 0;

	while (walk_next(&w, &piece) &&
	       !gm_read(vq->gm, piece.at, (uint8_t *)dst + done, piece.len))
		done += piece.len;
	return done;
}

size_t vq_write(const struct vq *vq, const struct vq_req *req, uint64_t off, const void *src,
		size_t len)
{
	struct span_walk w = walk_writable(req, off, len);
	struct vq_seg piece;
	size_t done = 0;

	while (walk_next(&w, &piece) &&
	       !gm_write(vq->gm, piece.at, (const uint8_t *)src + done, piece.len))
		done += piece.len;
	return done;
}

static int walk_iov(const struct vq *vq, struct span_walk *w, struct iovec *iov, unsigned max)
{
	struct vq_seg piece;
	unsigned count = 0;

	while (walk_next(w, &piece)) {
		if (count == max)
			return -E2BIG;
		if (gm_iov(vq->gm, piece.at, piece.len, &iov[count++]))
			return -EFAULT;
	}
	return w->len ? -EFAULT : (int)count;
}

int vq_iov_readable(const struct vq *vq, const struct vq_req *req, uint64_t off, uint64_t len,
		    struct iovec *iov, unsigned max)
{
	struct span_walk w = walk_readable(req, off, len);
	return walk_iov(vq, &w, iov, max);
}

int vq_iov_writable(const struct vq *vq, const struct vq_req *req, uint64_t off, uint64_t len,
		    struct iovec *iov, unsigned max)
{
	struct span_walk w = walk_writable(req, off, len);
	return walk_iov(vq, &w, iov, max);
}

void vq_mark_written(const struct vq *vq, const struct vq_req *req, uint64_t off, uint64_t len)
{
	struct span_walk w = walk_writable(req, off, len);
	struct vq_seg piece;

	while (walk_next(&w, &piece))
		gm_mark(vq->gm, piece.at, piece.len);
}

void vq_reset(struct vq *vq)
{
	*vq = (struct vq){.gm = vq->gm, .generation = vq->generation + 1};
}
