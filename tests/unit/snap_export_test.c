/* SPDX-License-Identifier: Apache-2.0 */
/* A chain with its disks' layers into one stream and back; streams that were touched are refused. */
#include <errno.h>
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
#include "base/fault.h"
#include "snapshot/cow.h"
#include "snapshot/image_export.h"
#define PAGES 300u
#include "tests/unit/snap_rig.h"

static unsigned countdown; /* calls until one fails; 0: never */
static bool fired;

int fault_point(const char *call)
{
	(void)call;
	if (!countdown || --countdown)
		return 0;
	fired = true;
	return -ENOSPC;
}

#define LAYER_ID  "layer 1 of two.."
#define LAYER_HEX "6c617965722031206f662074776f2e2e.layer"

static int make_layer(const char *id)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);
	struct cow_layer layer = {.size = 1u << 20, .block_size = 4096};

	memcpy(layer.layer_id, id, COW_ID_LEN);
	assert_int_equal(cow_format(fd, &layer, NULL), 0);
	assert_int_equal(pwrite(fd, "some bytes of a disk", 20, (off_t)layer.file_len - 4096), 20);
	return fd;
}

/* Chain and layer into t->copy_fd. */
static void export_chain(struct rig *t, const char *name, const char *layer_id)
{
	struct snap_chain *chain = rig_open(t, name, SNAP_CHAIN_ALL);
	struct snap_layer_file layer = {.fd = make_layer(layer_id)};
	struct errmsg why = {""};

	memcpy(layer.id, LAYER_ID, SNAP_ID_LEN);
	assert_int_equal(ftruncate(t->copy_fd, 0), 0);
	assert_int_equal(lseek(t->copy_fd, 0, SEEK_SET), 0);
	must(snap_export(chain, &layer, 1, t->copy_fd, &why), &why);
	close(layer.fd);
	snap_chain_close(chain);
}

static int import(struct rig *t, const char *name, enum snap_image_kind kind)
{
	struct snap_import cfg = {
		.fd = t->copy_fd, .dir_fd = t->dir_fd, .name = name, .kind = kind};
	struct snap_written out;
	struct errmsg why = {""};

	assert_int_equal(lseek(t->copy_fd, 0, SEEK_SET), 0);
	int err = snap_import(&cfg, &out, &why);
	assert_true(!err == !why.text[0]);
	return err;
}

static void make_chain(struct rig *t)
{
	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_FLAT);
	rig_scribble(t, 40);
	rig_write(t, "b", "a", SNAP_IMAGE_PACKED);
	rig_scribble(t, 40);
	rig_write(t, "c", "b", SNAP_IMAGE_LZ4);
}

static void snap_export__chain_and_layer__come_back(void **state)
{
	struct rig *t = *state;
	struct stat st;
	char text[21] = "";

	make_chain(t);
	export_chain(t, "c", LAYER_ID);
	assert_int_equal(import(t, "in", SNAP_IMAGE_LZ4), 0);
	rig_compare(t, "in", SNAP_CHAIN_ALL);
	assert_int_equal(rig_verify(t, "in"), 0);

	int fd = rig_fd(t, LAYER_HEX);
	struct cow_layer layer;
	assert_int_equal(cow_open(fd, &layer, NULL), 0);
	assert_int_equal(pread(fd, text, 20, (off_t)layer.file_len - 4096), 20);
	assert_string_equal(text, "some bytes of a disk");
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 < 100000);
	close(fd);

	struct snap_chain *chain = rig_open(t, "in", SNAP_CHAIN_ALL);
	const struct snap_disk *disk;
	size_t len;
	assert_int_equal(snap_image_disks(snap_chain_head(chain), &disk), 2);
	assert_int_equal(disk[0].layer_count, 2);
	snap_image_meta(snap_chain_head(chain), &len);
	assert_int_equal(len, 7);
	assert_memory_equal(snap_image_state(snap_chain_head(chain), &len), rig_state, len);
	snap_chain_close(chain);

	/* the layer is there already: refused, and what is there stays */
	assert_int_equal(import(t, "again", SNAP_IMAGE_FLAT), -EEXIST);
	assert_int_equal(rig_count_files(t), 5);
	assert_int_equal(unlinkat(t->dir_fd, LAYER_HEX, 0), 0);
	assert_int_equal(import(t, "again", SNAP_IMAGE_FLAT), 0);
	rig_compare_plan(t, "again");
	/* the snapshot is: its layer is taken back */
	assert_int_equal(unlinkat(t->dir_fd, LAYER_HEX, 0), 0);
	assert_int_equal(import(t, "again", SNAP_IMAGE_FLAT), -EEXIST);
	assert_int_equal(faccessat(t->dir_fd, LAYER_HEX, F_OK, 0), -1);
}

static void snap_import__layer_under_another_name__refused(void **state)
{
	struct rig *t = *state;

	make_chain(t);
	export_chain(t, "c", "another layer id");
	assert_int_equal(import(t, "in", SNAP_IMAGE_LZ4), -EBADMSG);
	assert_int_equal(rig_count_files(t), 3);
}

static void snap_import__flipped_or_cut__refused_and_nothing_left(void **state)
{
	struct rig *t = *state;
	struct stat st;
	uint8_t byte;

	memset(t->mem, 0, sizeof(t->mem));
	rig_fill(t, 2, 5);
	rig_fill(t, 200, 6);
	rig_write(t, "c", NULL, SNAP_IMAGE_PACKED);
	export_chain(t, "c", LAYER_ID);
	assert_int_equal(fstat(t->copy_fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at += at < 600 ? 1 : 41) {
		assert_int_equal(pread(t->copy_fd, &byte, 1, at), 1);
		uint8_t flipped = byte ^ (uint8_t)(1u << at % 8);
		assert_int_equal(pwrite(t->copy_fd, &flipped, 1, at), 1);
		int err = import(t, "in", SNAP_IMAGE_LZ4);
		if (err != -EBADMSG)
			fail_msg("byte %ld: %d", (long)at, err);
		assert_int_equal(pwrite(t->copy_fd, &byte, 1, at), 1);
	}
	assert_int_equal(rig_count_files(t), 1);
	for (off_t cut = st.st_size - 1; cut > 0; cut -= 1 + cut / 200) {
		assert_int_equal(ftruncate(t->copy_fd, cut), 0);
		assert_int_equal(import(t, "in", SNAP_IMAGE_LZ4), -EBADMSG);
	}
	assert_int_equal(rig_count_files(t), 1);
}

static void snap_import__each_call_fails__nothing_left(void **state)
{
	struct rig *t = *state;
	unsigned n = 0;
	int err;

	make_chain(t);
	export_chain(t, "c", LAYER_ID);
	for (;;) {
		countdown = ++n;
		fired = false;
		err = import(t, "in", SNAP_IMAGE_LZ4);
		countdown = 0;
		if (!fired)
			break;
		assert_int_equal(err, -ENOSPC);
		assert_int_equal(rig_count_files(t), 3);
	}
	assert_int_equal(err, 0);
	assert_true(n > 20);
	rig_compare(t, "in", SNAP_CHAIN_ALL);
}

int main(void)
{
	rig_seed();
	const struct CMUnitTest tests[] = {
		rig_test(snap_export__chain_and_layer__come_back),
		rig_test(snap_import__layer_under_another_name__refused),
		rig_test(snap_import__each_call_fails__nothing_left),
		rig_test(snap_import__flipped_or_cut__refused_and_nothing_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
