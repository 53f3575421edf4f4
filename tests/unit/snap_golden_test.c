/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file format does not drift: files of version 1 in tests/golden are read, and what is written today differs from
 * them in identity and time alone.  `GOLDEN=FOLDER tests/unit/snap_golden_test` makes them anew.
 */
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
#include "snapshot/codec.h"
#include "snapshot/image_ws.h"
#define PAGES 600u
#include "tests/unit/snap_rig.h"

#define BASE  "snapshot-v1-base.bin"
#define CHILD "snapshot-v1-child.bin"

static void fill_base(struct rig *t)
{
	memset(t->mem, 0, sizeof(t->mem));
	rig_fill(t, 1, 11);
	rig_fill(t, 2, 12);
	rig_fill(t, 530, 13);
}

static void fill_child(struct rig *t)
{
	memset(t->dirty, 0, sizeof(t->dirty));
	rig_fill(t, 2, 22);
	rig_fill(t, 3, 24);
	memset(t->mem[530], 0, SNAP_PAGE_SIZE);
	t->gone[530] = true;
}

static void make_both(struct rig *t)
{
	static const snap_ws_page touched[] = {2, 1 | SNAP_WS_WRITTEN};
	struct errmsg why = {""};

	fill_base(t);
	rig_write(t, BASE, NULL, SNAP_IMAGE_PACKED);
	struct snap_chain *chain = rig_open(t, BASE, SNAP_CHAIN_ALL);
	must(snap_ws_make(chain, touched, 2, NULL, &t->ws, &t->ws_len, &why), &why);
	snap_chain_close(chain);
	fill_child(t);
	rig_write(t, CHILD, BASE, SNAP_IMAGE_LZ4);
	free(t->ws);
	t->ws = NULL;
	t->ws_len = 0;
}

static int golden_folder(int flags)
{
	const char *path = getenv("GOLDEN");
	return open(path ? path : "tests/golden", flags | O_DIRECTORY | O_CLOEXEC);
}

static void copy(int from, int to, const char *name, int flags)
{
	static uint8_t bytes[1u << 20];
	cleanup_close int in = openat(from, name, O_RDONLY | O_CLOEXEC);
	cleanup_close int out = openat(to, name, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
	ssize_t n = read(in, bytes, sizeof(bytes));

	assert_true(in >= 0 && out >= 0 && n > 0 && n < (ssize_t)sizeof(bytes));
	assert_int_equal(write(out, bytes, (size_t)n), n);
}

static void snap_golden__version_1__read_as_ever(void **state)
{
	struct rig *t = *state;
	struct snap_ws *ws;
	int golden = golden_folder(O_RDONLY);

	if (getenv("GOLDEN")) {
		make_both(t);
		copy(t->dir_fd, golden, BASE, O_TRUNC);
		copy(t->dir_fd, golden, CHILD, O_TRUNC);
	} else {
		copy(golden, t->dir_fd, BASE, O_EXCL);
		copy(golden, t->dir_fd, CHILD, O_EXCL);
	}
	close(golden);
	fill_base(t);
	rig_compare(t, BASE, SNAP_CHAIN_ALL);
	fill_child(t);
	rig_compare(t, CHILD, SNAP_CHAIN_NEEDED);
	rig_compare(t, CHILD, SNAP_CHAIN_ALL);
	assert_int_equal(rig_verify(t, CHILD), 0);
	struct snap_chain *chain = rig_open(t, CHILD, SNAP_CHAIN_NEEDED);
	const struct snap_disk *disk;
	assert_int_equal(snap_image_disks(snap_chain_head(chain), &disk), 2);
	assert_memory_equal(disk[0].layer, "layer 1 of two..", SNAP_ID_LEN);
	assert_int_equal(snap_ws_open_section(&ws, snap_chain_head(chain), NULL), 0);
	assert_int_equal(snap_ws_page_count(ws), 2);
	snap_ws_close(ws);
	snap_chain_close(chain);
}

/* What a run gives that another does not. */
static void forget_run(uint8_t *bytes, size_t len)
{
	struct snap_image_header h;

	memcpy(&h, bytes, sizeof(h));
	memset(h.id, 0, sizeof(h.id));
	h.created = 0;
	h.crc = 0;
	memcpy(bytes, &h, sizeof(h));
	assert_true(len > sizeof(h));
}

static size_t slurp(int dir_fd, const char *name, uint8_t *bytes, size_t cap)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, bytes, cap);

	assert_true(n > 0 && (size_t)n < cap);
	forget_run(bytes, (size_t)n);
	return (size_t)n;
}

static void snap_golden__written_today__the_same_bytes(void **state)
{
	static uint8_t then[1u << 20], now[1u << 20];
	struct rig *t = *state;
	int golden = golden_folder(O_RDONLY);

	make_both(t);
	size_t len = slurp(golden, BASE, then, sizeof(then));
	assert_int_equal(slurp(t->dir_fd, BASE, now, sizeof(now)), len);
	assert_memory_equal(then, now, len);
	close(golden);
}

int main(void)
{
	rig_seed();
	const struct CMUnitTest tests[] = {
		rig_test(snap_golden__version_1__read_as_ever),
		rig_test(snap_golden__written_today__the_same_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
