/* SPDX-License-Identifier: Apache-2.0 */
/* Watches its generation id and its VMClock while the host makes it another one, pin open and pin masked. */
#include "tests/kvm/guest/irq.h"
#include "tests/kvm/guest/virtio.h"

enum { PIN = 3 };
#define ID    ((volatile uint64_t *)0xde000)
#define CLOCK 0xdf000ull

struct seen {
	uint64_t id[2], disruption, generation;
	uint32_t seq;
};

static uint64_t clock64(unsigned off)
{
	return *(volatile uint64_t *)(CLOCK + off);
}

/* As a program of the guest reads it: again while the count is odd or has moved. */
static struct seen look(void)
{
	struct seen s;

	do {
		while ((s.seq = mmio_load(CLOCK + 0x0c)) & 1)
			;
		s.id[0] = ID[0];
		s.id[1] = ID[1];
		s.disruption = clock64(0x10);
		s.generation = clock64(0x68);
	} while (mmio_load(CLOCK + 0x0c) != s.seq);
	return s;
}

static void check_one_further(const struct seen *a, const struct seen *b)
{
	CHECK(a->id[0] != b->id[0]);
	CHECK(a->id[1] != b->id[1]);
	CHECK(b->disruption != a->disruption);
	CHECK(b->generation == a->generation + 1);
	CHECK(b->seq == a->seq + 2);
}

void guest_main(const void *zero_page)
{
	(void)zero_page;
	irq_init();
	irq_pin(PIN, 0);
	struct seen first = look();
	CHECK(mmio_load(CLOCK) == 0x4b4c4356);
	CHECK(clock64(0x18) == 0x300);
	CHECK(first.id[0] && first.id[1]);
	put_char('1');
	irq_wait(PIN, 0);
	struct seen second = look();
	check_one_further(&first, &second);

	irq_pin(PIN, 1);
	put_char('2');
	while (clock64(0x68) == second.generation)
		;
	struct seen third = look();
	check_one_further(&second, &third);
	CHECK(irq_count[PIN] == 1);
	irq_pin(PIN, 0);
	irq_wait(PIN, 1);
	CHECK(irq_count[PIN] == 2);
	guest_verdict();
}
