/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio.h - a driver of a few lines for tiny guests: handshake, split queue, polling
 *
 * Rings lie at 4 MiB, 64 KiB a queue; data that a guest wants to keep lies above VIO_DATA.  Nothing here
 * gives up: whoever runs the guest bounds the time.
 */
#ifndef SPORE_TESTS_GUEST_VIRTIO_H
#define SPORE_TESTS_GUEST_VIRTIO_H

#include "tests/kvm/guest/tiny.h"

#define VIO_PAGE(dev) (0xc0001000ull + 0x1000ull * (dev))
#define VIO_RING      0x400000ull
#define VIO_DATA      0x800000ull
#define VIO_SIZE      64u /* entries of a queue */

#define VIO_INDIRECT  (1ull << 28)
#define VIO_EVENT_IDX (1ull << 29)
#define VIO_VERSION_1 (1ull << 32)

enum { VIO_NEXT = 1, VIO_WRITE = 2, VIO_TABLE = 4 };

struct vio_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct vio_seg {
	const volatile void *at;
	uint32_t len;
	uint32_t writable;
};

struct vio_used {
	uint32_t id, len;
};

struct vio_queue {
	volatile struct vio_desc *desc;
	volatile uint16_t *avail; /* flags, index, ring[], used_event */
	volatile uint16_t *used;  /* flags, index, elements, avail_event */
	volatile struct vio_desc *table;
	uint16_t next_desc, seen;
};

struct vio {
	uint64_t page;
	uint64_t features;
	unsigned index;
	struct vio_queue q[4];
};

static inline uint32_t vio_get(const struct vio *v, uint32_t reg)
{
	return mmio_load(v->page + reg);
}

static inline void vio_set(const struct vio *v, uint32_t reg, uint32_t value)
{
	mmio_store(v->page + reg, value);
}

static inline void vio_set64(const struct vio *v, uint32_t reg, uint64_t value)
{
	vio_set(v, reg, (uint32_t)value);
	vio_set(v, reg + 4, (uint32_t)(value >> 32));
}

static inline uint64_t vio_offered(const struct vio *v)
{
	vio_set(v, 0x14, 1);
	uint64_t high = vio_get(v, 0x10);
	vio_set(v, 0x14, 0);
	return high << 32 | vio_get(v, 0x10);
}

static inline void vio_zero(uint64_t at, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i += 8)
		*(volatile uint64_t *)(at + i) = 0;
}

static inline void vio_lay_out(struct vio *v, unsigned index)
{
	uint64_t at = VIO_RING + (v->index * 4ull + index) * 0x10000;
	struct vio_queue *q = &v->q[index];

	vio_zero(at, 16 * VIO_SIZE);
	vio_zero(at + 0x1000, 8 + 2 * VIO_SIZE);
	vio_zero(at + 0x2000, 8 + 8 * VIO_SIZE);
	q->desc = (volatile struct vio_desc *)at;
	q->avail = (volatile uint16_t *)(at + 0x1000);
	q->used = (volatile uint16_t *)(at + 0x2000);
	q->table = (volatile struct vio_desc *)(at + 0x3000);
	q->next_desc = q->seen = 0;
	vio_set(v, 0x30, index);
	vio_set(v, 0x38, VIO_SIZE);
	vio_set64(v, 0x80, at);
	vio_set64(v, 0x90, at + 0x1000);
	vio_set64(v, 0xa0, at + 0x2000);
	vio_set(v, 0x44, 1);
}

/* The whole handshake.  Return: 1, or 0 when the device refuses. */
static inline int vio_start(struct vio *v, unsigned index, unsigned queues, uint64_t want)
{
	v->page = VIO_PAGE(index);
	v->index = index;
	vio_set(v, 0x70, 0);
	while (vio_get(v, 0x70))
		;
	vio_set(v, 0x70, 1);
	vio_set(v, 0x70, 3);
	v->features = vio_offered(v) & want;
	vio_set(v, 0x24, 0);
	vio_set(v, 0x20, (uint32_t)v->features);
	vio_set(v, 0x24, 1);
	vio_set(v, 0x20, (uint32_t)(v->features >> 32));
	vio_set(v, 0x70, 11);
	if (!(vio_get(v, 0x70) & 8))
		return 0;
	for (unsigned i = 0; i < queues; i++)
		vio_lay_out(v, i);
	vio_set(v, 0x70, 15);
	return (vio_get(v, 0x70) & 0x4f) == 0xf;
}

