/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshot files against a plain array of pages: what was written comes back through any chain. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "tests/unit/snap_rig.h"

/* --- round trips -------------------------------------------------------------------------------- */

static void snap_image__all_kinds__pages_and_words_come_back(void **state)
{
	struct rig *t = *state;

	for (unsigned kind = SNAP_IMAGE_FLAT; kind <= SNAP_IMAGE_LZ4; kind++) {
		char name[16];
		snprintf(name, sizeof(name), "full%u", kind);
		rig_scribble(t, PAGES);
		rig_write(t, name, NULL, kind);
		rig_compare(t, name, SNAP_CHAIN_ALL);
		assert_int_equal(rig_verify(t, name), 0);

		struct snap_chain *chain = rig_open(t, name, SNAP_CHAIN_NEEDED);
		const struct snap_image *head = snap_chain_head(chain);
		const struct snap_disk *disk;
		size_t len;
		assert_memory_equal(snap_image_state(head, &len), rig_state, sizeof(rig_state));
		assert_int_equal(len, sizeof(rig_state));
		assert_memory_equal(snap_image_meta(head, &len), "{\"a\":1}", 7);
		assert_int_equal(len, 7);
		assert_int_equal(snap_image_disks(head, &disk), 2);
		assert_string_equal(disk[0].drive, "rootfs");
		assert_int_equal(disk[0].layer_count, 2);
		assert_memory_equal(disk[0].layer + SNAP_ID_LEN, "layer 2 of two..", SNAP_ID_LEN);
		assert_int_equal(disk[0].generation, 7);
		assert_int_equal(disk[1].layer_count, 0);
		snap_chain_close(chain);
	}
}

/* Every combination of what a page was and what it becomes, for each kind. */
static void snap_image__zero_equal_dirty__each_costs_what_it_must(void **state)
{
	struct rig *t = *state;

	for (unsigned kind = SNAP_IMAGE_PACKED; kind <= SNAP_IMAGE_LZ4; kind++) {
		char base[16], child[16];
		snprintf(base, sizeof(base), "base%u", kind);
		snprintf(child, sizeof(child), "child%u", kind);
		memset(t->mem, 0, sizeof(t->mem));
		memset(t->gone, 0, sizeof(t->gone));
		for (unsigned p = 8; p < 16; p++)
			rig_fill(t, p, p);
		struct snap_written w = rig_write(t, base, NULL, kind);
		assert_int_equal(w.stored, 8);
		assert_int_equal(w.zero, 0);

		memset(t->dirty, 0, sizeof(t->dirty));
		for (unsigned p = 0; p < 4; p++) /* zero and touched */
			t->dirty[p] = true;
		for (unsigned p = 4; p < 8; p++) /* zero to something */
			rig_fill(t, p, 100 + p);
		for (unsigned p = 8; p < 10; p++) /* the same again */
			t->dirty[p] = true;
		for (unsigned p = 10; p < 12; p++) { /* to zero */
			memset(t->mem[p], 0, SNAP_PAGE_SIZE);
			t->dirty[p] = true;
		}
		for (unsigned p = 12; p < 14; p++) /* changed */
			rig_fill(t, p, 200 + p);
		memset(t->mem[14], 0, SNAP_PAGE_SIZE); /* to zero, said by the plan */
		t->gone[14] = true;
		w = rig_write(t, child, base, kind);
		assert_int_equal(w.stored, 6);
		assert_int_equal(w.zero, 3);
		assert_int_equal(w.equal, 6);
		assert_int_equal(w.index_len, 40 + 136 + 8);
		rig_compare(t, child, SNAP_CHAIN_NEEDED);
		rig_compare(t, child, SNAP_CHAIN_ALL);
		assert_int_equal(rig_verify(t, child), 0);
	}
}

