/* SPDX-License-Identifier: Apache-2.0 */
/* The anonymous pages of a private mapping, by both ways, against what was written. */
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

#include "snapshot/anon.h"

#define PAGES 4000u
#define PAGE  4096u

struct rig {
	struct anon anon;
	int fd;
	uint8_t *map;
	bool written[PAGES];
};

static void setup(struct rig *t, bool scan)
{
	uint8_t page[PAGE];

	memset(t, 0, sizeof(*t));
	assert_int_equal(anon_open(&t->anon, NULL), 0);
	if (scan && !t->anon.scan)
		skip();
	t->anon.scan = scan;
	t->fd = memfd_create("anon-test", MFD_CLOEXEC);
	assert_int_equal(ftruncate(t->fd, PAGES * PAGE), 0);
	for (unsigned i = 0; i < PAGES; i += 2) { /* every other page is a hole */
		memset(page, (int)i, sizeof(page));
		assert_int_equal(pwrite(t->fd, page, PAGE, (off_t)i * PAGE), PAGE);
	}
	t->map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, t->fd, 0);
	assert_ptr_not_equal(t->map, MAP_FAILED);
}

static void teardown(struct rig *t)
{
	munmap(t->map, PAGES * PAGE);
	close(t->fd);
	anon_close(&t->anon);
}

static void put(struct rig *t, unsigned page)
{
	t->map[(size_t)page * PAGE + page % PAGE] = 1;
	t->written[page] = true;
}

static void compare(struct rig *t)
{
	bool found[PAGES] = {false};
	uint64_t sum = 0, end = 0;

	assert_int_equal(anon_scan(&t->anon, t->map, PAGES, NULL), 0);
	for (size_t i = 0; i < t->anon.count; i++) {
		const struct anon_run *run = &t->anon.run[i];
		assert_true(i == 0 || run->page > end); /* in order, with a gap */
		end = run->page + run->count;
		assert_true(end <= PAGES);
		memset(&found[run->page], true, run->count);
		sum += run->count;
	}
	assert_int_equal(sum, t->anon.pages);
	assert_memory_equal(found, t->written, sizeof(found));
}

static void check(bool scan)
{
	struct rig t;
	unsigned seed = 7;
	volatile uint8_t sink = 0;

	setup(&t, scan);
	compare(&t);
	for (unsigned i = 0; i < PAGES; i += 3) /* reading changes nothing */
		sink = (uint8_t)(sink + t.map[(size_t)i * PAGE]);
	compare(&t);
	for (unsigned i = 0; i < 3; i++)
		put(&t, i * (PAGES - 1) / 2); /* first, middle, last */
	compare(&t);
	for (unsigned round = 0; round < 20; round++) {
		unsigned from = (unsigned)rand_r(&seed) % PAGES;
		for (unsigned i = from; i < PAGES && i < from + (unsigned)rand_r(&seed) % 64; i++)
			put(&t, i);
		compare(&t);
	}
	/* More runs than one call returns. */
	for (unsigned i = 0; i < PAGES; i += 2)
		put(&t, i);
	compare(&t);
	teardown(&t);
}

static void anon_scan__by_pagemap_scan__finds_what_was_written(void **state)
{
	(void)state;
	check(true);
}

static void anon_scan__by_entries__finds_what_was_written(void **state)
{
	(void)state;
	check(false);
}

/* Where a plan has zero pages the mapping is anonymous from the start: only what was written counts. */
static void anon_scan__anonymous_range_that_was_read__is_not_written(void **state)
{
	(void)state;
	struct rig t;
	volatile uint8_t sink = 0;

	setup(&t, true);
	assert_ptr_equal(mmap(t.map, PAGES * PAGE / 2, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 t.map);
	for (unsigned i = 0; i < PAGES / 2; i++)
		sink = (uint8_t)(sink + t.map[(size_t)i * PAGE]);
	compare(&t);
	put(&t, 5);
	compare(&t);
	teardown(&t);
}

/* A page that was only read counts, and perhaps its neighbours of one 64 KiB. */
static void touched(bool scan)
{
	struct rig t;
	volatile uint8_t sink = 0;

	setup(&t, scan);
	assert_int_equal(anon_scan_touched(&t.anon, t.map, PAGES, NULL), 0);
	assert_int_equal(t.anon.pages, 0);
	sink = (uint8_t)(sink + t.map[100 * PAGE]);
	put(&t, 300);
	assert_int_equal(anon_scan_touched(&t.anon, t.map, PAGES, NULL), 0);
	bool read = false, written = false;
	for (size_t i = 0; i < t.anon.count; i++) {
		uint64_t page = t.anon.run[i].page, end = page + t.anon.run[i].count;
		read |= page <= 100 && end > 100;
		written |= page <= 300 && end > 300;
		assert_true((page > 100 - 32 && end < 100 + 32) ||
			    (page > 300 - 32 && end < 300 + 32));
	}
	assert_true(read && written);
	teardown(&t);
}

static void anon_scan_touched__read_and_written__both_count(void **state)
{
	(void)state;
	touched(true);
	touched(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(anon_scan__by_pagemap_scan__finds_what_was_written),
		cmocka_unit_test(anon_scan__by_entries__finds_what_was_written),
		cmocka_unit_test(anon_scan_touched__read_and_written__both_count),
		cmocka_unit_test(anon_scan__anonymous_range_that_was_read__is_not_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
