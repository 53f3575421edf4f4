/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot with every one of its system calls failing, falling short, or being the last: the file is
 * complete or absent, what was there before is untouched, and nothing leaks.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fault.h"
#define PAGES 150u /* each system call is a run of its own */
#include "tests/unit/snap_rig.h"

#define NEVER UINT32_MAX

static struct {
	uint32_t countdown; /* calls until `act`; NEVER */
	int act;            /* -errno, FAULT_SHORT, or KILL */
	bool every;         /* from there on */
	bool no_tmpfile;    /* a file system without O_TMPFILE */
	uint32_t fired;
} fault = {.countdown = NEVER};

#define KILL 9999

int fault_point(const char *call)
{
	if (fault.no_tmpfile && !strcmp(call, "tmpfile"))
		return -EOPNOTSUPP;
	if (fault.countdown == NEVER)
		return 0;
	if (fault.act == FAULT_SHORT && strcmp(call, "write") != 0)
		return 0;
	if (fault.countdown && --fault.countdown)
		return 0;
	if (fault.fired && !fault.every)
		return 0;
	fault.fired++;
	if (fault.act == KILL)
		raise(SIGKILL);
	return fault.act;
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

struct way {
	const char *parent;
	enum snap_image_kind kind;
	enum snap_publish publish;
	bool no_tmpfile;
};

static const struct way ways[] = {
	{NULL, SNAP_IMAGE_FLAT, SNAP_NEW, false},
	{"base", SNAP_IMAGE_LZ4, SNAP_NEW, false},
	{"base", SNAP_IMAGE_PACKED, SNAP_NEW, true},
	{"base", SNAP_IMAGE_LZ4, SNAP_REPLACE, false},
	{"base", SNAP_IMAGE_PACKED, SNAP_REPLACE, true},
};

static int write_new(struct rig *t, const struct way *way, struct errmsg *why)
{
	struct snap_chain *parent =
		way->parent ? rig_open(t, way->parent, SNAP_CHAIN_NEEDED) : NULL;
	struct snap_written w;

	int err = rig_try(t, "new", parent, way->kind, way->publish, &w, why);
	snap_chain_close(parent);
	return err;
}

/* The base, and for a replacement something to replace. */
static void prepare(struct rig *t, const struct way *way)
{
	fault.countdown = NEVER;
	fault.fired = 0;
	fault.no_tmpfile = way->no_tmpfile;
	rig_scribble(t, PAGES);
	rig_write(t, "base", NULL, SNAP_IMAGE_PACKED);
	if (way->publish == SNAP_REPLACE)
		rig_write(t, "new", "base", SNAP_IMAGE_LZ4);
	rig_scribble(t, 80);
}

static bool exists(const struct rig *t, const char *name)
{
	return !faccessat(t->dir_fd, name, F_OK, 0);
}

/* Nothing half done: the base holds, and "new" is what it was, or complete. */
static void check_folder(struct rig *t, const struct way *way)
{
	bool there = exists(t, "new");

	assert_int_equal(rig_verify(t, "base"), 0);
	if (there)
		assert_int_equal(rig_verify(t, "new"), 0);
	if (way->publish == SNAP_REPLACE)
		assert_true(there);
	assert_int_equal(rig_count_files(t), 1 + there);
}

static void clean(struct rig *t)
{
	rig_each_file(t, rig_unlink_one);
}

static void sweep_errors(struct rig *t, const struct way *way, int error)
{
	struct errmsg why = {""};
	uint32_t n = 0;

	prepare(t, way);
	for (;;) {
		unsigned fds = open_fds();
		fault.countdown = ++n;
		fault.act = error;
		fault.fired = 0;
		int err = write_new(t, way, &why);
		fault.countdown = NEVER;
		if (!fault.fired)
			break;
		assert_int_equal(err, error);
		assert_int_equal(open_fds(), fds);
		if (way->publish == SNAP_NEW)
			assert_false(exists(t, "new"));
		check_folder(t, way);
	}
	assert_true(n > 8);
	rig_compare(t, "new", SNAP_CHAIN_ALL);
	check_folder(t, way);
	clean(t);
}

static void snap_image_write__each_call_fails__nothing_left(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		sweep_errors(*state, &ways[i], -ENOSPC);
		sweep_errors(*state, &ways[i], -EIO);
	}
}

static void snap_image_write__all_writes_short__complete(void **state)
{
	struct rig *t = *state;
	struct errmsg why = {""};

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		prepare(t, &ways[i]);
		fault.countdown = 1;
		fault.act = FAULT_SHORT;
		fault.every = true;
		must(write_new(t, &ways[i], &why), &why);
		assert_true(fault.fired > 8);
		fault.countdown = NEVER;
		fault.every = false;
		rig_compare(t, "new", SNAP_CHAIN_ALL);
		check_folder(t, &ways[i]);
		clean(t);
	}
}

static void snap_image_write__killed_at_each_call__complete_or_absent(void **state)
{
	struct rig *t = *state;
	unsigned kills = 0, left = 0;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		prepare(t, &ways[i]);
		for (uint32_t n = 1;; n++) {
			int status;
			pid_t child = fork();
			assert_true(child >= 0);
			if (!child) {
				fault.countdown = n;
				fault.act = KILL;
				_exit(write_new(t, &ways[i], NULL) ? 1 : 0);
			}
			assert_int_equal(waitpid(child, &status, 0), child);
			int swept = snap_image_sweep(t->dir_fd);
			assert_true(swept >= 0 && swept <= 1);
			left += (unsigned)swept;
			check_folder(t, &ways[i]);
			if (WIFEXITED(status)) {
				assert_int_equal(WEXITSTATUS(status), 0);
				break;
			}
			assert_int_equal(WTERMSIG(status), SIGKILL);
			kills++;
			if (ways[i].publish == SNAP_NEW && exists(t, "new"))
				assert_int_equal(unlinkat(t->dir_fd, "new", 0), 0);
		}
		rig_compare(t, "new", SNAP_CHAIN_ALL);
		clean(t);
	}
	print_message("%u kills, %u part files swept\n", kills, left);
	assert_true(kills > 50);
	assert_true(left > 10);
}

static void snap_image_sweep__held_or_foreign__left_alone(void **state)
{
	struct rig *t = *state;
	int held = openat(t->dir_fd, ".x.1.part", O_RDWR | O_CREAT, 0600);

	assert_int_equal(flock(held, LOCK_EX), 0);
	close(openat(t->dir_fd, ".y.1.part", O_RDWR | O_CREAT, 0600));
	close(openat(t->dir_fd, "z.part", O_RDWR | O_CREAT, 0600));
	assert_int_equal(snap_image_sweep(t->dir_fd), 1);
	assert_true(exists(t, ".x.1.part"));
	assert_false(exists(t, ".y.1.part"));
	assert_true(exists(t, "z.part"));
	close(held);
	assert_int_equal(snap_image_sweep(t->dir_fd), 1);
}

int main(void)
{
	rig_seed();
	const struct CMUnitTest tests[] = {
		rig_test(snap_image_write__each_call_fails__nothing_left),
		rig_test(snap_image_write__all_writes_short__complete),
		rig_test(snap_image_write__killed_at_each_call__complete_or_absent),
		rig_test(snap_image_sweep__held_or_foreign__left_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