static void snap_image__nothing_changed__stores_nothing(void **state)
{
	struct rig *t = *state;

	rig_scribble(t, PAGES);
	rig_write(t, "base", NULL, SNAP_IMAGE_FLAT);
	for (unsigned p = 0; p < PAGES; p++)
		t->dirty[p] = true;
	struct snap_written w = rig_write(t, "same", "base", SNAP_IMAGE_LZ4);
	assert_int_equal(w.stored, 0);
	assert_int_equal(w.zero, 0);
	assert_true(w.equal > 0 && w.equal <= PAGES); /* pages given back are not looked at */
	assert_int_equal(w.mem_len, 0);
	rig_compare(t, "same", SNAP_CHAIN_NEEDED);
	assert_int_equal(rig_verify(t, "same"), 0);
}

static void snap_image_write__configurations_that_cannot_be__refused(void **state)
{
	struct rig *t = *state;
	struct snap_written w;
	struct snap_plan plan = {.fd = NULL};

	rig_write(t, "a", NULL, SNAP_IMAGE_PACKED);
	struct snap_chain *parent = rig_open(t, "a", SNAP_CHAIN_ALL);
	rig_plan(t, &plan);
	const struct snap_write good = {.dir_fd = t->dir_fd,
					.name = "b",
					.kind = SNAP_IMAGE_LZ4,
					.cpus = 1,
					.pages = PAGES,
					.state = "s",
					.state_len = 1,
					.plan = &plan,
					.diff_from = 1,
					.parent = parent};
	struct snap_write bad[6];
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		bad[i] = good;
	bad[0].diff_from = 3;
	bad[1].kind = SNAP_IMAGE_FLAT;
	bad[2].pages = PAGES - 1;
	bad[3].cpus = 0;
	bad[4].meta_len = SNAP_META_MAX + 1;
	bad[5].kind = 0;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(snap_image_write(&bad[i], &w, NULL), -EINVAL);
	assert_int_equal(rig_count_files(t), 1);
	assert_int_equal(snap_image_write(&good, &w, NULL), 0);
	snap_plan_free(&plan);
	snap_chain_close(parent);
}

/* --- chains ------------------------------------------------------------------------------------- */

static void snap_chain__hundred_random_increments__as_an_array_of_pages(void **state)
{
	struct rig *t = *state;
	char name[16] = "", before[16];

	for (unsigned i = 0; i <= 100; i++) {
		strcpy(before, name);
		snprintf(name, sizeof(name), "link%u", i);
		rig_scribble(t, i ? 1 + (unsigned)rnd(60) : PAGES);
		enum snap_image_kind kind = rnd(2) ? SNAP_IMAGE_LZ4 : SNAP_IMAGE_PACKED;
		rig_write(t, name, i ? before : NULL, i || rnd(2) ? kind : SNAP_IMAGE_FLAT);
		if (i % 10 == 3 || i == 100) {
			rig_compare(t, name, SNAP_CHAIN_NEEDED);
			rig_compare(t, name, SNAP_CHAIN_ALL);
		}
	}
	assert_int_equal(rig_verify(t, name), 0);

	struct snap_chain *chain = rig_open(t, name, SNAP_CHAIN_ALL);
	struct snap_written w;
	struct errmsg why = {""};
	assert_true(snap_chain_growth(chain) > 100);
	for (unsigned kind = SNAP_IMAGE_FLAT; kind <= SNAP_IMAGE_LZ4; kind++) {
		char flat[16];
		snprintf(flat, sizeof(flat), "flat%u", kind);
		must(snap_chain_flatten(chain, t->dir_fd, flat, kind, SNAP_NEW, &w, &why), &why);
		rig_compare(t, flat, SNAP_CHAIN_ALL);
		assert_int_equal(rig_verify(t, flat), 0);
	}
	snap_chain_close(chain);
	rig_compare_plan(t, "flat1");
	rig_compare_plan(t, "flat2");
}

static void snap_chain_plan__raw_chain__maps_what_it_holds(void **state)
{
	struct rig *t = *state;

	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	rig_scribble(t, 20);
	rig_write(t, "b", "a", SNAP_IMAGE_PACKED);
	rig_scribble(t, 20);
	rig_write(t, "c", "b", SNAP_IMAGE_PACKED);
	rig_compare_plan(t, "c");
	rig_scribble(t, 20);
	rig_write(t, "d", "c", SNAP_IMAGE_LZ4);

	struct snap_chain *chain = rig_open(t, "d", SNAP_CHAIN_NEEDED);
	struct snap_plan plan = {.fd = NULL};
	assert_int_equal(snap_chain_plan(chain, &plan, NULL), -EOPNOTSUPP);
	snap_chain_close(chain);
}

