/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory against an obvious model: a range is good when a 128-bit sum says it lies in one region. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
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

/* --- giving pages back: memory from a file, whose every page says which it is and who wrote it ------------- */
#define BACK_PAGES 4096u
#define BACK_SIZE  ((uint64_t)BACK_PAGES * GM_PAGE)
#define OF_FILE    1
#define OF_GUEST   2

struct backed {
	struct gmem gm;
	int file;
	uint8_t *map;
	struct gm_holes *holes;
	uint64_t dirty[BACK_PAGES / 64];
};

static void fill(uint8_t *map, unsigned page, unsigned writer)
{
	memset(map + (size_t)page * GM_PAGE, (int)writer, GM_PAGE);
}

static void backed_open(struct backed *b, enum gm_kind kind)
{
	memset(b, 0, sizeof(*b));
	b->file = memfd_create("memory", MFD_CLOEXEC);
	assert_true(b->file >= 0);
	assert_int_equal(ftruncate(b->file, (off_t)BACK_SIZE), 0);
	uint8_t *map = mmap(NULL, BACK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->file, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, OF_FILE, BACK_SIZE);
	if (kind == GM_PRIVATE) {
		munmap(map, BACK_SIZE);
		map = mmap(NULL, BACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, b->file, 0);
		assert_ptr_not_equal(map, MAP_FAILED);
	}
	b->map = map;
	assert_int_equal(gm_add(&b->gm, gpa(0), map, BACK_SIZE), 0);
	gm_set_kind(&b->gm, 0, kind);
	gm_set_dirty(&b->gm, 0, b->dirty);
	if (kind == GM_SHARED) {
		gm_set_file(&b->gm, 0, b->file, 0);
		return;
	}
	b->holes = gm_holes_create(BACK_SIZE);
	assert_non_null(b->holes);
	gm_set_holes(&b->gm, 0, b->holes);
}

static void backed_close(struct backed *b)
{
	munmap(b->map, BACK_SIZE);
	close(b->file);
	free(b->holes);
}

static int64_t discard(struct backed *b, unsigned page, unsigned count)
{
	return gm_discard(&b->gm, gpa((uint64_t)page * GM_PAGE), (uint64_t)count * GM_PAGE);
}

/* What all bytes of a page say; -1 when they differ. */
static int says(const struct backed *b, unsigned page)
{
	const uint8_t *at = b->map + (size_t)page * GM_PAGE;
	return memcmp(at, at + 1, GM_PAGE - 1) ? -1 : at[0];
}

static unsigned mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned n = 0;

	assert_non_null(maps);
	for (int c = fgetc(maps); c != EOF; c = fgetc(maps))
		n += c == '\n';
	fclose(maps);
	return n;
}

static void gm_discard__shared__hole_in_the_file(void **state)
{
	(void)state;
	struct backed b;
	struct stat st;

	backed_open(&b, GM_SHARED);
	assert_int_equal(discard(&b, 5, 1), GM_PAGE);
	assert_int_equal(discard(&b, 10, 100), 100 * GM_PAGE);
	assert_int_equal(fstat(b.file, &st), 0);
	assert_int_equal(st.st_size, BACK_SIZE);
	assert_int_equal(st.st_blocks * 512, (BACK_PAGES - 101) * GM_PAGE);
	for (unsigned i = 0; i < 120; i++)
		assert_int_equal(says(&b, i), i == 5 || (i >= 10 && i < 110) ? 0 : OF_FILE);
	assert_int_equal(b.dirty[0], UINT64_MAX << 10 | 1 << 5);
	assert_int_equal(b.dirty[1], (UINT64_C(1) << 46) - 1);
	backed_close(&b);
}

static void gm_discard__bad_range__refused(void **state)
{
	(void)state;
	struct backed b;

	backed_open(&b, GM_SHARED);
	assert_int_equal(gm_discard(&b.gm, gpa(1), GM_PAGE), -EINVAL);
	assert_int_equal(gm_discard(&b.gm, gpa(0), GM_PAGE + 1), -EINVAL);
	assert_int_equal(gm_discard(&b.gm, gpa(0), 0), -EINVAL);
	assert_int_equal(discard(&b, BACK_PAGES - 1, 2), -EFAULT);
	assert_int_equal(discard(&b, BACK_PAGES, 1), -EFAULT);
	assert_int_equal(gm_discard(&b.gm, gpa(UINT64_MAX - GM_PAGE + 1), GM_PAGE), -EFAULT);
	gm_set_file(&b.gm, 0, -1, 0);
	assert_int_equal(discard(&b, 0, 64), 0); /* in no file: nothing to give */
	assert_int_equal(says(&b, 0), OF_FILE);
	backed_close(&b);
}

/* Written or not, given back once or twice: never the file's bytes again, and the file keeps them. */
static void gm_discard__private__zero_and_never_the_file(void **state)
{
	(void)state;
	struct backed b;
	uint8_t byte = 0;

	backed_open(&b, GM_PRIVATE);
	for (unsigned i = 100; i < 116; i++)
		fill(b.map, i, OF_GUEST);
	assert_int_equal(discard(&b, 96, 32), 32 * GM_PAGE);
	for (unsigned i = 90; i < 140; i++) {
		bool hole = i >= 96 && i < 128;
		assert_int_equal(says(&b, i), hole ? 0 : OF_FILE);
		assert_int_equal(gm_is_hole(&b.gm, 0, i), hole);
	}
	fill(b.map, 97, OF_GUEST);
	assert_int_equal(says(&b, 97), OF_GUEST);
	assert_true(gm_is_hole(&b.gm, 0, 97));
	assert_int_equal(discard(&b, 97, 1), GM_PAGE); /* a hole already: any size goes */
	assert_int_equal(says(&b, 97), 0);
	assert_int_equal(pread(b.file, &byte, 1, 97 * GM_PAGE), 1);
	assert_int_equal(byte, OF_FILE);
	backed_close(&b);
}

