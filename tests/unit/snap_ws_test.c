/* SPDX-License-Identifier: Apache-2.0 */
/* Working sets: pages come back in the order of their recording, and nothing damaged or foreign is taken. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image_ws.h"
#include "tests/unit/snap_rig.h"

#define COUNT 333u

/* Distinct pages, some in a row, some of them written. */
static void record(snap_ws_page *list)
{
	bool taken[PAGES] = {false};
	unsigned page = 0;

	for (unsigned i = 0; i < COUNT; i++) {
		page = rnd(3) ? (page + 1) % PAGES : (unsigned)rnd(PAGES);
		while (taken[page])
			page = (page + 1) % PAGES;
		taken[page] = true;
		list[i] = page | (rnd(4) ? 0 : SNAP_WS_WRITTEN);
	}
}

struct expect {
	struct rig *t;
	const snap_ws_page *list;
	unsigned next;
};

static int expect_page(void *arg, uint64_t page, uint32_t count, bool written, const void *bytes)
{
	struct expect *e = arg;

	for (uint32_t i = 0; i < count; i++, e->next++) {
		snap_ws_page want = e->list[e->next];
		assert_int_equal(page + i, want & ~SNAP_WS_WRITTEN);
		assert_int_equal(written, !!(want & SNAP_WS_WRITTEN));
		assert_memory_equal((const uint8_t *)bytes + i * SNAP_PAGE_SIZE,
				    e->t->mem[page + i], SNAP_PAGE_SIZE);
	}
	return 0;
}

static struct snap_ref ref_of(const struct snap_chain *chain)
{
	struct snap_image_info info;

	snap_image_info(snap_chain_head(chain), &info);
	return info.self;
}

static void snap_ws__beside_a_chain__pages_in_order(void **state)
{
	struct rig *t = *state;
	snap_ws_page list[COUNT];
	struct errmsg why = {""};
	struct snap_ws *ws;
	uint8_t *bytes, *mem;
	size_t len;

	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	rig_scribble(t, 100);
	rig_write(t, "b", "a", SNAP_IMAGE_LZ4);
	struct snap_chain *chain = rig_open(t, "b", SNAP_CHAIN_NEEDED);
	struct snap_ref ref = ref_of(chain);
	record(list);
	must(snap_ws_make(chain, list, COUNT, &ref, &bytes, &len, &why), &why);
	must(snap_ws_write(t->dir_fd, "b.ws", bytes, len, &why), &why);
	must(snap_ws_write(t->dir_fd, "b.ws", bytes, len, &why), &why); /* in its place */
	free(bytes);

	int fd = rig_fd(t, "b.ws");
	must(snap_ws_open_file(&ws, fd, snap_chain_head(chain), &why), &why);
	struct expect e = {.t = t, .list = list};
	assert_int_equal(snap_ws_page_count(ws), COUNT);
	assert_int_equal(snap_ws_each(ws, expect_page, &e, &why), 0);
	assert_int_equal(e.next, COUNT);
	mem = calloc(PAGES, SNAP_PAGE_SIZE);
	assert_int_equal(snap_ws_fetch(ws, mem, &why), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		unsigned page = list[i] & ~SNAP_WS_WRITTEN;
		assert_memory_equal(mem + page * SNAP_PAGE_SIZE, t->mem[page], SNAP_PAGE_SIZE);
	}
	free(mem);
	snap_ws_close(ws);
	snap_chain_close(chain);

	chain = rig_open(t, "a", SNAP_CHAIN_NEEDED);
	assert_int_equal(snap_ws_open_file(&ws, fd, snap_chain_head(chain), &why), -ESTALE);
	assert_int_equal(snap_ws_open_section(&ws, snap_chain_head(chain), &why), -ENOENT);
	snap_chain_close(chain);
	close(fd);
}

static void snap_ws__as_a_section__survives_flattening(void **state)
{
	struct rig *t = *state;
	snap_ws_page list[COUNT];
	struct errmsg why = {""};
	struct snap_written w;
	struct snap_ws *ws;

	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_PACKED);
	struct snap_chain *chain = rig_open(t, "a", SNAP_CHAIN_NEEDED);
	record(list);
	must(snap_ws_make(chain, list, COUNT, NULL, &t->ws, &t->ws_len, &why), &why);
	snap_chain_close(chain);
	rig_write(t, "b", "a", SNAP_IMAGE_LZ4);
	free(t->ws);
	t->ws = NULL;
	t->ws_len = 0;
	chain = rig_open(t, "b", SNAP_CHAIN_ALL);
	must(snap_chain_flatten(chain, t->dir_fd, "c", SNAP_IMAGE_LZ4, SNAP_NEW, &w, &why), &why);
	snap_chain_close(chain);
	chain = rig_open(t, "c", SNAP_CHAIN_ALL);
	must(snap_ws_open_section(&ws, snap_chain_head(chain), &why), &why);
	struct expect e = {.t = t, .list = list};
	assert_int_equal(snap_ws_each(ws, expect_page, &e, &why), 0);
	assert_int_equal(e.next, COUNT);
	snap_ws_close(ws);
	snap_chain_close(chain);
}

