/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table, found and read back as a kernel does, for every number of CPUs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/gmem.h"
#include "vmm/layout.h"
#include "vmm/mptable.h"

#define MEM (1u << 20)

static int setup(void **state)
{
	*state = calloc(1, MEM);
	assert_non_null(*state);
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static struct gmem memory(void **state)
{
	struct gmem gm = {0};
	assert_int_equal(gm_add(&gm, gpa(0), *state, MEM), 0);
	return gm;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;
	for (size_t i = 0; i < len; i++)
		s = (uint8_t)(s + p[i]);
	return s;
}

/* As Linux looks: the last KiB of base memory, on boundaries of 16. */
static const uint8_t *find_pointer(const uint8_t *mem)
{
	for (uint32_t at = 639 * 1024; at < 640 * 1024; at += 16)
		if (!memcmp(mem + at, "_MP_", 4) && sum(mem + at, 16) == 0)
			return mem + at;
	return NULL;
}

struct counts {
	unsigned cpu, boot, bus, ioapic, interrupt, local;
};

static size_t read_entry(const uint8_t *e, struct counts *n, unsigned cpus)
{
	switch (e[0]) {
	case 0:
		assert_int_equal(e[1], n->cpu);
		assert_int_equal(e[3] & 1, 1);
		n->boot += e[3] >> 1 & 1;
		n->cpu++;
		return 20;
	case 1:
		assert_memory_equal(e + 2, "ISA   ", 6);
		n->bus++;
		return 8;
	case 2:
		assert_int_equal(e[1], cpus);
		assert_int_equal(e[3], 1);
		assert_int_equal(le32_load(e + 4), 0xfec00000);
		n->ioapic++;
		return 8;
	case 3:
		assert_int_equal(e[1], 0);
		assert_int_equal(le16_load(e + 2), 0);
		assert_int_equal(e[5], n->interrupt);
		assert_int_equal(e[6], cpus);
		assert_int_equal(e[7], n->interrupt);
		n->interrupt++;
		return 8;
	default:
		assert_int_equal(e[0], 4);
		n->local++;
		return 8;
	}
}

static void mptable__every_cpu_count__read_back(void **state)
{
	struct gmem gm = memory(state);
	uint8_t *mem = *state;

	for (unsigned cpus = 1; cpus <= 32; cpus++) {
		struct counts n = {0};
		assert_int_equal(mptable_write(&gm, cpus, NULL), 0);
		const uint8_t *p = find_pointer(mem);
		assert_non_null(p);
		const uint8_t *t = mem + le32_load(p + 4);
		assert_memory_equal(t, "PCMP", 4);
		size_t len = le16_load(t + 4), at = 44;
		assert_true(t + len <= mem + 0xa0000);
		assert_int_equal(sum(t, len), 0);
		assert_int_equal(le32_load(t + 36), 0xfee00000);
		unsigned entries = le16_load(t + 34);
		for (unsigned i = 0; i < entries; i++)
			at += read_entry(t + at, &n, cpus);
		assert_int_equal(at, len);
		assert_int_equal(n.cpu, cpus);
		assert_int_equal(n.boot, 1);
		assert_int_equal(n.bus, 1);
		assert_int_equal(n.ioapic, 1);
		assert_int_equal(n.interrupt, 24);
		assert_int_equal(n.local, 2);
	}
}

static void mptable__largest__stays_in_its_kib(void **state)
{
	struct gmem gm = memory(state);
	const uint8_t *mem = *state;

	assert_int_equal(mptable_write(&gm, 32, NULL), 0);
	for (uint32_t at = 0; at < MEM; at++)
		if (at < 0x9fc00 || at >= 0xa0000)
			assert_int_equal(mem[at], 0);
}

static void mptable__cpus_out_of_bounds_or_no_memory__refused(void **state)
{
	struct gmem gm = memory(state);
	struct errmsg why;

	assert_int_equal(mptable_write(&gm, 0, &why), -EINVAL);
	assert_string_equal(why.text, "MP table for 0 CPUs: 1 to 32");
	assert_int_equal(mptable_write(&gm, 33, &why), -EINVAL);
	gm.region[0].size = 0x9f000;
	assert_int_equal(mptable_write(&gm, 1, &why), -EFAULT);
	assert_string_equal(why.text, "write the MP table at 0x9fc00: Bad address");
	assert_null(find_pointer(*state));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(mptable__every_cpu_count__read_back),
		T(mptable__largest__stays_in_its_kib),
		T(mptable__cpus_out_of_bounds_or_no_memory__refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
