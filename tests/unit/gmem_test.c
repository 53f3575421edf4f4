/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory against an obvious model: a range is good when a 128-bit sum says it lies in one region. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/gmem.h"

#define LOW_SIZE   (4 * GM_PAGE)
#define HIGH_START (UINT64_C(1) << 32)
#define HIGH_SIZE  (2 * GM_PAGE)

struct fixture {
	struct gmem gm;
	uint8_t low[LOW_SIZE], high[HIGH_SIZE];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	assert_int_equal(gm_add(&f->gm, gpa(0), f->low, LOW_SIZE), 0);
	assert_int_equal(gm_add(&f->gm, gpa(HIGH_START), f->high, HIGH_SIZE), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static bool model_contains(uint64_t at, uint64_t len)
{
	__extension__ typedef unsigned __int128 u128;
	u128 end = (u128)at + len;
	return (at < LOW_SIZE && end <= LOW_SIZE) ||
	       (at >= HIGH_START && at < HIGH_START + HIGH_SIZE && end <= HIGH_START + HIGH_SIZE);
}

static uint64_t interesting(unsigned *seed)
{
	static const uint64_t edge[] = {0, LOW_SIZE, HIGH_START, HIGH_START + HIGH_SIZE,
					UINT64_MAX};
	uint64_t v = edge[(unsigned)rand_r(seed) % 5];
	return v + (uint64_t)(rand_r(seed) % 33) - 16;
}

static void gm_contains__random_ranges__equals_model(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 1;

	for (unsigned i = 0; i < 200000; i++) {
		uint64_t at = interesting(&seed);
		uint64_t len =
			rand_r(&seed) % 4 ? (uint64_t)(rand_r(&seed) % 5000) : interesting(&seed);
		if (gm_contains(&f->gm, gpa(at), len) != model_contains(at, len))
			fail_msg("at=%llx len=%llx", (unsigned long long)at,
				 (unsigned long long)len);
	}
}

static void gm_write__range_ends_at_end__copies_all(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(gm_write(&f->gm, gpa(LOW_SIZE - 4), "abcd", 4), 0);
	assert_memory_equal(f->low + LOW_SIZE - 4, "abcd", 4);
}

static void gm_write__range_crosses_end__efault_and_untouched(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(gm_write(&f->gm, gpa(LOW_SIZE - 4), "abcde", 5), -EFAULT);
	assert_int_equal(f->low[LOW_SIZE - 4], 0);
}

static void gm_load16__misaligned__efault(void **state)
{
	struct fixture *f = *state;
	uint16_t v;
	assert_int_equal(gm_load16(&f->gm, gpa(1), &v), -EFAULT);
	assert_int_equal(gm_store16(&f->gm, gpa(LOW_SIZE - 2), 0x1234), 0);
	assert_int_equal(gm_load16(&f->gm, gpa(LOW_SIZE - 2), &v), 0);
	assert_int_equal(v, 0x1234);
}

static void gm_mark__write_across_pages__sets_both_bits(void **state)
{
	struct fixture *f = *state;
	uint64_t bitmap = 0;
	gm_set_dirty(&f->gm, 0, &bitmap);
	assert_int_equal(gm_write(&f->gm, gpa(GM_PAGE - 1), "xy", 2), 0);
	assert_int_equal(bitmap, 3);
	gm_mark(&f->gm, gpa(3 * GM_PAGE), GM_PAGE);
	assert_int_equal(bitmap, 3 | 8);
	gm_mark(&f->gm, gpa(3 * GM_PAGE), 2 * GM_PAGE); /* outside: ignored whole */
	assert_int_equal(bitmap, 3 | 8);
}

static void gm_add__bad_regions__refused(void **state)
{
	struct fixture *f = *state;
	uint8_t page[GM_PAGE];
	assert_int_equal(gm_add(&f->gm, gpa(LOW_SIZE - GM_PAGE), page, GM_PAGE), -EINVAL);
	assert_int_equal(gm_add(&f->gm, gpa(1), page, GM_PAGE), -EINVAL);
	assert_int_equal(gm_add(&f->gm, gpa(16 * GM_PAGE), page, 0), -EINVAL);
	assert_int_equal(gm_add(&f->gm, gpa(0 - (uint64_t)GM_PAGE), page, 2 * GM_PAGE), -EINVAL);
}

static void gm_rebase__new_host__reads_new_bytes(void **state)
{
	struct fixture *f = *state;
	uint8_t other[LOW_SIZE] = {[7] = 9}, v = 0;
	gm_rebase(&f->gm, 0, other);
	assert_int_equal(gm_read(&f->gm, gpa(7), &v, 1), 0);
	assert_int_equal(v, 9);
}

static void gm_file__region_in_file__offset_until_rebased(void **state)
{
	struct fixture *f = *state;
	uint8_t other[LOW_SIZE] = {0};
	uint64_t off = 0;
	int file = 0;

	assert_int_equal(gm_file(&f->gm, gpa(0), 1, &file, &off), -ENOTSUP);
	gm_set_file(&f->gm, 0, 77, 0x10000);
	assert_int_equal(gm_file(&f->gm, gpa(7), LOW_SIZE - 7, &file, &off), 0);
	assert_int_equal(file, 77);
	assert_int_equal(off, 0x10007);
	assert_int_equal(gm_file(&f->gm, gpa(7), LOW_SIZE - 6, &file, &off), -EFAULT);
	gm_rebase(&f->gm, 0, other);
	assert_int_equal(gm_file(&f->gm, gpa(7), 1, &file, &off), -ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(gm_contains__random_ranges__equals_model, setup,
						teardown),
		cmocka_unit_test_setup_teardown(gm_write__range_ends_at_end__copies_all, setup,
						teardown),
		cmocka_unit_test_setup_teardown(gm_write__range_crosses_end__efault_and_untouched,
						setup, teardown),
		cmocka_unit_test_setup_teardown(gm_load16__misaligned__efault, setup, teardown),
		cmocka_unit_test_setup_teardown(gm_mark__write_across_pages__sets_both_bits, setup,
						teardown),
		cmocka_unit_test_setup_teardown(gm_add__bad_regions__refused, setup, teardown),
		cmocka_unit_test_setup_teardown(gm_rebase__new_host__reads_new_bytes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(gm_file__region_in_file__offset_until_rebased,
						setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