static void snap_chain__many_runs__no_index_and_no_plan(void **state)
{
	struct rig *t = *state;
	struct snap_plan plan = {.fd = NULL};

	memset(t->mem, 0, sizeof(t->mem));
	for (unsigned p = 0; p < PAGES; p++)
		rig_fill(t, p, p + 1);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	for (unsigned p = 0; p < PAGES; p += 2)
		rig_fill(t, p, p + 7);
	rig_write(t, "b", "a", SNAP_IMAGE_PACKED);
	struct snap_chain *chain = rig_open(t, "b", SNAP_CHAIN_NEEDED);
	struct snap_image_info info;
	snap_image_info(snap_chain_head(chain), &info);
	assert_int_equal(info.has_chain, PAGES <= SNAP_MAPS_MAX);
	assert_int_equal(snap_chain_plan(chain, &plan, NULL), PAGES <= SNAP_MAPS_MAX ? 0 : -E2BIG);
	snap_plan_free(&plan);
	snap_chain_close(chain);
	rig_compare(t, "b", SNAP_CHAIN_NEEDED);
}

static void snap_chain__parent_gone_or_another__said(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain;
	struct errmsg why;

	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	rig_scribble(t, 9);
	rig_write(t, "b", "a", SNAP_IMAGE_PACKED);
	rig_scribble(t, 9);
	rig_write(t, "c", "b", SNAP_IMAGE_LZ4);

	/* a's place is taken by b: right name, wrong identity */
	t->lie = "b";
	for (unsigned depth = SNAP_CHAIN_NEEDED; depth <= SNAP_CHAIN_ALL; depth++) {
		int fd = rig_fd(t, "b");
		assert_int_equal(snap_chain_open(&chain, fd, rig_find, t, depth, &why), -ESTALE);
		close(fd);
	}
	t->lie = NULL;
	assert_int_equal(unlinkat(t->dir_fd, "a", 0), 0);
	int fd = rig_fd(t, "c");
	assert_int_equal(snap_chain_open(&chain, fd, rig_find, t, SNAP_CHAIN_ALL, &why), -ENOENT);
	assert_non_null(strstr(why.text, "its parent"));
	close(fd);
}

/* Rewrites fields of a header and signs it: what somebody who means harm can do. */
static void forge(struct rig *t, const char *name, const struct snap_ref *parent, uint32_t depth)
{
	struct snap_image_header h;
	int fd = openat(t->dir_fd, name, O_RDWR);

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	memcpy(h.parent_id, parent->id, SNAP_ID_LEN);
	h.parent_root = parent->root;
	h.depth = depth;
	h.crc = 0;
	h.crc = crc32c(&h, sizeof(h));
	assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	close(fd);
}

static void snap_chain__in_a_circle__said(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain;
	struct errmsg why;

	rig_scribble(t, PAGES);
	struct snap_written a = rig_write(t, "a", NULL, SNAP_IMAGE_PACKED);
	struct snap_written b = rig_write(t, "b", "a", SNAP_IMAGE_PACKED);
	forge(t, "b", &b.self, 1);
	int fd = rig_fd(t, "b");
	assert_int_equal(snap_chain_open(&chain, fd, rig_find, t, SNAP_CHAIN_ALL, &why), -ELOOP);
	assert_non_null(strstr(why.text, "its own ancestor"));
	close(fd);
	forge(t, "b", &a.self, 5);
	fd = rig_fd(t, "b");
	assert_int_equal(snap_chain_open(&chain, fd, rig_find, t, SNAP_CHAIN_ALL, &why), -EBADMSG);
	close(fd);
	forge(t, "b", &a.self, SNAP_IMAGE_DEPTH_MAX + 1);
	fd = rig_fd(t, "b");
	assert_int_equal(snap_chain_open(&chain, fd, rig_find, t, SNAP_CHAIN_ALL, &why), -EBADMSG);
	close(fd);
}