/* Only the list is read: what damages the pages is not seen, what damages the list is. */
static void snap_ws_warm_file__list_is_checked(void **state)
{
	struct rig *t = *state;
	snap_ws_page list[COUNT];
	struct snap_plan plan = {.fd = NULL};
	struct errmsg why = {""};
	uint8_t *bytes;
	size_t len;

	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	rig_scribble(t, 100);
	rig_write(t, "b", "a", SNAP_IMAGE_PACKED);
	struct snap_chain *chain = rig_open(t, "b", SNAP_CHAIN_NEEDED);
	const struct snap_image *head = snap_chain_head(chain);
	struct snap_ref ref = ref_of(chain);
	record(list);
	must(snap_ws_make(chain, list, COUNT, &ref, &bytes, &len, &why), &why);
	must(snap_chain_plan(chain, &plan, &why), &why);
	cleanup_close int fd = memfd_create("set", MFD_CLOEXEC);
	assert_int_equal(pwrite(fd, bytes, len, 0), len);
	must(snap_ws_warm_file(fd, head, &plan, &why), &why);
	assert_int_equal(pwrite(fd, "x", 1, (off_t)len - 1), 1);
	must(snap_ws_warm_file(fd, head, &plan, &why), &why);
	for (size_t at = 0; at < 200; at++) { /* head and some of the runs */
		uint8_t other = (uint8_t)(bytes[at] + 1);
		assert_int_equal(pwrite(fd, &other, 1, (off_t)at), 1);
		assert_int_equal(snap_ws_warm_file(fd, head, &plan, NULL), -EBADMSG);
		assert_int_equal(pwrite(fd, bytes + at, 1, (off_t)at), 1);
	}
	assert_int_equal(snap_ws_warm_file(fd, snap_chain_image(chain, 1), &plan, NULL), -ESTALE);
	const size_t cuts[] = {0, 63, 64, 500, len - 1};
	for (size_t i = ARRAY_LEN(cuts); i-- > 0;) {
		assert_int_equal(ftruncate(fd, (off_t)cuts[i]), 0);
		assert_int_equal(snap_ws_warm_file(fd, head, &plan, NULL), -EBADMSG);
	}
	free(bytes);
	snap_plan_free(&plan);
	snap_chain_close(chain);
}

static void snap_ws_make__twice_outside_or_too_many__refused(void **state)
{
	struct rig *t = *state;
	const snap_ws_page twice[] = {5, 9, 5 | SNAP_WS_WRITTEN}, outside[] = {PAGES};
	uint8_t *bytes;
	size_t len;

	rig_write(t, "a", NULL, SNAP_IMAGE_PACKED);
	struct snap_chain *chain = rig_open(t, "a", SNAP_CHAIN_NEEDED);
	assert_int_equal(snap_ws_make(chain, twice, 3, NULL, &bytes, &len, NULL), -EINVAL);
	assert_int_equal(snap_ws_make(chain, outside, 1, NULL, &bytes, &len, NULL), -EINVAL);
	assert_int_equal(snap_ws_make(chain, twice, 0, NULL, &bytes, &len, NULL), -EINVAL);
	assert_int_equal(
		snap_ws_make(chain, twice, SNAP_WS_PAGES_MAX + 1, NULL, &bytes, &len, NULL),
		-EINVAL);
	snap_chain_close(chain);
}

static int ignore(void *arg, uint64_t page, uint32_t count, bool written, const void *bytes)
{
	(void)arg, (void)page, (void)count, (void)written, (void)bytes;
	return 0;
}

static int try_bytes(const uint8_t *bytes, size_t len)
{
	struct snap_ws *ws;
	uint8_t *copy = malloc(len + 1);

	memcpy(copy, bytes, len);
	int err = snap_ws_open(&ws, copy, len, PAGES, NULL, NULL);
	if (err)
		return err;
	err = snap_ws_each(ws, ignore, NULL, NULL);
	snap_ws_close(ws);
	return err;
}

static void snap_ws__every_bit_flipped_or_cut__refused(void **state)
{
	struct rig *t = *state;
	const snap_ws_page list[] = {7, 8, 3 | SNAP_WS_WRITTEN};
	uint8_t *bytes;
	size_t len;

	rig_fill(t, 7, 3);
	rig_fill(t, 8, 2);
	rig_write(t, "a", NULL, SNAP_IMAGE_PACKED);
	struct snap_chain *chain = rig_open(t, "a", SNAP_CHAIN_NEEDED);
	assert_int_equal(snap_ws_make(chain, list, 3, NULL, &bytes, &len, NULL), 0);
	snap_chain_close(chain);
	assert_int_equal(try_bytes(bytes, len), 0);
	for (size_t bit = 0; bit < len * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_true(try_bytes(bytes, len) < 0);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(try_bytes(bytes, cut), -EBADMSG);
	free(bytes);
}

int main(void)
{
	rig_seed();
	const struct CMUnitTest tests[] = {
		rig_test(snap_ws__beside_a_chain__pages_in_order),
		rig_test(snap_ws__as_a_section__survives_flattening),
		rig_test(snap_ws_warm_file__list_is_checked),
		rig_test(snap_ws_make__twice_outside_or_too_many__refused),
		rig_test(snap_ws__every_bit_flipped_or_cut__refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
