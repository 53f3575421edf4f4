/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills 16 MiB, gives them up by page numbers and by reports, tells its statistics, and looks at what it gave up.
 * Says what it has done in single characters; the host counts its memory in between and answers by the target.
 */
#include "tests/kvm/guest/virtio.h"

enum { INFLATE, DEFLATE, STATS, REPORT };
#define AREA  0x1000000ull
#define MIB   0x100000ull
#define PAGES 256u /* of 4096 bytes in a MiB */

static struct vio balloon;

/* One word a page: what is not touched is not there. */
static void fill(uint64_t at, unsigned pages, uint64_t val)
{
	for (unsigned i = 0; i < pages; i++)
		*(volatile uint64_t *)(at + 4096ull * i) = val;
}

static int all_are(uint64_t at, unsigned pages, uint64_t val)
{
	for (unsigned i = 0; i < pages; i++)
		if (*(volatile uint64_t *)(at + 4096ull * i) != val)
			return 0;
	return 1;
}

static void await_target(uint32_t mib)
{
	while (vio_get(&balloon, 0x100) != mib * PAGES)
		;
}

static void send(unsigned queue, const volatile void *at, uint32_t len, uint32_t writable)
{
	struct vio_seg seg = {at, len, writable};
	vio_add(&balloon.q[queue], &seg, 1);
	vio_kick(&balloon, queue);
}

static void inflate(uint64_t at)
{
	volatile uint32_t *pfn = (volatile uint32_t *)VIO_DATA;

	for (unsigned i = 0; i < PAGES; i++)
		pfn[i] = (uint32_t)(at / 4096 + i);
	send(INFLATE, pfn, PAGES * 4, 0);
	vio_wait(&balloon.q[INFLATE]);
}

static void tell(uint16_t tag, uint64_t val)
{
	volatile uint16_t *at = (volatile uint16_t *)(VIO_DATA + 0x2000);

	at[0] = tag;
	for (unsigned i = 0; i < 4; i++)
		at[1 + i] = (uint16_t)(val >> 16 * i);
	send(STATS, at, 10, 0);
}

void guest_main(const void *zero_page)
{
	(void)zero_page;
	CHECK(vio_start(&balloon, 0, 4, VIO_VERSION_1 | 1u << 1 | 1u << 5));
	CHECK(balloon.features == (VIO_VERSION_1 | 1u << 1 | 1u << 5));
	fill(AREA, 16 * PAGES, 0x55);
	tell(4, 0x123456789abcull);
	put_char('f');
	await_target(8);
	for (unsigned i = 0; i < 8; i++)
		inflate(AREA + i * MIB);
	vio_set(&balloon, 0x104, 8 * PAGES);
	put_char('i');
	await_target(1);
	send(REPORT, (const void *)(AREA + 8 * MIB), 8 * MIB, 1);
	vio_wait(&balloon.q[REPORT]);
	put_char('r');
	await_target(0);
	CHECK(all_are(AREA, 16 * PAGES, 0));
	fill(AREA, 16 * PAGES, 0x66);
	CHECK(all_are(AREA, 16 * PAGES, 0x66));
	guest_verdict();
}
