/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kind of request to virtio-blk.  Drive 0 is writable, drive 1 is not; both hold salt 1 before.
 * With "verify=1" on the command line it only looks whether an earlier run's writes are there.
 */
#include "tests/kvm/guest/blkdrv.h"

#define BUF ((volatile uint64_t *)VIO_DATA)

static struct vio disk, fixed;

static int is_zero(const volatile uint64_t *at, unsigned sectors)
{
	for (unsigned i = 0; i < sectors * 64; i++)
		if (at[i])
			return 0;
	return 1;
}

static void read_and_check(uint64_t sector, unsigned sectors, uint64_t salt)
{
	CHECK(blk_do(&disk, BLK_IN, sector, BUF, sectors * 512) == BLK_OK);
	CHECK(blk_is(BUF, sector, sectors, salt));
}

static void what_was_written(void)
{
	read_and_check(0, 16, 1);
	read_and_check(16, 8, 2);
	read_and_check(24, 4, 1);
	read_and_check(41, 2, 3);
	CHECK(blk_do(&disk, BLK_IN, 64, BUF, 8 * 512) == BLK_OK);
	CHECK(is_zero(BUF, 8));
	for (unsigned i = 0; i < 16; i++)
		read_and_check(200 + i, 1, 10 + i);
}

static void write_zero_discard(uint64_t capacity)
{
	static struct blk_range zeroes = {64, 8, 1}, discard = {128, 8, 0}, far;
	static struct blk_range strange = {128, 8, 2};

	blk_fill(BUF, 16, 8, 2);
	CHECK(blk_do(&disk, BLK_OUT, 16, BUF, 8 * 512) == BLK_OK);
	CHECK(blk_do(&disk, BLK_FLUSH, 0, 0, 0) == BLK_OK);
	CHECK(blk_do(&disk, BLK_WRITE_ZEROES, 0, &zeroes, 16) == BLK_OK);
	CHECK(blk_do(&disk, BLK_DISCARD, 0, &discard, 16) == BLK_OK);
	CHECK(blk_do(&disk, BLK_DISCARD, 0, &strange, 16) == BLK_UNSUPP);
	far = (struct blk_range){capacity - 1, 2, 0};
	CHECK(blk_do(&disk, BLK_WRITE_ZEROES, 0, &far, 16) == BLK_IOERR);
	CHECK(blk_do(&disk, BLK_DISCARD, 0, &far, 16) == BLK_IOERR);
}

static void refusals(uint64_t capacity)
{
	CHECK(blk_do(&disk, BLK_IN, capacity, BUF, 512) == BLK_IOERR);
	CHECK(blk_do(&disk, BLK_OUT, capacity - 1, BUF, 1024) == BLK_IOERR);
	CHECK(blk_do(&disk, BLK_IN, ~0ull, BUF, 512) == BLK_IOERR);
	CHECK(blk_do(&disk, BLK_IN, 0, BUF, 511) == BLK_IOERR);
	CHECK(blk_do(&disk, 99, 0, BUF, 512) == BLK_UNSUPP);
	CHECK(blk_do(&disk, BLK_IN, capacity - 1, BUF, 512) == BLK_OK);
}

static void by_table(void)
{
	static struct blk_slot slot;
	blk_fill(BUF, 41, 2, 3);
	blk_queue(&disk, &slot, BLK_OUT, 41, BUF, 2 * 512, 1);
	vio_kick(&disk, 0);
	vio_wait(&disk.q[0]);
	CHECK(slot.status == BLK_OK);
}

static void sixteen_at_once(void)
{
	static struct blk_slot slot[16];
	uint64_t answered = 0;

	for (unsigned i = 0; i < 16; i++) {
		blk_fill(BUF + i * 64, 200 + i, 1, 10 + i);
		blk_queue(&disk, &slot[i], BLK_OUT, 200 + i, BUF + i * 64, 512, 0);
	}
	vio_kick(&disk, 0);
	for (unsigned i = 0; i < 16; i++)
		answered |= 1ull << vio_wait(&disk.q[0]).id;
	CHECK(!vio_has_used(&disk.q[0]));
	unsigned heads = 0;
	for (; answered; answered &= answered - 1)
		heads++;
	CHECK(heads == 16);
	for (unsigned i = 0; i < 16; i++)
		CHECK(slot[i].status == BLK_OK);
}

static void name_and_read_only(void)
{
	volatile char *id = (volatile char *)BUF;

	CHECK(blk_do(&disk, BLK_GET_ID, 0, BUF, 20) == BLK_OK);
	CHECK(id[0] == 'd' && id[1] == 'i' && id[2] == 's' && id[3] == 'k' && id[4] == 0);
	CHECK(vio_start(&fixed, 1, 1, BLK_FEATURES));
	CHECK(fixed.features & 1 << 5);
	CHECK(blk_do(&fixed, BLK_IN, 3, BUF, 512) == BLK_OK);
	CHECK(blk_is(BUF, 3, 1, 1));
	CHECK(blk_do(&fixed, BLK_OUT, 3, BUF, 512) == BLK_IOERR);
}

void guest_main(const void *zero_page)
{
	CHECK(vio_start(&disk, 0, 1, BLK_FEATURES));
	CHECK(disk.features == (BLK_FEATURES & ~(1ull << 5)));
	uint64_t capacity = vio_get(&disk, 0x100) | (uint64_t)vio_get(&disk, 0x104) << 32;
	CHECK(capacity == 2048);
	if (!guest_option(zero_page, "verify=")) {
		read_and_check(0, 16, 1);
		write_zero_discard(capacity);
		by_table();
		sixteen_at_once();
		refusals(capacity);
		name_and_read_only();
	}
	what_was_written();
	CHECK(blk_do(&disk, BLK_FLUSH, 0, 0, 0) == BLK_OK);
	guest_verdict();
}
