/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of a sandbox's disk as a folder holds them: which are sealed, and what a fresh one lies on. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/dir.h"
#include "snapshot/cow.h"
#include "supervisor/lifecycle/layers.h"

#define DISK_SIZE (1u << 20)

static char folder[] = "/tmp/spore-layers-XXXXXX";
static int home;
static struct errmsg why;

static int set_up(void **state)
{
	(void)state;
	strcpy(folder + sizeof(folder) - 7, "XXXXXX");
	home = mkdtemp(folder) ? open(folder, O_RDONLY | O_DIRECTORY) : -1;
	return home < 0;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	close(home);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command); /* NOLINT(cert-env33-c) */
}

static void make_layer(unsigned index, uint8_t below, uint8_t self)
{
	struct cow_layer layer = {
		.size = DISK_SIZE, .below_size = DISK_SIZE, .block_size = COW_BLOCK_MIN};
	cleanup_close int fd = layers_fresh(home, index, &why);

	memset(layer.below_id, below, COW_ID_LEN);
	memset(layer.layer_id, self, COW_ID_LEN);
	assert_true(fd >= 0);
	assert_int_equal(cow_format(fd, &layer, &why), 0);
}

static void seal_layer(unsigned index)
{
	char name[32];

	snprintf(name, sizeof(name), "disk-%u.cow", index);
	cleanup_close int fd = openat(home, name, O_RDWR);
	assert_int_equal(cow_seal(fd, &why), 0);
}

static void layers__empty_folder__none(void **state)
{
	struct layers layers;

	(void)state;
	assert_int_equal(layers_open(&layers, home, &why), 0);
	assert_int_equal(layers.count, 0);
	layers_close(&layers);
}

static void layers__first_unsealed__is_the_top(void **state)
{
	struct layers layers;

	(void)state;
	make_layer(0, 9, 1);
	seal_layer(0);
	make_layer(1, 1, 2);
	seal_layer(1);
	make_layer(2, 2, 3);
	make_layer(3, 3, 4);
	assert_int_equal(layers_open(&layers, home, &why), 0);
	assert_int_equal(layers.count, 2);
	assert_int_equal(layers.size, DISK_SIZE);
	assert_int_equal(layers.id[1][0], 2);
	layers_close(&layers);
}

static void count_files(unsigned *blocks, unsigned *others)
{
	DIR *dir = dir_names(home);
	struct dirent *entry;

	*blocks = *others = 0;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			++*(strncmp(entry->d_name, "disk-", 5) ? others : blocks);
	closedir(dir);
}

/* One layer of many; what a killed one leaves of those below it counts for nothing; the next goes on with the numbers. */
static void layers_compact__many__one_with_the_name_of_the_top(void **state)
{
	struct layers layers;
	unsigned files, others;

	(void)state;
	for (unsigned i = 0; i <= LAYERS_DEEP; i++) {
		make_layer(i, i ? (uint8_t)i : 99, (uint8_t)(i + 1));
		seal_layer(i);
	}
	make_layer(LAYERS_DEEP + 1, LAYERS_DEEP + 1, 77);
	assert_int_equal(layers_compact(home, &why), 0);
	count_files(&files, &others);
	assert_int_equal(files, 2); /* it, and the top */
	assert_int_equal(others, 0);
	for (unsigned left = 0; left < 3;
	     left++) { /* killed after this many of those below were removed */
		for (unsigned i = left; left && i < LAYERS_DEEP; i++) {
			make_layer(i, i ? (uint8_t)i : 99, (uint8_t)(i + 1));
			seal_layer(i);
		}
		assert_int_equal(layers_open(&layers, home, &why), 0);
		assert_int_equal(layers.count, 1);
		assert_int_equal(layers.first, LAYERS_DEEP);
		assert_int_equal(layers.id[0][0], LAYERS_DEEP + 1);
		assert_int_equal(layers_top(&layers, home, &why), 0);
		layers_close(&layers);
	}
}

static void layers_compact__few__left_alone(void **state)
{
	struct layers layers;

	(void)state;
	for (unsigned i = 0; i < LAYERS_DEEP; i++) {
		make_layer(i, i ? (uint8_t)i : 99, (uint8_t)(i + 1));
		seal_layer(i);
	}
	assert_int_equal(layers_compact(home, &why), 0);
	assert_int_equal(layers_open(&layers, home, &why), 0);
	assert_int_equal(layers.count, LAYERS_DEEP);
	layers_close(&layers);
}

/* Damage is never taken for a top: the top is thrown away and made anew. */
static void layers__damaged__refused_and_kept(void **state)
{
	struct layers layers;
	char byte = 0x5a;

	(void)state;
	make_layer(0, 9, 1);
	seal_layer(0);
	make_layer(1, 1, 2);
	seal_layer(1);
	cleanup_close int fd = openat(home, "disk-1.cow", O_RDWR);
	assert_int_equal(pwrite(fd, &byte, 1, 40), 1);
	assert_int_equal(layers_open(&layers, home, &why), -EBADMSG);
	assert_string_equal(why.text, "disk-1.cow: disk layer's header is damaged: Bad message");
	assert_int_equal(ftruncate(fd, 0), 0); /* nothing of it is left, but for a layer above */
	make_layer(2, 2, 3);
	assert_int_equal(layers_open(&layers, home, &why), -EBADMSG);
	assert_int_equal(unlinkat(home, "disk-2.cow", 0), 0);
	assert_int_equal(layers_open(&layers, home, &why),
			 0); /* made for a capture that never came */
	assert_int_equal(layers.count, 1);
	layers_close(&layers);
}

static void layers_top__lies_on_the_last_sealed__and_is_private(void **state)
{
	struct cow_layer top;
	struct layers layers;
	struct stat st;

	(void)state;
	make_layer(0, 9, 1);
	seal_layer(0);
	make_layer(1, 1, 2); /* written to by a resume that did not come to pass */
	assert_int_equal(layers_open(&layers, home, &why), 0);
	assert_int_equal(layers_top(&layers, home, &why), 0);
	assert_int_equal(cow_open(layers.fd[1], &top, &why), 0);
	assert_false(top.sealed);
	assert_int_equal(top.below_id[0], 1);
	assert_int_not_equal(memcmp(top.layer_id, top.below_id, COW_ID_LEN), 0);
	assert_int_equal(top.size, DISK_SIZE);
	assert_int_equal(fstat(layers.fd[1], &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	layers_close(&layers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(layers__empty_folder__none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(layers__first_unsealed__is_the_top, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(layers_compact__many__one_with_the_name_of_the_top,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(layers_compact__few__left_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(layers__damaged__refused_and_kept, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(layers_top__lies_on_the_last_sealed__and_is_private,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
