/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O APIC through its registers: what it reports, what it sends, what it refuses to load. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "devices/ioapic.h"

#define MASKED  0x10000u
#define LEVEL   0x8000u
#define IRR     0x4000u
#define LOGICAL 0x800u

struct fixture {
	struct ioapic *io;
	unsigned routes, injects, unmasks;   /* how often */
	unsigned route_pin, unmask_pin;      /* of the last */
	struct ioapic_route route, injected; /* of the last */
};

static void on_route(void *ctx, unsigned pin, const struct ioapic_route *route)
{
	struct fixture *f = ctx;
	f->routes++;
	f->route_pin = pin;
	f->route = *route;
}

static void on_inject(void *ctx, const struct ioapic_route *route)
{
	struct fixture *f = ctx;
	f->injects++;
	f->injected = *route;
}

/* Called without the lock: looking back into the device must not hang. */
static void on_unmasked(void *ctx, unsigned pin)
{
	struct fixture *f = ctx;
	struct snap_ioapic state;
	f->unmasks++;
	f->unmask_pin = pin;
	ioapic_save(f->io, &state);
}

static const struct ioapic_ops ops = {on_route, on_inject, on_unmasked};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	assert_int_equal(ioapic_create(&f->io, &ops, f, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	ioapic_destroy(f->io);
	free(f);
	return 0;
}

static void poke(struct fixture *f, uint64_t off, uint32_t val)
{
	uint8_t raw[4];
	le32_store(raw, val);
	ioapic_write(f->io, off, raw, 4);
}

static uint32_t peek(struct fixture *f, uint64_t off)
{
	uint8_t raw[4];
	ioapic_read(f->io, off, raw, 4);
	return le32_load(raw);
}

static void reg_write(struct fixture *f, uint8_t reg, uint32_t val)
{
	poke(f, 0x00, reg);
	poke(f, 0x10, val);
}

static uint32_t reg_read(struct fixture *f, uint8_t reg)
{
	poke(f, 0x00, reg);
	return peek(f, 0x10);
}

static void rte_write(struct fixture *f, unsigned pin, uint32_t high, uint32_t low)
{
	reg_write(f, (uint8_t)(0x11 + 2 * pin), high);
	reg_write(f, (uint8_t)(0x10 + 2 * pin), low);
}

static void ioapic__fresh__version_and_masked_pins(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(reg_read(f, 1), 0x170020);
	assert_int_equal(reg_read(f, 0), 0);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		assert_int_equal(reg_read(f, (uint8_t)(0x10 + 2 * pin)), MASKED);
		assert_int_equal(reg_read(f, (uint8_t)(0x11 + 2 * pin)), 0);
	}
	assert_int_equal(f->routes, 0);
}

static void ioapic__id__keeps_four_bits_and_shows_in_arbitration(void **state)
{
	struct fixture *f = *state;
	reg_write(f, 0, UINT32_MAX);
	assert_int_equal(reg_read(f, 0), 0x0f000000);
	assert_int_equal(reg_read(f, 2), 0x0f000000);
	reg_write(f, 1, 0);
	assert_int_equal(reg_read(f, 1), 0x170020);
}

static void ioapic__unmask__one_route_with_the_message(void **state)
{
	struct fixture *f = *state;
	rte_write(f, 5, 0x03000000, MASKED | 0x31);
	assert_int_equal(f->routes, 0); /* masked: nobody needs to know yet */
	reg_write(f, 0x1a, LOGICAL | 0x131);
	assert_int_equal(f->routes, 1);
	assert_int_equal(f->route_pin, 5);
	assert_false(f->route.masked);
	assert_int_equal(f->route.msi_addr, 0xfee03004);
	assert_int_equal(f->route.msi_data, 0x131);
	assert_int_equal(f->unmasks, 1);
	assert_int_equal(f->unmask_pin, 5);
}

static void ioapic__same_value_again__silent(void **state)
{
	struct fixture *f = *state;
	rte_write(f, 23, 0, 0x31);
	rte_write(f, 23, 0, 0x31);
	assert_int_equal(f->routes, 1);
	assert_int_equal(f->unmasks, 1);
	reg_write(f, 0x10 + 2 * 23 + 1, 0x01000000); /* moved to CPU 1 while it is live */
	assert_int_equal(f->routes, 2);
	assert_int_equal(f->route.msi_addr, 0xfee01000);
}

