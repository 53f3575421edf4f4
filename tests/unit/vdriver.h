/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdriver.h - a virtio driver for tests: guest memory, rings, and the handshake over virtio-mmio
 *
 * The obvious implementation of the driver's half of virtio 1.2, 2.7, written apart from devices/vq.c and
 * sharing nothing with it but guest memory.  Errors of the test itself abort.
 */
#ifndef SPORE_TESTS_VDRIVER_H
#define SPORE_TESTS_VDRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/gmem.h"
#include "devices/mmio.h"

#define VD_BASE       0x100000u /* where guest memory begins */
#define VD_SEG_MAX    160
#define VD_QUEUE_AREA 0x8000u /* bytes of a queue's rings and indirect tables' beginning */

#define VD_NEXT     1u
#define VD_WRITE    2u
#define VD_INDIRECT 4u

struct vd_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct vd_seg {
	uint64_t at;
	uint32_t len;
	bool writable;
};

struct vd_queue {
	uint16_t size;
	uint64_t desc, avail, used, tables;
	uint16_t avail_idx, last_used;
	bool taken[VQ_SIZE_MAX]; /* descriptors of the ring in use */
	uint16_t chain_len[VQ_SIZE_MAX];
};

struct vd {
	uint8_t *mem;
	uint64_t size;
	struct gmem gm;
	struct vd_queue q[DEV_QUEUE_MAX];
	uint64_t data; /* first address behind all rings */
};