/* Another mapping has holes of its own: those of the old one say nothing about it. */
static void gm_rebase__private__no_holes_any_more(void **state)
{
	(void)state;
	struct backed b;

	backed_open(&b, GM_PRIVATE);
	assert_int_equal(discard(&b, 0, 64), 64 * GM_PAGE);
	assert_true(gm_is_hole(&b.gm, 0, 3));
	gm_rebase(&b.gm, 0, b.map);
	assert_false(gm_is_hole(&b.gm, 0, 3));
	assert_int_equal(discard(&b, 64, 64), 0);
	backed_close(&b);
}

static void gm_discard__private_small__left_as_it_is(void **state)
{
	(void)state;
	struct backed b;
	const unsigned less = GM_HOLE_MIN / GM_PAGE - 1;

	backed_open(&b, GM_PRIVATE);
	fill(b.map, 7, OF_GUEST);
	assert_int_equal(discard(&b, 0, less), 0);
	for (unsigned i = 0; i < less; i++)
		assert_int_equal(says(&b, i), i == 7 ? OF_GUEST : OF_FILE);
	gm_set_holes(&b.gm, 0, NULL);
	assert_int_equal(discard(&b, 0, 64), 0);
	assert_int_equal(says(&b, 7), OF_GUEST);
	backed_close(&b);
}

/* Holes that touch are one mapping, and one of the count. */
static void gm_discard__neighbours__one_hole(void **state)
{
	(void)state;
	struct backed b;

	backed_open(&b, GM_PRIVATE);
	unsigned before = mappings();
	assert_int_equal(discard(&b, 64, 16), 16 * GM_PAGE);
	assert_int_equal(b.holes->count, 1);
	assert_int_equal(discard(&b, 96, 16), 16 * GM_PAGE);
	assert_int_equal(b.holes->count, 2);
	assert_int_equal(discard(&b, 80, 16), 16 * GM_PAGE);
	assert_int_equal(b.holes->count, 1);
	assert_int_equal(mappings(), before + 2);
	assert_int_equal(discard(&b, 48, 96), 96 * GM_PAGE); /* over all of it, and beyond */
	assert_int_equal(b.holes->count, 1);
	assert_int_equal(mappings(), before + 2);
	for (unsigned i = 40; i < 150; i++)
		assert_int_equal(says(&b, i), i >= 48 && i < 144 ? 0 : OF_FILE);
	backed_close(&b);
}

/* A guest that gives back every other block does not use up the host's mappings. */
static void gm_discard__too_many_holes__bounded(void **state)
{
	(void)state;
	struct backed b;
	const unsigned block = GM_HOLE_MIN / GM_PAGE;

	backed_open(&b, GM_PRIVATE);
	b.holes->count = GM_HOLES_MAX - 2;
	assert_int_equal(discard(&b, 0, block), GM_HOLE_MIN);
	assert_int_equal(discard(&b, 2 * block, block), GM_HOLE_MIN);
	assert_int_equal(discard(&b, 4 * block, block), 0);
	assert_int_equal(says(&b, 4 * block), OF_FILE);
	assert_int_equal(discard(&b, 3 * block, block), GM_HOLE_MIN); /* grows one that is there */
	assert_int_equal(discard(&b, block, block), GM_HOLE_MIN);     /* makes two into one */
	assert_int_equal(b.holes->count, GM_HOLES_MAX - 1);
	assert_int_equal(discard(&b, 6 * block, block), GM_HOLE_MIN);
	backed_close(&b);
}

/* Against a model: what was given back is zero until it is written; nothing is ever older than that. */
static void gm_discard__random__equals_model(void **state)
{
	(void)state;
	struct backed b;
	static uint8_t model[BACK_PAGES];
	unsigned seed = 7;

	backed_open(&b, GM_PRIVATE);
	memset(model, OF_FILE, sizeof(model));
	for (unsigned round = 0; round < 3000; round++) {
		unsigned page = (unsigned)rand_r(&seed) % BACK_PAGES;
		unsigned count = 1 + (unsigned)rand_r(&seed) % 80;
		if (count > BACK_PAGES - page)
			count = BACK_PAGES - page;
		if (rand_r(&seed) % 2) {
			fill(b.map, page, OF_GUEST);
			model[page] = OF_GUEST;
			continue;
		}
		int64_t got = discard(&b, page, count);
		assert_true(got >= 0);
		int64_t zero = 0;
		for (unsigned i = page; i < page + count; i++) {
			int now = says(&b, i);
			assert_true(now == model[i] || (now == 0 && gm_is_hole(&b.gm, 0, i)));
			zero += now == 0 && gm_is_hole(&b.gm, 0, i);
			model[i] = (uint8_t)now;
		}
		assert_true(zero * GM_PAGE >= got);
	}
	for (unsigned i = 0; i < BACK_PAGES; i++)
		assert_int_equal(says(&b, i), model[i]);
	backed_close(&b);
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
		cmocka_unit_test(gm_discard__shared__hole_in_the_file),
		cmocka_unit_test(gm_discard__bad_range__refused),
		cmocka_unit_test(gm_discard__private__zero_and_never_the_file),
		cmocka_unit_test(gm_rebase__private__no_holes_any_more),
		cmocka_unit_test(gm_discard__private_small__left_as_it_is),
		cmocka_unit_test(gm_discard__neighbours__one_hole),
		cmocka_unit_test(gm_discard__too_many_holes__bounded),
		cmocka_unit_test(gm_discard__random__equals_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
