/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver without manners, then one with: "seed=N count=N" on the command line.
 * What it lets devices write stays within the arena from 4 MiB up, so that it lives to see the second
 * phase.  It keeps off what would end it by its own wish: resets, power off, and IOAPIC deliveries
 * (NMI, SMI, INIT) that end a processor rather than interrupt it.
 */
#include "tests/kvm/guest/blkdrv.h"

#define DEVICES    4u /* disk, read-only disk, vsock, entropy */
#define ARENA      0x400000ull
#define ARENA_SIZE 0xc00000ull /* to the end of 16 MiB */

static uint64_t state;

static uint64_t any(void)
{
	return guest_rand(&state);
}

static uint64_t below(uint64_t n)
{
	return any() % n;
}

/* Mostly inside the arena; sometimes across its end, sometimes nowhere at all. */
static uint64_t address(void)
{
	switch (below(8)) {
	case 0: return any() | 1ull << 32;
	case 1: return ARENA + ARENA_SIZE - below(64);
	case 2: return ~0ull - below(4096);
	default: return ARENA + below(ARENA_SIZE - 0x20000);
	}
}

static uint32_t length(void)
{
	static const uint32_t odd[] = {0, 1, 16, 512, 4096, 65536, 0x7fffffff, 0xffffffff};
	return below(3) ? (uint32_t)below(1024) : odd[below(8)];
}

static void random_register(void)
{
	static const uint16_t known[] = {0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64,
					 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x100};
	uint64_t page = VIO_PAGE(below(DEVICES + 1));
	uint64_t reg = below(4) ? known[below(16)] : below(0x1000 - 8);

	switch (below(6)) {
	case 0: (void)mmio_load(page + reg); break;
	case 1: *(volatile uint8_t *)(page + reg) = (uint8_t)any(); break;
	case 2: *(volatile uint64_t *)(page + reg) = any(); break;
	case 3: mmio_store(page + 0x70, (uint32_t)below(16)); break;
	default: mmio_store(page + reg, below(2) ? (uint32_t)below(256) : (uint32_t)any()); break;
	}
}

static struct vio victim;

/* A device that was started properly, or nearly so, with rings of our choice. */
static void start_one(void)
{
	unsigned index = (unsigned)below(DEVICES);
	vio_start(&victim, index, index == 2 ? 3 : 1, below(4) ? ~0ull : any() | VIO_VERSION_1);
	if (below(8) == 0)
		vio_set64(&victim, 0x80 + 0x10 * (uint32_t)below(3), address());
}

static void random_ring(void)
{
	struct vio_queue *q;
	unsigned index = (unsigned)below(3);

	if (!victim.q[index].desc)
		return;
	q = &victim.q[index];
	for (uint64_t n = below(6); n; n--) {
		volatile struct vio_desc *d =
			below(8) ? &q->desc[below(VIO_SIZE)] : &q->table[below(VIO_SIZE)];
		d->addr = below(6) ? address() : (uint64_t)(below(2) ? q->table : q->desc);
		d->len = length();
		d->flags = (uint16_t)(below(4) ? below(4) : any());
		d->next = (uint16_t)(below(8) ? below(VIO_SIZE) : any());
	}
	if (below(3) == 0) /* something like a header of virtio-blk or vsock */
		for (unsigned i = 0; i < 8; i++)
			((volatile uint32_t *)ARENA)[i + below(4096)] = (uint32_t)below(16);
	q->avail[2 + q->avail[1] % VIO_SIZE] = (uint16_t)(below(16) ? below(VIO_SIZE) : any());
	q->avail[1] = (uint16_t)(q->avail[1] + (below(16) ? 1 : any()));
	vio_kick(&victim, (uint32_t)(below(8) ? index : any()));
}

/* A request that a device will take, with header, data and status where they belong. */
static void likely_request(void)
{
	static struct blk_slot slot;
	if (!victim.q[0].desc)
		return;
	blk_queue(&victim, &slot, (uint32_t)below(16), below(4) ? below(2048) : any(),
		  (volatile void *)address(), length(), (int)below(2));
	vio_kick(&victim, 0);
}

static void random_ioapic(void)
{
	uint32_t reg = (uint32_t)below(0x48), value = (uint32_t)any();

	if (reg >= 0x10 && !(reg & 1))
		value &= ~0x600u; /* fixed or lowest priority */
	mmio_store(0xfec00000, reg);
	if (below(3))
		mmio_store(0xfec00010, value);
	else
		(void)mmio_load(0xfec00000 + below(0xff0));
}

static void random_port(void)
{
	uint16_t port = (uint16_t)(below(2)   ? 0x3f8 + below(8)
				   : below(2) ? 0x60 + below(5)
					      : any());
	uint8_t value = (uint8_t)any();

	if (below(2)) {
		(void)inb(port);
		return;
	}
	if (port == 0x64 && (value >= 0xf0 || value == 0xd1))
		return;
	if (port == 0x600 || port == 0x601 || port == 0xcf9 || port == 0x92)
		return;
	outb(port, value);
}

static void quiet_serial(void)
{
	outb(COM1 + 3, 0);
	outb(COM1 + 1, 0);
	outb(COM1 + 4, 0);
}

/* Whether all devices serve a driver that keeps the rules. */
static void honest(void)
{
	static struct vio v;
	volatile uint64_t *buf = (volatile uint64_t *)VIO_DATA;

	CHECK(vio_start(&v, 0, 1, BLK_FEATURES));
	blk_fill(buf, 77, 1, 5);
	CHECK(blk_do(&v, BLK_OUT, 77, buf, 512) == BLK_OK);
	for (unsigned i = 0; i < 64; i++)
		buf[i] = 0;
	CHECK(blk_do(&v, BLK_IN, 77, buf, 512) == BLK_OK);
	CHECK(blk_is(buf, 77, 1, 5));
	CHECK(vio_start(&v, 1, 1, BLK_FEATURES));
	CHECK(blk_do(&v, BLK_IN, 5, buf, 512) == BLK_OK);
	CHECK(blk_is(buf, 5, 1, 1)); /* nothing was written to the read-only disk */
	CHECK(vio_start(&v, 2, 3, VIO_VERSION_1));
	CHECK(vio_start(&v, 3, 1, VIO_VERSION_1));
	struct vio_seg seg = {buf, 32, 1};
	vio_add(&v.q[0], &seg, 1);
	vio_kick(&v, 0);
	CHECK(vio_wait(&v.q[0]).len == 32);
}

void guest_main(const void *zero_page)
{
	uint64_t count = guest_option(zero_page, "count=");

	state = guest_option(zero_page, "seed=") * 0x9e3779b97f4a7c15ull + 1;
	for (uint64_t i = 0; i < count; i++) {
		switch (below(12)) {
		case 0: start_one(); break;
		case 1:
		case 2:
		case 3: random_register(); break;
		case 4: random_ioapic(); break;
		case 5: random_port(); break;
		case 6:
		case 7: likely_request(); break;
		default: random_ring(); break;
		}
	}
	quiet_serial();
	put_text("\nhonest\n");
	honest();
	guest_verdict();
}
