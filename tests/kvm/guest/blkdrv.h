/* SPDX-License-Identifier: Apache-2.0 */
/* blkdrv.h - virtio-blk requests of a tiny guest, one at a time or gathered. */
#ifndef SPORE_TESTS_GUEST_BLKDRV_H
#define SPORE_TESTS_GUEST_BLKDRV_H

#include "tests/kvm/guest/virtio.h"

enum { BLK_IN, BLK_OUT, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11, BLK_WRITE_ZEROES = 13 };
enum { BLK_OK, BLK_IOERR, BLK_UNSUPP, BLK_UNANSWERED = 0xee };
#define BLK_FEATURES                                                                         \
	(VIO_VERSION_1 | VIO_EVENT_IDX | VIO_INDIRECT | 1ull << 5 | 1ull << 9 | 1ull << 13 | \
	 1ull << 14)

struct blk_slot {
	uint32_t type, rsvd;
	uint64_t sector;
	volatile uint8_t status;
	uint8_t pad[15];
};

struct blk_range {
	uint64_t sector;
	uint32_t sectors, flags;
};

/* Puts a request into the ring and says nothing to the device. */
static inline uint16_t blk_queue(struct vio *v, struct blk_slot *slot, uint32_t type,
				 uint64_t sector, volatile void *data, uint32_t len, int table)
{
	int in = type == BLK_IN || type == BLK_GET_ID;
	struct vio_seg seg[3] = {{slot, 16, 0}, {data, len, (uint32_t)in}, {&slot->status, 1, 1}};

	slot->type = type;
	slot->rsvd = 0;
	slot->sector = sector;
	slot->status = BLK_UNANSWERED;
	if (!len)
		seg[1] = seg[2];
	return table ? vio_add_table(&v->q[0], seg, len ? 3 : 2)
		     : vio_add(&v->q[0], seg, len ? 3 : 2);
}

/* One request from beginning to end.  Return: its status. */
static inline unsigned blk_do(struct vio *v, uint32_t type, uint64_t sector, volatile void *data,
			      uint32_t len)
{
	static struct blk_slot slot;
	uint16_t head = blk_queue(v, &slot, type, sector, data, len, 0);

	vio_kick(v, 0);
	CHECK(vio_wait(&v->q[0]).id == head);
	return slot.status;
}

/* The words of sector `n` as `salt` would have written it. */
static inline uint64_t blk_word(uint64_t sector, unsigned i, uint64_t salt)
{
	return (sector * 64 + i) * 0x9e3779b97f4a7c15ull + salt;
}

static inline void blk_fill(volatile uint64_t *to, uint64_t sector, unsigned sectors, uint64_t salt)
{
	for (unsigned i = 0; i < sectors * 64; i++)
		to[i] = blk_word(sector, i, salt);
}

static inline int blk_is(const volatile uint64_t *at, uint64_t sector, unsigned sectors,
			 uint64_t salt)
{
	for (unsigned i = 0; i < sectors * 64; i++)
		if (at[i] != blk_word(sector, i, salt))
			return 0;
	return 1;
}

#endif
