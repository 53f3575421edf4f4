/* SPDX-License-Identifier: Apache-2.0 */
/* Plans put in place, and changes laid over them, against plain arrays of pages. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "vmm/memory.h"

#define PAGE  4096u
#define PAGES 600u

static unsigned seed;

static unsigned draw(unsigned below)
{
	return (unsigned)rand_r(&seed) % below;
}

/* A file of `pages` pages; page i is filled with `first` + i. */
static int file_of(unsigned pages, unsigned first)
{
	int fd = memfd_create("memory-test", MFD_CLOEXEC);
	uint32_t words[PAGE / 4];

	for (unsigned i = 0; i < pages; i++) {
		for (unsigned k = 0; k < PAGE / 4; k++)
			words[k] = first + i;
		assert_int_equal(write(fd, words, PAGE), PAGE);
	}
	return fd;
}

static void *room(void)
{
	void *map = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void same(const uint8_t *map, const uint32_t *want)
{
	for (unsigned i = 0; i < PAGES; i++)
		for (unsigned k = 0; k < PAGE; k += PAGE / 4) {
			uint32_t got;
			memcpy(&got, map + (size_t)i * PAGE + k, sizeof(got));
			if (got != want[i])
				fail_msg("page %u holds %u, not %u", i, got, want[i]);
		}
}

/* Runs of all lengths and kinds, from two files; `want` is what they say. */
static void random_plan(struct snap_plan *plan, uint32_t *want)
{
	*plan = (struct snap_plan){.source_count = 0};
	assert_int_equal(memory_add_source(plan, file_of(PAGES, 1000)), 0);
	assert_int_equal(memory_add_source(plan, file_of(PAGES, 5000)), 1);
	for (unsigned page = 0; page < PAGES;) {
		unsigned kind = draw(3), len = 1 + draw(draw(4) ? 8 : 60);
		if (len > PAGES - page)
			len = PAGES - page;
		unsigned off = draw(PAGES - len + 1);
		const struct snap_run run = {
			.page = page,
			.count = len,
			.source = kind == 2 ? 0 : kind,
			.kind = kind == 2 ? SNAP_RUN_ZERO : SNAP_RUN_MAP,
			.off = kind == 2 ? 0 : (uint64_t)off * PAGE,
		};
		assert_int_equal(snap_runs_add(&plan->runs, &run), 0);
		for (unsigned i = 0; i < len; i++)
			want[page + i] = kind == 2 ? 0 : (kind ? 5000 : 1000) + off + i;
		page += len;
	}
	assert_int_equal(snap_plan_check(plan, PAGES, SNAP_RUNS_MAX, NULL), 0);
}

static void memory_map__random_plans__hold_what_they_say(void **state)
{
	(void)state;
	for (seed = 1; seed < 30; seed++) {
		struct snap_plan plan;
		uint32_t want[PAGES];
		uint8_t *map = room();

		random_plan(&plan, want);
		assert_int_equal(memory_map(&plan, map, PAGES, NULL), 0);
		same(map, want);
		memset(map, 0xee, PAGES * PAGE); /* private: the files do not change */
		uint32_t first;
		assert_int_equal(pread(plan.fd[0], &first, sizeof(first), 0), sizeof(first));
		assert_int_equal(first, 1000);
		munmap(map, PAGES * PAGE);
		snap_plan_free(&plan);
	}
}

static void memory_map__file_cut_short_meanwhile__error(void **state)
{
	(void)state;
	struct snap_plan plan = {.source_count = 0};
	const struct snap_run runs[] = {{.page = 0, .count = 4, .kind = SNAP_RUN_MAP},
					{.page = 4, .count = PAGES - 4, .kind = SNAP_RUN_ZERO}};
	uint8_t *map = room();

	assert_int_equal(memory_add_source(&plan, file_of(4, 1)), 0);
	for (size_t i = 0; i < ARRAY_LEN(runs); i++)
		assert_int_equal(snap_runs_add(&plan.runs, &runs[i]), 0);
	assert_int_equal(ftruncate(plan.fd[0], PAGE), 0);
	assert_int_equal(memory_map(&plan, map, PAGES, NULL), -EIO);
	munmap(map, PAGES * PAGE);
	snap_plan_free(&plan);
}

/* What a guest wrote and gave back since, over its base. */
static void memory_changed__random_changes__as_in_the_model(void **state)
{
	(void)state;
	for (seed = 100; seed < 130; seed++) {
		struct snap_plan plan;
		uint32_t want[PAGES];
		struct anon written = {.fd = -1}, again = {.fd = -1};
		struct snap_runs holes = {.run = NULL}, out = {.run = NULL};
		bool hole[PAGES] = {false}, wrote[PAGES] = {false};
		unsigned next = 0, late = 0;

		random_plan(&plan, want);
		for (unsigned i = 0; i < PAGES; i++) {
			const struct snap_run zero = {.page = i, .count = 1, .kind = SNAP_RUN_ZERO};
			hole[i] = draw(10) == 0;
			wrote[i] = draw(5) == 0;
			if (hole[i])
				assert_int_equal(snap_runs_add(&holes, &zero), 0);
			if (wrote[i])
				assert_int_equal(anon_add(&written, i, 1), 0);
			want[i] = wrote[i] ? 9000 + next++ : hole[i] ? 0 : want[i];
		}
		for (unsigned i = 0; i < PAGES; i++) { /* written while the first were copied */
			if (wrote[i] || draw(20))
				continue;
			assert_int_equal(anon_add(&again, i, 1), 0);
			want[i] = 9000 + next + late++;
		}
		const struct memory_change change = {
			.holes = &holes, .written = &written, .again = &again, .source = 2};
		assert_int_equal(memory_changed(&out, &plan.runs, &change), 0);
		assert_int_equal(memory_add_source(&plan, file_of(next + late, 9000)), 2);
		snap_runs_free(&plan.runs);
		plan.runs = out;
		assert_int_equal(snap_plan_check(&plan, PAGES, SNAP_RUNS_MAX, NULL), 0);
		uint8_t *map = room();
		assert_int_equal(memory_map(&plan, map, PAGES, NULL), 0);
		same(map, want);
		munmap(map, PAGES * PAGE);
		snap_plan_free(&plan);
		snap_runs_free(&holes);
		anon_close(&written);
		anon_close(&again);
	}
}

static void memory_keep__a_stranger_lies__refused(void **state)
{
	(void)state;
	int fd = file_of(4, 1);
	const struct vmm_run lies[] = {
		{.page = 0, .count = 5, .kind = VMM_RUN_MAP},
		{.page = 1, .count = 3, .kind = VMM_RUN_MAP},
		{.page = 0, .count = 4, .kind = VMM_RUN_MAP, .source = 1},
		{.page = 0, .count = 4, .kind = VMM_RUN_MAP, .off = 4096},
		{.page = 0, .count = 4, .kind = VMM_RUN_MAP, .off = 1},
		{.page = 0, .count = 4, .kind = 7},
		{.page = 0, .count = 3, .kind = VMM_RUN_MAP},
		{.page = 0, .count = UINT64_MAX, .kind = VMM_RUN_ZERO},
		{.page = 0, .count = 5, .kind = VMM_RUN_LAZY},
		{.page = 0, .count = 4, .kind = VMM_RUN_LAZY, .off = 4096},
	};

	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		struct snap_plan plan = {.source_count = 0};
		struct snap_runs lazy = {.run = NULL};
		const struct vmm_memory mem = {&lies[i], 1, &fd, 1};
		assert_int_equal(memory_keep(&plan, &lazy, &mem, 4, NULL), -EBADMSG);
		snap_plan_free(&plan);
		snap_runs_free(&lazy);
	}
	struct snap_plan plan = {.source_count = 0};
	struct snap_runs lazy = {.run = NULL};
	const struct vmm_run truth = {.page = 0, .count = 4, .kind = VMM_RUN_MAP};
	const struct vmm_memory mem = {&truth, 1, &fd, 1};
	assert_int_equal(memory_keep(&plan, &lazy, &mem, 4, NULL), 0);
	assert_int_equal(lazy.count, 0);
	snap_plan_free(&plan);
	close(fd);
}

