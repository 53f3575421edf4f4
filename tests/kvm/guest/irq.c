/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts of virtio-rng (pin 5) and of the serial port (pin 4): unmasked, masked, pending. */
#include "tests/kvm/guest/irq.h"
#include "tests/kvm/guest/virtio.h"

enum { PIN_SERIAL = 4, PIN_RNG = 5, ROUNDS = 100 };

static struct vio rng;

static void ask(void)
{
	static volatile uint64_t buf[4];
	struct vio_seg seg = {buf, sizeof(buf), 1};
	vio_add(&rng.q[0], &seg, 1);
	vio_kick(&rng, 0);
}

/* As a driver does it: see who it was, acknowledge, look at the ring. */
static void take_answer(void)
{
	CHECK(vio_get(&rng, 0x60) == 1);
	vio_set(&rng, 0x64, 1);
	CHECK(vio_get(&rng, 0x60) == 0);
	CHECK(vio_has_used(&rng.q[0]));
	CHECK(vio_wait(&rng.q[0]).len == 32);
}

static void one_interrupt_a_request(void)
{
	irq_pin(PIN_RNG, 0);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		ask();
		irq_wait(PIN_RNG, i);
		take_answer();
	}
	CHECK(irq_count[PIN_RNG] == ROUNDS);
}

/* What comes while the pin is masked arrives when it is unmasked. */
static void masked_then_unmasked(void)
{
	uint64_t before = irq_count[PIN_RNG];

	irq_pin(PIN_RNG, 1);
	ask();
	while (!(vio_get(&rng, 0x60) & 1))
		;
	CHECK(irq_count[PIN_RNG] == before);
	irq_pin(PIN_RNG, 0);
	irq_wait(PIN_RNG, before);
	take_answer();
}

static void serial_transmitter_empty(void)
{
	irq_pin(PIN_SERIAL, 0);
	outb(COM1 + 1, 2);
	irq_wait(PIN_SERIAL, 0);
	CHECK((inb(COM1 + 2) & 0xf) == 2);
	CHECK(inb(COM1 + 2) & 1); /* reading it took it */
	uint64_t before = irq_count[PIN_SERIAL];
	put_char('.');
	irq_wait(PIN_SERIAL, before);
	outb(COM1 + 1, 0);
	irq_pin(PIN_SERIAL, 1);
}

void guest_main(const void *zero_page)
{
	(void)zero_page;
	irq_init();
	CHECK(vio_start(&rng, 0, 1, VIO_VERSION_1));
	one_interrupt_a_request();
	masked_then_unmasked();
	serial_transmitter_empty();
	guest_verdict();
}