static void snap_image_remove__needed__names_who(void **state)
{
	struct rig *t = *state;
	struct errmsg why;

	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	rig_write(t, "b", "a", SNAP_IMAGE_PACKED);
	assert_int_equal(snap_image_remove(t->dir_fd, "a", &why), -EBUSY);
	assert_string_equal(why.text, "snapshot a is needed by b");
	assert_int_equal(snap_image_remove(t->dir_fd, "nobody", &why), -ENOENT);
	assert_int_equal(snap_image_remove(t->dir_fd, "b", &why), 0);
	assert_int_equal(snap_image_remove(t->dir_fd, "a", &why), 0);
}

static void snap_image_write__name_taken__refused_or_replaced(void **state)
{
	struct rig *t = *state;
	struct snap_written w;
	struct errmsg why;

	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	struct snap_chain *chain = rig_open(t, "a", SNAP_CHAIN_ALL);
	assert_int_equal(
		snap_chain_flatten(chain, t->dir_fd, "a", SNAP_IMAGE_LZ4, SNAP_NEW, &w, &why),
		-EEXIST);
	assert_int_equal(
		snap_chain_flatten(chain, t->dir_fd, "a", SNAP_IMAGE_LZ4, SNAP_REPLACE, &w, &why),
		0);
	for (const char *const *bad = (const char *const[]){"", ".", "..", "x/y", "x.part", NULL};
	     *bad; bad++)
		assert_int_equal(snap_chain_flatten(chain, t->dir_fd, *bad, SNAP_IMAGE_LZ4,
						    SNAP_NEW, &w, &why),
				 -EINVAL);
	snap_chain_close(chain);
	rig_compare(t, "a", SNAP_CHAIN_ALL);
	assert_int_equal(rig_count_files(t), 1);
}

/* --- damage ------------------------------------------------------------------------------------- */

static uint8_t *slurp(struct rig *t, const char *name, size_t *len)
{
	int fd = rig_fd(t, name);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *bytes = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	*len = (size_t)st.st_size;
	return bytes;
}

static int verify_copy(struct rig *t)
{
	struct snap_image *image = NULL;
	struct errmsg why = {""};
	int err = snap_image_open(&image, t->copy_fd, &why);

	if (!err)
		err = snap_image_verify(image, &why);
	snap_image_close(image);
	assert_true(!err == !why.text[0]);
	return err;
}

/* In the header's fields or in a section: every bit is tried; of what lies between, one in 31. */
static bool matters(const uint8_t *bytes, size_t byte)
{
	struct snap_image_header h;

	memcpy(&h, bytes, sizeof(h));
	for (unsigned i = 0; i < SNAP_IMAGE_SECTIONS; i++)
		if (byte >= h.section[i].off && byte < h.section[i].off + h.section[i].len)
			return true;
	return byte < offsetof(struct snap_image_header, rsvd1);
}

static void flip_all(struct rig *t, const char *name, size_t step)
{
	size_t len, tried = 0;
	uint8_t *bytes = slurp(t, name, &len);

	assert_int_equal(ftruncate(t->copy_fd, 0), 0);
	assert_int_equal(pwrite(t->copy_fd, bytes, len, 0), len);
	assert_int_equal(verify_copy(t), 0);
	for (size_t bit = 0; bit < len * 8; bit += step) {
		if (bit % 31 && !matters(bytes, bit / 8))
			continue;
		uint8_t flipped = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
		assert_int_equal(pwrite(t->copy_fd, &flipped, 1, (off_t)(bit / 8)), 1);
		if (!verify_copy(t))
			fail_msg("%s: bit %zu of byte %zu was not seen", name, bit % 8, bit / 8);
		assert_int_equal(pwrite(t->copy_fd, &bytes[bit / 8], 1, (off_t)(bit / 8)), 1);
		tried++;
	}
	assert_int_equal(verify_copy(t), 0);
	for (size_t cut = 0; cut < len; cut += len / 5000 + 1) {
		assert_int_equal(ftruncate(t->copy_fd, (off_t)cut), 0);
		assert_true(verify_copy(t) < 0);
	}
	print_message("%s: %zu bits of %zu bytes\n", name, tried, len);
	free(bytes);
}