/* For a capture they are zeroes of the base: whatever is found there is a change. */
static void memory_keep__pages_of_a_pager__are_zeroes_for_a_capture(void **state)
{
	(void)state;
	const struct vmm_run run[] = {
		{.page = 0, .count = 2, .kind = VMM_RUN_ZERO},
		{.page = 2, .count = 3, .kind = VMM_RUN_LAZY},
		{.page = 5, .count = 4, .kind = VMM_RUN_LAZY},
	};
	const struct vmm_memory mem = {run, ARRAY_LEN(run), NULL, 0};
	struct snap_plan plan = {.source_count = 0};
	struct snap_runs lazy = {.run = NULL};

	assert_int_equal(memory_keep(&plan, &lazy, &mem, 9, NULL), 0);
	assert_int_equal(plan.runs.count, 1);
	assert_int_equal(plan.runs.run[0].kind, SNAP_RUN_ZERO);
	assert_int_equal(plan.runs.run[0].count, 9);
	assert_int_equal(lazy.count, 1);
	assert_int_equal(lazy.run[0].page, 2);
	assert_int_equal(lazy.run[0].count, 7);
	snap_plan_free(&plan);
	snap_runs_free(&lazy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_map__random_plans__hold_what_they_say),
		cmocka_unit_test(memory_map__file_cut_short_meanwhile__error),
		cmocka_unit_test(memory_changed__random_changes__as_in_the_model),
		cmocka_unit_test(memory_keep__a_stranger_lies__refused),
		cmocka_unit_test(memory_keep__pages_of_a_pager__are_zeroes_for_a_capture),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
