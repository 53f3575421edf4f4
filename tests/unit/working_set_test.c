/* SPDX-License-Identifier: Apache-2.0 */
/* What was touched and what was written, as one list: against two plain arrays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/working_set.h"

#define PAGES 500u

static void draw(struct anon *to, uint8_t *page, unsigned one_in, unsigned *seed)
{
	for (unsigned i = 0; i < PAGES; i++) {
		page[i] = i && rand_r(seed) % 4 ? page[i - 1] : !(rand_r(seed) % (int)one_in);
		if (page[i])
			assert_int_equal(anon_add(to, i, 1), 0);
	}
}

static void working_set_merge__any_two_lists__says_of_each_page(void **state)
{
	(void)state;
	struct working_set set = {.run = NULL};
	unsigned seed = 11;

	for (unsigned round = 0; round < 200; round++) {
		struct anon touched = {.fd = -1}, written = {.fd = -1};
		uint8_t was_touched[PAGES], was_written[PAGES], got[PAGES] = {0};
		uint64_t end = 0;

		draw(&touched, was_touched, 1 + round % 5, &seed);
		draw(&written, was_written, 1 + round % 7, &seed);
		assert_int_equal(working_set_merge(&set, &touched, &written), 0);
		for (size_t i = 0; i < set.count; i++) {
			const struct vmm_page_run *run = &set.run[i];
			assert_true(run->page >= end && run->count > 0);
			end = run->page + run->count;
			assert_true(end <= PAGES);
			memset(got + run->page, run->written ? 2 : 1, run->count);
		}
		for (unsigned i = 0; i < PAGES; i++)
			assert_int_equal(got[i], was_touched[i] ? 1 + was_written[i] : 0);
		anon_close(&touched);
		anon_close(&written);
	}
	working_set_free(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(working_set_merge__any_two_lists__says_of_each_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