static inline void vio_publish(struct vio_queue *q, uint16_t head)
{
	q->avail[2 + q->avail[1] % VIO_SIZE] = head;
	__asm__ volatile("" ::: "memory");
	q->avail[1] = (uint16_t)(q->avail[1] + 1);
}

/* Descriptors are taken round the ring: at most VIO_SIZE may be in flight.  Return: the head. */
static inline uint16_t vio_add(struct vio_queue *q, const struct vio_seg *seg, unsigned count)
{
	uint16_t head = q->next_desc % VIO_SIZE;

	for (unsigned i = 0; i < count; i++) {
		volatile struct vio_desc *d = &q->desc[q->next_desc++ % VIO_SIZE];
		d->addr = (uint64_t)seg[i].at;
		d->len = seg[i].len;
		d->flags = (uint16_t)((seg[i].writable ? VIO_WRITE : 0) |
				      (i + 1 < count ? VIO_NEXT : 0));
		d->next = q->next_desc % VIO_SIZE;
	}
	vio_publish(q, head);
	return head;
}

/* The same through an indirect table; one such request at a time. */
static inline uint16_t vio_add_table(struct vio_queue *q, const struct vio_seg *seg, unsigned count)
{
	uint16_t head = q->next_desc++ % VIO_SIZE;

	for (unsigned i = 0; i < count; i++) {
		q->table[i].addr = (uint64_t)seg[i].at;
		q->table[i].len = seg[i].len;
		q->table[i].flags = (uint16_t)((seg[i].writable ? VIO_WRITE : 0) |
					       (i + 1 < count ? VIO_NEXT : 0));
		q->table[i].next = (uint16_t)(i + 1);
	}
	q->desc[head].addr = (uint64_t)q->table;
	q->desc[head].len = 16 * count;
	q->desc[head].flags = VIO_TABLE;
	vio_publish(q, head);
	return head;
}

static inline void vio_kick(const struct vio *v, unsigned index)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vio_set(v, 0x50, index);
}

static inline int vio_has_used(const struct vio_queue *q)
{
	return q->used[1] != q->seen;
}

/* Waits for the next used element. */
static inline struct vio_used vio_wait(struct vio_queue *q)
{
	while (!vio_has_used(q))
		__asm__ volatile("" ::: "memory");
	volatile uint32_t *e = (volatile uint32_t *)(q->used + 2) + 2 * (q->seen % VIO_SIZE);
	struct vio_used used = {e[0], e[1]};
	q->seen++;
	return used;
}

/* --- what is true, and what is not ------------------------------------------------------------------ */
static unsigned guest_failures;

static inline void guest_check(int good, unsigned line)
{
	if (good)
		return;
	guest_failures++;
	put_text("failed at line ");
	put_hex(line);
	put_char('\n');
}
#define CHECK(cond) guest_check(!!(cond), __LINE__)

/* The last line of a guest that found everything as it should be. */
static inline void guest_verdict(void)
{
	put_text(guest_failures ? "bad\n" : "good\n");
}

/* The number behind `key` ("seed=") in the kernel command line, decimal; 0 without. */
static inline uint64_t guest_option(const void *zero_page, const char *key)
{
	const char *at =
		(const char *)(uint64_t) * (const uint32_t *)((const char *)zero_page + 0x228);
	uint64_t value = 0;

	for (; *at; at++) {
		unsigned n = 0;
		while (key[n] && at[n] == key[n])
			n++;
		if (key[n])
			continue;
		for (at += n; *at >= '0' && *at <= '9'; at++)
			value = value * 10 + (uint64_t)(*at - '0');
		return value;
	}
	return 0;
}

static inline uint64_t guest_rand(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