static void ioapic__mask__route_is_taken_away(void **state)
{
	struct fixture *f = *state;
	rte_write(f, 4, 0, 0x31);
	rte_write(f, 4, 0, MASKED | 0x31);
	assert_int_equal(f->routes, 2);
	assert_true(f->route.masked);
	assert_int_equal(f->route.msi_addr, 0);
	assert_int_equal(f->unmasks, 1);
}

static void ioapic__read_only_and_reserved_bits__stay_clear(void **state)
{
	struct fixture *f = *state;
	rte_write(f, 0, UINT32_MAX, UINT32_MAX);
	assert_int_equal(reg_read(f, 0x10), 0x1afff);
	assert_int_equal(reg_read(f, 0x11), 0xff000000);
}

static void ioapic__odd_offsets_widths_and_registers__nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[16];

	reg_write(f, 0x0f, UINT32_MAX);
	assert_int_equal(reg_read(f, 0x0f), 0);
	reg_write(f, 0x40, UINT32_MAX);
	assert_int_equal(reg_read(f, 0x40), 0);
	poke(f, 0x00, 0x10);
	poke(f, 0x11, 0);
	poke(f, 0x110, 0);
	memset(buf, 0, sizeof(buf));
	ioapic_write(f->io, 0x10, buf, 3);
	ioapic_write(f->io, 0x10, buf, 16);
	assert_int_equal(peek(f, 0x10), MASKED);
	memset(buf, 0xee, sizeof(buf));
	ioapic_read(f->io, 0x10, buf, 16);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(buf[i], 0);
	memset(buf, 0xee, sizeof(buf));
	ioapic_read(f->io, 0x10, buf, 8);
	assert_int_equal(le64_load(buf), MASKED);
	assert_int_equal(buf[8], 0xee);
	assert_int_equal(f->routes, 0);
}

static void ioapic__edge_line__one_message_a_rising_edge(void **state)
{
	struct fixture *f = *state;
	ioapic_set_line(f->io, 7, true); /* masked: lost */
	rte_write(f, 7, 0, 0x41);
	assert_int_equal(f->injects, 0);
	ioapic_set_line(f->io, 7, true);
	assert_int_equal(f->injects, 0);
	ioapic_set_line(f->io, 7, false);
	ioapic_set_line(f->io, 7, true);
	assert_int_equal(f->injects, 1);
	assert_int_equal(f->injected.msi_data, 0x41);
	assert_int_equal(reg_read(f, 0x1e), 0x41);
}

static void ioapic__level_line__again_after_eoi_while_high(void **state)
{
	struct fixture *f = *state;
	rte_write(f, 9, 0x02000000, LEVEL | 0x51);
	ioapic_set_line(f->io, 9, true);
	assert_int_equal(f->injects, 1);
	assert_int_equal(f->injected.msi_data, LEVEL | 0x51);
	assert_int_equal(f->injected.msi_addr, 0xfee02000);
	assert_int_equal(reg_read(f, 0x22), LEVEL | IRR | 0x51);
	ioapic_set_line(f->io, 9, true);
	assert_int_equal(f->injects, 1);
	ioapic_eoi(f->io, 0x52); /* somebody else's */
	assert_int_equal(f->injects, 1);
	ioapic_eoi(f->io, 0x51);
	assert_int_equal(f->injects, 2);
	ioapic_set_line(f->io, 9, false);
	ioapic_eoi(f->io, 0x51);
	assert_int_equal(f->injects, 2);
	assert_int_equal(reg_read(f, 0x22), LEVEL | 0x51);
}

static void ioapic__level_high_while_masked__sent_when_unmasked(void **state)
{
	struct fixture *f = *state;
	rte_write(f, 9, 0, MASKED | LEVEL | 0x51);
	ioapic_set_line(f->io, 9, true);
	assert_int_equal(f->injects, 0);
	reg_write(f, 0x22, LEVEL | 0x51);
	assert_int_equal(f->injects, 1);
	/* The guest acknowledges by the EOI register of version 0x20. */
	ioapic_set_line(f->io, 9, false);
	poke(f, 0x40, 0x51);
	assert_int_equal(reg_read(f, 0x22), LEVEL | 0x51);
}

