/* SPDX-License-Identifier: Apache-2.0 */
/* The rate limiter against what it promises, with times and costs drawn at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "devices/limiter.h"

__extension__ typedef unsigned __int128 u128;

static uint64_t draw(uint64_t below)
{
	static uint64_t seed = 0x5eed;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void limiter__without_limits__always_ready(void **state)
{
	const struct limiter_cfg cfg = {.bandwidth = {100, 5, 0}, .ops = {0, 5, 100}};
	struct limiter l;

	(void)state;
	limiter_init(&l, &cfg, 7);
	for (int i = 0; i < 1000; i++) {
		assert_true(limiter_ready(&l, 7));
		limiter_spend(&l, UINT32_MAX);
	}
	assert_int_equal(limiter_due(&l, 9), 9);
}

static void take_ops(struct limiter *l, unsigned count, uint64_t now)
{
	while (count--) {
		assert_true(limiter_ready(l, now));
		limiter_spend(l, 0);
	}
	assert_false(limiter_ready(l, now));
}

static void limiter__burst__is_spent_first_and_once(void **state)
{
	const struct limiter_cfg cfg = {.ops = {.size = 2, .burst = 3, .refill_ms = 1000}};
	struct limiter l;
	uint64_t now = NS_PER_SEC;

	(void)state;
	limiter_init(&l, &cfg, now);
	take_ops(&l, 5, now);
	assert_int_equal(limiter_due(&l, now), now + 500 * NS_PER_MS);
	assert_false(limiter_ready(&l, now + 500 * NS_PER_MS - 1));
	take_ops(&l, 1, now + 500 * NS_PER_MS);
	/* A long rest fills the bucket, and no burst comes back. */
	take_ops(&l, 2, now + 3600 * NS_PER_SEC);
}

static void limiter__operation_larger_than_bucket__passes_and_is_paid_for(void **state)
{
	const struct limiter_cfg cfg = {.bandwidth = {.size = 1000, .refill_ms = 1000}};
	struct limiter l;

	(void)state;
	limiter_init(&l, &cfg, 0);
	assert_true(limiter_ready(&l, 0));
	limiter_spend(&l, 5000);
	assert_false(limiter_ready(&l, 4 * NS_PER_SEC));
	assert_int_equal(limiter_due(&l, 4 * NS_PER_SEC), 4001 * NS_PER_MS);
	assert_true(limiter_ready(&l, 4001 * NS_PER_MS));
}

/* limiter_due() is the first instant at which it is ready. */
static void check_due(const struct limiter *l, uint64_t now)
{
	uint64_t due = limiter_due(l, now);
	struct limiter before = *l, then = *l;

	assert_true(due > now);
	assert_false(limiter_ready(&before, due - 1));
	assert_true(limiter_ready(&then, due));
}

static void run_model(uint64_t size, uint64_t burst, uint64_t refill_ms)
{
	const struct limiter_cfg cfg = {.bandwidth = {size, burst, refill_ms}};
	const uint64_t largest = size / 2 + 1;
	const uint64_t begin = draw(1u << 30);
	uint64_t now = begin;
	u128 passed = 0;
	struct limiter l;

	limiter_init(&l, &cfg, now);
	for (int i = 0; i < 2000; i++) {
		now = i && draw(3) ? limiter_due(&l, now) + draw(2) : now + draw(1000);
		while (limiter_ready(&l, now) && passed >> 100 == 0) {
			uint64_t cost = largest / 4 + 1 + draw(largest);
			limiter_spend(&l, cost);
			passed += cost;
		}
		u128 gained = (u128)(now - begin) * size / (refill_ms * NS_PER_MS);
		assert_true(passed <= gained + size + burst + 2 * largest);
		/* It was asked in good time: of what it gained nothing was lost. */
		assert_true(passed + 1 >= gained);
		check_due(&l, now);
	}
}

static void limiter__random_use__keeps_to_the_model(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		run_model(1 + draw(1u << (1 + draw(30))), draw(5000), 1 + draw(3000));
	run_model(LIMITER_SIZE_MAX, LIMITER_SIZE_MAX, 1);
	run_model(1, 0, UINT32_MAX);
}

static void limiter__saved_and_loaded__goes_on_where_it_was(void **state)
{
	const struct limiter_cfg cfg = {.bandwidth = {1000, 50, 1000}, .ops = {10, 0, 1000}};
	const uint64_t later = 900 * NS_PER_SEC;
	struct snap_limiter saved;
	struct limiter a, b;

	(void)state;
	limiter_init(&a, &cfg, 0);
	assert_true(limiter_ready(&a, 0));
	limiter_spend(&a, 3333);
	limiter_save(&a, &saved, 1234567);
	limiter_init(&b, &cfg, 500 * NS_PER_SEC);
	limiter_load(&b, &saved, later);
	assert_int_equal(limiter_due(&b, later) - later, limiter_due(&a, 1234567) - 1234567);
}

static void limiter__hostile_budget__is_cut(void **state)
{
	const struct limiter_cfg cfg = {.bandwidth = {1000, 50, 1000}, .ops = {10, 0, 1000}};
	struct snap_limiter from;
	struct limiter l;

	(void)state;
	memset(&from, 0x7f, sizeof(from));
	limiter_init(&l, &cfg, 0);
	limiter_load(&l, &from, 0);
	assert_int_equal(l.bytes.budget, 1000);
	assert_int_equal(l.bytes.burst, 50);
	assert_true(l.bytes.part < NS_PER_SEC);
	memset(&from, 0x80, sizeof(from));
	limiter_load(&l, &from, 0);
	assert_true(limiter_due(&l, 0) > 0);
	assert_true(limiter_ready(&l, UINT64_C(1) << 62));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limiter__without_limits__always_ready),
		cmocka_unit_test(limiter__burst__is_spent_first_and_once),
		cmocka_unit_test(limiter__operation_larger_than_bucket__passes_and_is_paid_for),
		cmocka_unit_test(limiter__random_use__keeps_to_the_model),
		cmocka_unit_test(limiter__saved_and_loaded__goes_on_where_it_was),
		cmocka_unit_test(limiter__hostile_budget__is_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
