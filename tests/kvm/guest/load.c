/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk and vsock at work at the same time: batches of eight writes, read back and compared, on device 0
 * (the first 1024 sectors), and an echo on port 1024 of device 1.  Ends with the connection, and says how
 * many batches there were.
 */
#include "tests/kvm/guest/blkdrv.h"
#include "tests/kvm/guest/vsockdrv.h"

#define BATCH   8u
#define SECTORS 1024u
#define BUF(i)  ((volatile uint64_t *)(VIO_DATA + 0x200000ull + (i)*512ull))

static struct vio disk;
static struct vs s;
static struct blk_slot slot[BATCH];
static uint32_t answered;
static uint64_t batch;
static int reading;

static uint64_t sector(unsigned i)
{
	return (batch * BATCH + i) % SECTORS;
}

static void batch_begin(int read)
{
	reading = read;
	answered = 0;
	for (unsigned i = 0; i < BATCH; i++) {
		if (read)
			BUF(i)[0] = 0;
		else
			blk_fill(BUF(i), sector(i), 1, batch + 2);
		blk_queue(&disk, &slot[i], read ? BLK_IN : BLK_OUT, sector(i), BUF(i), 512, 0);
	}
	vio_kick(&disk, 0);
}

static void batch_check(void)
{
	for (unsigned i = 0; i < BATCH; i++) {
		CHECK(slot[i].status == BLK_OK);
		CHECK(!reading || blk_is(BUF(i), sector(i), 1, batch + 2));
	}
	CHECK(!vio_has_used(&disk.q[0])); /* none is answered twice */
	batch += (uint64_t)reading;
}

static void disk_turn(int more)
{
	while (vio_has_used(&disk.q[0])) {
		vio_wait(&disk.q[0]);
		answered++;
	}
	if (answered < BATCH)
		return;
	batch_check();
	if (more || !reading)
		batch_begin(!reading);
	else
		answered = 0;
}

static int talking(void)
{
	return (s.state != VS_ENDING || s.head != s.tail) && s.state != VS_CLOSED;
}

void guest_main(const void *zero_page)
{
	(void)zero_page;
	CHECK(vio_start(&disk, 0, 1, BLK_FEATURES));
	CHECK(vs_start(&s, 1));
	vs_begin(&s, VS_IDLE, 1024, 0);
	put_text("listening\n");
	batch_begin(0);
	while (talking()) {
		vs_poll(&s);
		vs_echo(&s);
		disk_turn(1);
	}
	for (uint64_t last = batch; last == batch;)
		disk_turn(0);
	CHECK(s.state == VS_ENDING);
	vs_end(&s);
	put_hex(batch);
	put_char('\n');
	guest_verdict();
}
