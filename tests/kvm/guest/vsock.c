/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock by hand.  Device 0.  First the doorbell and a port that nobody has, then a connection of
 * its own to port 2000, which sends a pattern and wants it back; last it listens on 1024 and echoes.
 */
#include "tests/kvm/guest/vsockdrv.h"

#define WORDS (256u * 1024 / 8)
#define OUT   ((volatile uint64_t *)(VIO_DATA + 0x200000ull))

static struct vs s;

static uint64_t word(uint64_t seed, uint32_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15ull ^ seed;
}

static void check_words(uint64_t seed)
{
	while (s.head - s.tail >= 8) {
		uint64_t got = *(volatile uint64_t *)(VS_BYTES + s.tail % VS_RING);
		if (got != word(seed, s.tail / 8))
			CHECK(!"the echo differs");
		s.tail += 8;
	}
}

static void own_connection(uint64_t seed)
{
	CHECK(vs_connect(&s, 5002, 2000));
	for (uint32_t i = 0; i < WORDS; i++)
		OUT[i] = word(seed, i);
	while (s.tail < WORDS * 8 && s.state == VS_OPEN) {
		uint32_t len = vs_room(&s), left = WORDS * 8 - s.sent;
		len = len < left ? len : left;
		if (len)
			vs_send(&s, VS_RW, (volatile uint8_t *)OUT + s.sent, len);
		uint32_t before = s.tail;
		vs_poll(&s);
		check_words(seed);
		if (s.tail != before)
			vs_send(&s, VS_CREDIT, 0, 0);
	}
	CHECK(s.tail == WORDS * 8);
	vs_end(&s);
}

void guest_main(const void *zero_page)
{
	uint64_t seed = guest_option(zero_page, "seed=");

	CHECK(vs_start(&s, 0));
	CHECK(s.cid == 3);
	CHECK(!vs_connect(&s, 5000, 7777)); /* the doorbell */
	CHECK(!vs_connect(&s, 5001, 7777)); /* it rings once */
	CHECK(!vs_connect(&s, 5003, 999));  /* nobody */
	own_connection(seed);
	vs_begin(&s, VS_IDLE, 1024, 0);
	put_text("listening\n");
	while ((s.state != VS_ENDING || s.head != s.tail) && s.state != VS_CLOSED) {
		vs_poll(&s);
		vs_echo(&s);
	}
	CHECK(s.state == VS_ENDING);
	vs_end(&s);
	guest_verdict();
}