static inline uint64_t vd_rand(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline void *vd_ptr(const struct vd *vd, uint64_t at, uint64_t len)
{
	VERIFY(at >= VD_BASE && at - VD_BASE <= vd->size && len <= vd->size - (at - VD_BASE));
	return vd->mem + (at - VD_BASE);
}

static inline void vd_init(struct vd *vd, uint64_t size)
{
	memset(vd, 0, sizeof(*vd));
	vd->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VERIFY(vd->mem != MAP_FAILED);
	vd->size = size;
	VERIFY(gm_add(&vd->gm, gpa(VD_BASE), vd->mem, size) == 0);
	vd->data =
		VD_BASE + (uint64_t)DEV_QUEUE_MAX * (VD_QUEUE_AREA + VQ_SIZE_MAX * 16 * VD_SEG_MAX);
	VERIFY(vd->data < VD_BASE + size);
}

static inline void vd_free(struct vd *vd)
{
	munmap(vd->mem, vd->size);
}

/* Lays the rings of queue `index` out and zeroes them; a table of VD_SEG_MAX descriptors a head follows. */
static inline void vd_layout(struct vd *vd, unsigned index, uint16_t size)
{
	uint64_t at = VD_BASE + (uint64_t)index * (VD_QUEUE_AREA + VQ_SIZE_MAX * 16 * VD_SEG_MAX);
	struct vd_queue *q = &vd->q[index];

	memset(q, 0, sizeof(*q));
	q->size = size;
	q->desc = at;
	q->avail = at + 0x2000;
	q->used = at + 0x4000;
	q->tables = at + VD_QUEUE_AREA;
	memset(vd_ptr(vd, at, VD_QUEUE_AREA), 0, VD_QUEUE_AREA);
}

static inline uint16_t *vd_u16(const struct vd *vd, uint64_t at)
{
	return vd_ptr(vd, at, 2);
}

static inline struct vd_desc *vd_desc_at(const struct vd *vd, uint64_t table, unsigned index)
{
	return (struct vd_desc *)vd_ptr(vd, table + 16 * (uint64_t)index, 16);
}

static inline int vd_take(struct vd_queue *q)
{
	for (unsigned i = 0; i < q->size; i++)
		if (!q->taken[i]) {
			q->taken[i] = true;
			return (int)i;
		}
	return -1;
}

static inline unsigned vd_free_count(const struct vd_queue *q)
{
	unsigned n = 0;
	for (unsigned i = 0; i < q->size; i++)
		n += !q->taken[i];
	return n;
}

/* Makes head available, and visible. */
static inline void vd_publish(struct vd *vd, struct vd_queue *q, uint16_t head)
{
	*vd_u16(vd, q->avail + 4 + 2u * (q->avail_idx % q->size)) = head;
	q->avail_idx++;
	__atomic_store_n(vd_u16(vd, q->avail + 2), q->avail_idx, __ATOMIC_SEQ_CST);
}

static inline void vd_fill(struct vd *vd, uint64_t table, unsigned index, const struct vd_seg *seg,
			   int next)
{
	*vd_desc_at(vd, table, index) = (struct vd_desc){
		.addr = seg->at,
		.len = seg->len,
		.flags = (uint16_t)((seg->writable ? VD_WRITE : 0) | (next >= 0 ? VD_NEXT : 0)),
		.next = (uint16_t)(next >= 0 ? next : 0)};
}

/* A chain of ring descriptors.  Return: its head. */
static inline uint16_t vd_add_direct(struct vd *vd, unsigned index, const struct vd_seg *seg,
				     unsigned count)
{
	struct vd_queue *q = &vd->q[index];
	int head = vd_take(q), at = head;

	VERIFY(count && head >= 0);
	q->chain_len[head] = (uint16_t)count;
	for (unsigned i = 0; i < count; i++) {
		int next = i + 1 < count ? vd_take(q) : -1;
		VERIFY(i + 1 == count || next >= 0);
		vd_fill(vd, q->desc, (unsigned)at, &seg[i], next);
		at = next;
	}
	vd_publish(vd, q, (uint16_t)head);
	return (uint16_t)head;
}

/* One ring descriptor that refers to a table. */
static inline uint16_t vd_add_indirect(struct vd *vd, unsigned index, const struct vd_seg *seg,
				       unsigned count)
{
	struct vd_queue *q = &vd->q[index];
	int head = vd_take(q);

	VERIFY(count && count <= VD_SEG_MAX && head >= 0);
	uint64_t table = q->tables + 16ull * VD_SEG_MAX * (unsigned)head;
	for (unsigned i = 0; i < count; i++)
		vd_fill(vd, table, i, &seg[i], i + 1 < count ? (int)i + 1 : -1);
	*vd_desc_at(vd, q->desc, (unsigned)head) =
		(struct vd_desc){.addr = table, .len = 16 * count, .flags = VD_INDIRECT};
	q->chain_len[head] = 1;
	vd_publish(vd, q, (uint16_t)head);
	return (uint16_t)head;
}

static inline void vd_release(struct vd *vd, struct vd_queue *q, uint16_t head)
{
	unsigned at = head;
	for (unsigned n = q->chain_len[head]; n; n--) {
		VERIFY(q->taken[at]);
		q->taken[at] = false;
		at = vd_desc_at(vd, q->desc, at)->next;
	}
}

/* The next used element; its descriptors are free again. */
static inline bool vd_used(struct vd *vd, unsigned index, uint32_t *id, uint32_t *len)
{
	struct vd_queue *q = &vd->q[index];

	if (__atomic_load_n(vd_u16(vd, q->used + 2), __ATOMIC_SEQ_CST) == q->last_used)
		return false;
	const uint32_t *elem = vd_ptr(vd, q->used + 4 + 8u * (q->last_used % q->size), 8);
	*id = elem[0];
	*len = elem[1];
	VERIFY(*id < q->size);
	q->last_used++;
	vd_release(vd, q, (uint16_t)*id);
	return true;
}

/* --- over virtio-mmio --------------------------------------------------------------------------- */
static inline void vd_w32(struct mmio *mmio, uint64_t off, uint32_t val)
{
	mmio_write(mmio, off, &val, 4);
}

static inline uint32_t vd_r32(struct mmio *mmio, uint64_t off)
{
	uint32_t val = 0xdeadbeef;
	mmio_read(mmio, off, &val, 4);
	return val;
}

static inline void vd_w64(struct mmio *mmio, uint64_t off, uint64_t val)
{
	vd_w32(mmio, off, (uint32_t)val);
	vd_w32(mmio, off + 4, (uint32_t)(val >> 32));
}

/* Features and FEATURES_OK.  Return: whether the device agreed. */
static inline bool vd_negotiate(struct mmio *mmio, uint64_t features)
{
	vd_w32(mmio, 0x70, 0);
	vd_w32(mmio, 0x70, 1);
	vd_w32(mmio, 0x70, 3);
	for (uint32_t i = 0; i < 2; i++) {
		vd_w32(mmio, 0x24, i);
		vd_w32(mmio, 0x20, (uint32_t)(features >> (32 * i)));
	}
	vd_w32(mmio, 0x70, 11);
	return vd_r32(mmio, 0x70) & 8;
}

static inline void vd_setup_queue(struct vd *vd, struct mmio *mmio, unsigned index, uint16_t size)
{
	vd_layout(vd, index, size);
	vd_w32(mmio, 0x30, index);
	vd_w32(mmio, 0x38, size);
	vd_w64(mmio, 0x80, vd->q[index].desc);
	vd_w64(mmio, 0x90, vd->q[index].avail);
	vd_w64(mmio, 0xa0, vd->q[index].used);
	vd_w32(mmio, 0x44, 1);
}

/* The whole handshake with `count` queues of `size`. */
static inline void vd_start(struct vd *vd, struct mmio *mmio, uint64_t features, unsigned count,
			    uint16_t size)
{
	VERIFY(vd_negotiate(mmio, features));
	for (unsigned i = 0; i < count; i++)
		vd_setup_queue(vd, mmio, i, size);
	vd_w32(mmio, 0x70, 15);
}

/* A device with its transport and a loop that this thread turns: vCPU and io in one. */
struct vd_rig {
	struct vd vd;
	struct loop *loop;
	struct mmio *mmio;
	struct dev *dev;
	int irq;
};

static inline void vd_rig_init(struct vd_rig *r, uint64_t mem_size)
{
	VERIFY(loop_create(&r->loop, 64, NULL) == 0);
	VERIFY(loop_step(r->loop, LOOP_POLL) == 0); /* from here on this is the io thread */
	vd_init(&r->vd, mem_size);
	r->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	VERIFY(r->irq >= 0);
}

static inline void vd_rig_plug(struct vd_rig *r, struct dev *dev)
{
	r->dev = dev;
	VERIFY(mmio_create(&r->mmio, dev, &r->vd.gm, r->loop, r->irq, NULL) == 0);
}

static inline void vd_rig_deinit(struct vd_rig *r)
{
	if (r->mmio)
		mmio_quiesce(r->mmio);
	loop_destroy(r->loop);
	mmio_destroy(r->mmio);
	vd_free(&r->vd);
	close(r->irq);
}

/* How many interrupts since the last time. */
static inline uint64_t vd_irqs(struct vd_rig *r)
{
	uint64_t n = 0;
	return read(r->irq, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static inline void vd_turns(struct vd_rig *r, unsigned n)
{
	while (n--)
		VERIFY(loop_step(r->loop, LOOP_POLL) == 0);
}

static inline void vd_kick(struct mmio *mmio, unsigned index)
{
	vd_w32(mmio, MMIO_REG_QUEUE_NOTIFY, index);
}

#endif