static void snap_chain_verify__every_bit_flipped__refused(void **state)
{
	struct rig *t = *state;

	memset(t->mem, 0, sizeof(t->mem));
	for (unsigned p = 3; p < 20; p++)
		rig_fill(t, p, p);
	rig_write(t, "base", NULL, SNAP_IMAGE_PACKED);
	memset(t->dirty, 0, sizeof(t->dirty));
	rig_fill(t, 4, 1234);
	memset(t->mem[5], 0, SNAP_PAGE_SIZE);
	t->dirty[5] = true;
	rig_write(t, "small", "base", SNAP_IMAGE_LZ4);
	flip_all(t, "small", 1);
	flip_all(t, "base", 101);
	struct snap_chain *chain = rig_open(t, "base", SNAP_CHAIN_ALL);
	struct snap_written w;
	assert_int_equal(
		snap_chain_flatten(chain, t->dir_fd, "flat", SNAP_IMAGE_FLAT, SNAP_NEW, &w, NULL),
		0);
	snap_chain_close(chain);
	flip_all(t, "flat", 400009);

	/* The index of ancestors is compared with what they say. */
	int fd = rig_fd(t, "small");
	assert_int_equal(snap_chain_verify(fd, rig_find, t, NULL), 0);
	close(fd);
}

static void snap_image_open__other_version_or_architecture__said(void **state)
{
	struct rig *t = *state;
	struct snap_image_header good, h;
	struct snap_image *image;
	struct errmsg why;

	rig_write(t, "a", NULL, SNAP_IMAGE_PACKED);
	int fd = openat(t->dir_fd, "a", O_RDWR);
	assert_int_equal(pread(fd, &good, sizeof(good), 0), sizeof(good));
	const struct {
		size_t off;
		uint32_t val;
		const char *says;
	} lies[] = {
		{offsetof(struct snap_image_header, version), 2, "version 2, only 1 is known"},
		{offsetof(struct snap_image_header, arch), 2, "another architecture"},
		{offsetof(struct snap_image_header, page_size), 65536, "cannot be"},
		{offsetof(struct snap_image_header, cpus), 0, "cannot be"},
		{offsetof(struct snap_image_header, cpus), 33, "cannot be"},
		{offsetof(struct snap_image_header, pages), 0, "cannot be"},
		{offsetof(struct snap_image_header, depth), 1, "two things"},
		{offsetof(struct snap_image_header, rsvd0), 1, "unknown parts"},
		{offsetof(struct snap_image_header, section), 99, "unknown type 99"},
	};
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		h = good;
		memcpy((char *)&h + lies[i].off, &lies[i].val, sizeof(lies[i].val));
		h.crc = 0;
		h.crc = crc32c(&h, sizeof(h));
		assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
		assert_int_equal(snap_image_open(&image, fd, &why), -EBADMSG);
		if (!strstr(why.text, lies[i].says))
			fail_msg("'%s' does not say '%s'", why.text, lies[i].says);
	}
	close(fd);
}

int main(void)
{
	rig_seed();
	const struct CMUnitTest tests[] = {
		rig_test(snap_image__all_kinds__pages_and_words_come_back),
		rig_test(snap_image__zero_equal_dirty__each_costs_what_it_must),
		rig_test(snap_image__nothing_changed__stores_nothing),
		rig_test(snap_image_write__configurations_that_cannot_be__refused),
		rig_test(snap_chain__hundred_random_increments__as_an_array_of_pages),
		rig_test(snap_chain_plan__raw_chain__maps_what_it_holds),
		rig_test(snap_chain__many_runs__no_index_and_no_plan),
		rig_test(snap_chain__parent_gone_or_another__said),
		rig_test(snap_chain__in_a_circle__said),
		rig_test(snap_image_remove__needed__names_who),
		rig_test(snap_image_write__name_taken__refused_or_replaced),
		rig_test(snap_chain_verify__every_bit_flipped__refused),
		rig_test(snap_image_open__other_version_or_architecture__said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