static void ioapic__switch_to_edge__clears_remote_irr(void **state)
{
	struct fixture *f = *state;
	rte_write(f, 9, 0, LEVEL | 0x51);
	ioapic_set_line(f->io, 9, true);
	reg_write(f, 0x22, MASKED | 0x51);
	assert_int_equal(reg_read(f, 0x22), MASKED | 0x51);
}

static void ioapic__save_load__same_bytes_and_routes(void **state)
{
	struct fixture *f = *state;
	struct snap_ioapic saved, again;
	struct ioapic *other;
	struct fixture seen = {0};

	reg_write(f, 0, 0x0b000000);
	rte_write(f, 4, 0x01000000, 0x34);
	rte_write(f, 9, 0, LEVEL | 0x51);
	rte_write(f, 10, 0, MASKED | 0x52);
	ioapic_set_line(f->io, 9, true);
	ioapic_save(f->io, &saved);

	assert_int_equal(ioapic_create(&other, &ops, &seen, NULL), 0);
	seen.io = other;
	assert_int_equal(ioapic_load(other, &saved, NULL), 0);
	assert_int_equal(seen.routes, 2);  /* pins 4 and 9 */
	assert_int_equal(seen.injects, 0); /* on its way before the save, the local APIC has it */
	ioapic_save(other, &again);
	assert_memory_equal(&saved, &again, sizeof(saved));
	ioapic_eoi(other, 0x51);
	assert_int_equal(seen.injects, 1);
	ioapic_destroy(other);
}

static void load_refused(struct fixture *f, const struct snap_ioapic *in, const char *text)
{
	struct errmsg why;
	struct snap_ioapic before, after;

	ioapic_save(f->io, &before);
	assert_int_equal(ioapic_load(f->io, in, &why), -EBADMSG);
	assert_string_equal(why.text, text);
	ioapic_save(f->io, &after);
	assert_memory_equal(&before, &after, sizeof(before));
}

static void ioapic_load__bad_fields__refused_and_unchanged(void **state)
{
	struct fixture *f = *state;
	struct snap_ioapic good, bad;

	rte_write(f, 4, 0, 0x34);
	ioapic_save(f->io, &good);
	bad = good, bad.id = 1;
	load_refused(f, &bad, "saved I/O APIC state has a bad id");
	bad = good, bad.select = 0x100;
	load_refused(f, &bad, "saved I/O APIC state has a bad select");
	bad = good, bad.lines = 1u << 24;
	load_refused(f, &bad, "saved I/O APIC state has a bad lines");
	bad = good, bad.rsvd = 1;
	load_refused(f, &bad, "saved I/O APIC state has a bad reserved field");
	bad = good, bad.rte[23] |= IRR;
	load_refused(f, &bad, "saved I/O APIC state has a bad redirection entry");
	bad = good, bad.rte[23] |= UINT64_C(1) << 48;
	load_refused(f, &bad, "saved I/O APIC state has a bad redirection entry");
	bad = good, bad.rte[0] |= 0x1000;
	load_refused(f, &bad, "saved I/O APIC state has a bad redirection entry");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ioapic__fresh__version_and_masked_pins),
		T(ioapic__id__keeps_four_bits_and_shows_in_arbitration),
		T(ioapic__unmask__one_route_with_the_message),
		T(ioapic__same_value_again__silent),
		T(ioapic__mask__route_is_taken_away),
		T(ioapic__read_only_and_reserved_bits__stay_clear),
		T(ioapic__odd_offsets_widths_and_registers__nothing),
		T(ioapic__edge_line__one_message_a_rising_edge),
		T(ioapic__level_line__again_after_eoi_while_high),
		T(ioapic__level_high_while_masked__sent_when_unmasked),
		T(ioapic__switch_to_edge__clears_remote_irr),
		T(ioapic__save_load__same_bytes_and_routes),
		T(ioapic_load__bad_fields__refused_and_unchanged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
