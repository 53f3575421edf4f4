/* SPDX-License-Identifier: Apache-2.0 */
/* The bus's binary search against a linear search over the same ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/bus.h"

static void answer_index(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	memset(buf, (int)(uintptr_t)ctx, len);
	if (len == 1 && off == 0)
		*(uint8_t *)buf = (uint8_t)((uintptr_t)ctx | 0x80);
}

static void bus_read__random_addresses__equals_linear_search(void **state)
{
	(void)state;
	struct bus bus = {.count = 0};
	struct bus_range model[BUS_RANGE_MAX];
	unsigned seed = 3;

	for (unsigned i = 0; i < BUS_RANGE_MAX; i++) { /* added in a shuffled order */
		unsigned slot = (i * 7 + 3) % BUS_RANGE_MAX;
		model[i] = (struct bus_range){
			.base = 0x1000 * slot + (slot % 3 ? 0 : 16),
			.size = slot % 5 ? 0x20 : 0x1000 - 16,
			.ctx = (void *)(uintptr_t)(slot + 1),
			.read = answer_index,
		};
		bus_add(&bus, &model[i]);
	}
	for (unsigned n = 0; n < 100000; n++) {
		uint64_t at = (uint64_t)(rand_r(&seed) % (0x1000 * (BUS_RANGE_MAX + 1)));
		uint32_t len = 1u << rand_r(&seed) % 4;
		uint8_t got[8], want[8];

		memset(want, 0xff, sizeof(want));
		for (unsigned i = 0; i < BUS_RANGE_MAX; i++)
			if (at >= model[i].base && at + len <= model[i].base + model[i].size)
				answer_index(model[i].ctx, at - model[i].base, want, len);
		bus_read(&bus, at, got, len);
		assert_memory_equal(got, want, len);
	}
}

static void bus_write__nobody_there__swallowed(void **state)
{
	(void)state;
	struct bus bus = {.count = 0};
	uint8_t v = 1;
	bus_write(&bus, 0x1234, &v, 1);
	bus_read(&bus, UINT64_MAX, &v, 1);
	assert_int_equal(v, 0xff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bus_read__random_addresses__equals_linear_search),
		cmocka_unit_test(bus_write__nobody_there__swallowed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
