/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of eight writes, read back and compared, on device 0, until the host writes to `stop`: says where
 * that is first, and last how many batches there were.
 */
#include "tests/kvm/guest/blkdrv.h"

#define BATCH   8u
#define SECTORS 1024u
#define BUF(i)  ((volatile uint64_t *)(VIO_DATA + 0x200000ull + (i)*512ull))

static struct vio disk;
static struct blk_slot slot[BATCH];
static volatile uint32_t stop;

static void transfer(uint64_t batch, int read)
{
	for (unsigned i = 0; i < BATCH; i++) {
		uint64_t sector = (batch * BATCH + i) % SECTORS;
		if (read)
			BUF(i)[0] = 0;
		else
			blk_fill(BUF(i), sector, 1, batch + 2);
		blk_queue(&disk, &slot[i], read ? BLK_IN : BLK_OUT, sector, BUF(i), 512, 0);
	}
	vio_kick(&disk, 0);
	for (unsigned i = 0; i < BATCH; i++)
		vio_wait(&disk.q[0]);
	for (unsigned i = 0; i < BATCH; i++) {
		CHECK(slot[i].status == BLK_OK);
		CHECK(!read || blk_is(BUF(i), (batch * BATCH + i) % SECTORS, 1, batch + 2));
	}
	CHECK(!vio_has_used(&disk.q[0])); /* none is answered twice */
}

void guest_main(const void *zero_page)
{
	uint64_t batch = 0;

	(void)zero_page;
	CHECK(vio_start(&disk, 0, 1, BLK_FEATURES));
	put_hex((uint64_t)(uintptr_t)&stop);
	put_char('\n');
	while (!stop) {
		transfer(batch, 0);
		transfer(batch++, 1);
	}
	put_hex(batch);
	put_char('\n');
	guest_verdict();
}
