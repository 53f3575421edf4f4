/* SPDX-License-Identifier: Apache-2.0 */
/* Memory plans: overlays against a plain array of pages, and plans that lie. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "snapshot/plan.h"

#define PAGES 300u

static uint64_t seed;
static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

/* What a page is: 0 absent, else a number of its own for (source, place) or zero pages. */
static uint64_t name_of(const struct snap_run *run, uint64_t page)
{
	if (run->kind == SNAP_RUN_ZERO)
		return 1;
	return 2 + run->source * UINT64_C(100000) + run->off / SNAP_PAGE_SIZE + page - run->page;
}

static void spread(const struct snap_runs *runs, uint64_t *to)
{
	uint64_t end = 0;

	for (size_t i = 0; i < runs->count; i++) {
		const struct snap_run *run = &runs->run[i];
		assert_true(run->page >= end);
		end = run->page + run->count;
		for (uint64_t p = run->page; p < end; p++)
			to[p] = name_of(run, p);
	}
	assert_true(end <= PAGES);
}

static struct snap_runs random_runs(uint32_t source)
{
	struct snap_runs runs = {.run = NULL};
	uint64_t slot = 0;

	for (uint64_t page = rnd(20); page < PAGES; page += rnd(30)) {
		struct snap_run run = {.page = page, .count = 1 + rnd(20)};
		if (run.count > PAGES - page)
			run.count = PAGES - page;
		run.kind = rnd(3) ? SNAP_RUN_MAP : SNAP_RUN_ZERO;
		if (run.kind == SNAP_RUN_MAP) {
			run.source = source;
			run.off = slot * SNAP_PAGE_SIZE;
			slot += run.count + rnd(2);
		}
		assert_int_equal(snap_runs_add(&runs, &run), 0);
		page += run.count;
	}
	return runs;
}

static void snap_runs_overlay__random__as_an_array_of_pages(void **state)
{
	(void)state;
	const char *given = getenv("SEED");

	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	print_message("SEED=%#llx\n", (unsigned long long)seed);
	for (unsigned round = 0; round < 200; round++) {
		uint64_t model[PAGES] = {0}, got[PAGES] = {0};
		struct snap_runs all = random_runs(0);
		spread(&all, model);
		for (uint32_t layer = 1; layer < 8; layer++) {
			struct snap_runs over = random_runs(layer), out = {.run = NULL};
			spread(&over, model);
			assert_int_equal(snap_runs_overlay(&out, &all, &over), 0);
			snap_runs_free(&all);
			snap_runs_free(&over);
			all = out;
		}
		spread(&all, got);
		assert_memory_equal(model, got, sizeof(got));
		for (uint64_t p = 0; p < PAGES; p++) {
			const struct snap_run *run = snap_runs_find(&all, p);
			assert_true(run ? name_of(run, p) == model[p] : !model[p]);
		}
		snap_runs_free(&all);
	}
}

static struct snap_run good[] = {
	{.page = 0, .count = 10, .kind = SNAP_RUN_MAP, .off = 0},
	{.page = 10, .count = 5, .kind = SNAP_RUN_ZERO},
	{.page = 15, .count = 5, .kind = SNAP_RUN_MAP, .off = 5 * 4096},
};

static int check(struct snap_run *run, size_t count, uint64_t pages, uint64_t max)
{
	int fd = memfd_create("source", MFD_CLOEXEC);
	struct snap_plan plan = {
		.runs = {.run = run, .count = count}, .fd = &fd, .source_count = 1};
	struct errmsg why = {""};

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 10 * 4096 + 100), 0);
	int err = snap_plan_check(&plan, pages, max, &why);
	close(fd);
	assert_true(!err == !why.text[0]);
	return err;
}

static void snap_plan_check__lies__refused(void **state)
{
	(void)state;
	static const struct {
		size_t at;
		struct snap_run run;
	} lies[] = {
		{0, {.page = 1, .count = 9, .kind = SNAP_RUN_MAP}},
		{0, {.page = 0, .count = 11, .kind = SNAP_RUN_MAP}},
		{0, {.page = 0, .count = 9, .kind = SNAP_RUN_MAP}},
		{0, {.page = 0, .count = 10, .kind = SNAP_RUN_MAP, .source = 1}},
		{0, {.page = 0, .count = 10, .kind = SNAP_RUN_MAP, .off = 4096}},
		{0, {.page = 0, .count = 10, .kind = SNAP_RUN_MAP, .off = UINT64_MAX - 4095}},
		{0, {.page = 0, .count = 10, .kind = SNAP_RUN_MAP, .source = UINT32_MAX}},
		{0, {.page = 0, .count = 10, .kind = 3}},
		{0, {.page = 0, .count = 10, .kind = 0}},
		{1, {.page = 10, .count = 0, .kind = SNAP_RUN_ZERO}},
		{1, {.page = 10, .count = UINT64_MAX - 4, .kind = SNAP_RUN_ZERO}},
		{1, {.page = 9, .count = 6, .kind = SNAP_RUN_ZERO}},
		{1, {.page = 10, .count = 5, .kind = SNAP_RUN_ZERO, .off = 4096}},
		{1, {.page = 10, .count = 5, .kind = SNAP_RUN_ZERO, .source = 1}},
		{2, {.page = 15, .count = 5, .kind = SNAP_RUN_MAP, .off = 100}},
		{2, {.page = 15, .count = 4, .kind = SNAP_RUN_MAP}},
		{2, {.page = 15, .count = 6, .kind = SNAP_RUN_MAP}},
	};

	assert_int_equal(check(good, 3, 20, 3), 0);
	assert_int_equal(check(good, 3, 20, 2), -EBADMSG);
	assert_int_equal(check(good, 2, 20, 3), -EBADMSG);
	assert_int_equal(check(good, 0, 0, 3), -EBADMSG);
	assert_int_equal(check(good, 3, UINT64_MAX, 3), -EBADMSG);
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		struct snap_run bad[3];
		memcpy(bad, good, sizeof(bad));
		bad[lies[i].at] = lies[i].run;
		assert_int_equal(check(bad, 3, 20, 3), -EBADMSG);
	}
}

static void snap_plan_check__source_is_a_pipe__refused(void **state)
{
	(void)state;
	int fd[2];
	struct snap_plan plan = {.runs = {.run = good, .count = 3}, .fd = fd, .source_count = 1};

	assert_int_equal(pipe(fd), 0);
	assert_int_equal(snap_plan_check(&plan, 20, 3, NULL), -EBADMSG);
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(snap_plan_check(&plan, 20, 3, NULL), -EBADF);
}

static void snap_runs_fd__read_back__the_same(void **state)
{
	(void)state;
	struct snap_runs runs = {.run = good, .count = ARRAY_LEN(good)}, back = {.run = NULL};
	int fd = snap_runs_fd(&runs, NULL);

	assert_true(fd >= 0);
	assert_int_equal(snap_runs_read(&back, fd, 4, NULL), -EBADMSG);
	assert_int_equal(snap_runs_read(&back, fd, 0, NULL), -EBADMSG);
	assert_int_equal(snap_runs_read(&back, fd, UINT64_MAX, NULL), -EBADMSG);
	assert_int_equal(snap_runs_read(&back, fd, 3, NULL), 0);
	assert_memory_equal(back.run, good, sizeof(good));
	snap_runs_free(&back);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snap_runs_overlay__random__as_an_array_of_pages),
		cmocka_unit_test(snap_plan_check__lies__refused),
		cmocka_unit_test(snap_plan_check__source_is_a_pipe__refused),
		cmocka_unit_test(snap_runs_fd__read_back__the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
