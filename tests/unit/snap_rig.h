/* SPDX-License-Identifier: Apache-2.0 */
/* snap_rig.h - a folder of snapshots, the memory of a machine as a plain array of pages, and comparing the two */
#ifndef SPORE_TESTS_UNIT_SNAP_RIG_H
#define SPORE_TESTS_UNIT_SNAP_RIG_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "snapshot/image.h"

#ifndef PAGES
#define PAGES 1200u /* not a multiple of a block, a word or a group */
#endif

struct rig {
	char path[64];
	int dir_fd, copy_fd;
	uint8_t mem[PAGES][SNAP_PAGE_SIZE];
	bool dirty[PAGES]; /* since the last write */
	bool gone[PAGES];  /* given back: the plan says zero */
	const char *lie;   /* what rig_find() gives instead */
	uint8_t *ws;       /* goes into what is written */
	size_t ws_len;
};

static uint64_t seed;
static const uint8_t rig_state[] = "the state of a machine, as far as this file is concerned";

static inline uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static inline void rig_seed(void)
{
	const char *given = getenv("SEED");
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	print_message("SEED=%#llx\n", (unsigned long long)seed);
}

static inline void must(int err, const struct errmsg *why)
{
	if (err)
		fail_msg("%d: %s", err, why->text);
}

static inline int rig_setup(void **state)
{
	struct rig *t = calloc(1, sizeof(*t));

	/* Memory where there is some to be had: a disk's fdatasync() is most of the time. */
	snprintf(t->path, sizeof(t->path), "%s/snap-test-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	assert_non_null(mkdtemp(t->path));
	t->dir_fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t->copy_fd = memfd_create("copy", MFD_CLOEXEC);
	assert_true(t->dir_fd >= 0 && t->copy_fd >= 0);
	*state = t;
	return 0;
}

typedef void rig_on_file(struct rig *t, const char *name, unsigned *count);

static inline unsigned rig_each_file(struct rig *t, rig_on_file *on)
{
	DIR *dir = opendir(t->path);
	struct dirent *entry;
	unsigned count = 0;

	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			on(t, entry->d_name, &count);
	closedir(dir);
	return count;
}

static inline void rig_count_one(struct rig *t, const char *name, unsigned *count)
{
	(void)t, (void)name;
	++*count;
}

static inline unsigned rig_count_files(struct rig *t)
{
	return rig_each_file(t, rig_count_one);
}

static inline void rig_unlink_one(struct rig *t, const char *name, unsigned *count)
{
	assert_int_equal(unlinkat(t->dir_fd, name, 0), 0);
	++*count;
}

static inline int rig_teardown(void **state)
{
	struct rig *t = *state;

	rig_each_file(t, rig_unlink_one);
	rmdir(t->path);
	close(t->dir_fd);
	close(t->copy_fd);
	free(t);
	return 0;
}

#define rig_test(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

/* Fills a page with what compresses, or not. */
static inline void rig_fill(struct rig *t, unsigned page, uint64_t what)
{
	uint64_t *word = (void *)t->mem[page];
	uint64_t mix = what * 0x9e3779b97f4a7c15u + 1;

	for (unsigned i = 0; i < SNAP_PAGE_SIZE / 8; i++) {
		if (what & 1)
			mix = mix * 6364136223846793005u + 1442695040888963407u;
		word[i] = mix;
	}
	t->dirty[page] = true;
}

static inline void rig_scribble(struct rig *t, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned page = (unsigned)rnd(PAGES), kind = (unsigned)rnd(8);
		if (rnd(2)) /* clusters */
			page = (unsigned)(page / 64 * 64 + rnd(64)) % PAGES;
		if (kind < 5) {
			rig_fill(t, page, rnd(1u << 30));
			t->gone[page] = false;
		} else if (kind == 5) { /* zero, written by the guest */
			memset(t->mem[page], 0, SNAP_PAGE_SIZE);
			t->gone[page] = false;
		} else if (kind == 6) { /* given back */
			memset(t->mem[page], 0, SNAP_PAGE_SIZE);
			t->gone[page] = true;
		}
		t->dirty[page] = true; /* 7: touched, not changed */
	}
}

static inline int rig_fd(struct rig *t, const char *name)
{
	int fd = openat(t->dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", name, strerror(errno));
	return fd;
}

/* The store: every file of the folder is asked who it is. */
static inline int rig_find(void *arg, const uint8_t id[SNAP_ID_LEN])
{
	struct rig *t = arg;
	struct snap_image_header h;
	DIR *dir = opendir(t->path);
	struct dirent *entry;
	int found = -ENOENT;

	if (t->lie) {
		closedir(dir);
		return rig_fd(t, t->lie);
	}
	while (found < 0 && (entry = readdir(dir))) {
		int fd = openat(t->dir_fd, entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && pread(fd, &h, sizeof(h), 0) == sizeof(h) &&
		    !memcmp(h.id, id, SNAP_ID_LEN))
			found = fd;
		else if (fd >= 0)
			close(fd);
	}
	closedir(dir);
	return found;
}

static inline struct snap_chain *rig_open(struct rig *t, const char *name,
					  enum snap_chain_depth depth)
{
	struct snap_chain *chain = NULL;
	struct errmsg why = {""};
	int fd = rig_fd(t, name);

	must(snap_chain_open(&chain, fd, rig_find, t, depth, &why), &why);
	close(fd);
	return chain;
}

static inline int rig_verify(struct rig *t, const char *name)
{
	struct errmsg why = {""};
	int fd = rig_fd(t, name), err = snap_chain_verify(fd, rig_find, t, &why);

	close(fd);
	if (err)
		print_message("%s\n", why.text);
	return err;
}

/* As a VMM hands it over: source 0 is what lay there before, source 1 the dirty pages in a row. */
static inline void rig_plan(struct rig *t, struct snap_plan *plan)
{
	plan->fd = malloc(2 * sizeof(int));
	plan->fd[0] = memfd_create("before", MFD_CLOEXEC);
	plan->fd[1] = memfd_create("dirty", MFD_CLOEXEC);
	plan->source_count = 2;
	uint64_t slot = 0;

	/* Source 0 has garbage where pages are dirty: nobody may look there. */
	assert_int_equal(pwrite(plan->fd[0], t->mem, sizeof(t->mem), 0), sizeof(t->mem));
	for (unsigned p = 0; p < PAGES; p++) {
		struct snap_run run = {.page = p, .count = 1, .kind = SNAP_RUN_MAP};
		if (t->gone[p])
			run.kind = SNAP_RUN_ZERO;
		else if (!t->dirty[p])
			run.off = (uint64_t)p * SNAP_PAGE_SIZE;
		else {
			uint8_t garbage[SNAP_PAGE_SIZE];
			memset(garbage, 0xdb, sizeof(garbage));
			run.source = 1;
			run.off = slot++ * SNAP_PAGE_SIZE;
			assert_int_equal(
				pwrite(plan->fd[1], t->mem[p], SNAP_PAGE_SIZE, (off_t)run.off),
				SNAP_PAGE_SIZE);
			assert_int_equal(pwrite(plan->fd[0], garbage, SNAP_PAGE_SIZE,
						(off_t)p * SNAP_PAGE_SIZE),
					 SNAP_PAGE_SIZE);
		}
		assert_int_equal(snap_runs_add(&plan->runs, &run), 0);
	}
}

static inline int rig_try(struct rig *t, const char *name, struct snap_chain *parent,
			  enum snap_image_kind kind, enum snap_publish publish,
			  struct snap_written *w, struct errmsg *why)
{
	static const uint8_t layer[] = "layer 1 of two..layer 2 of two..";
	const struct snap_disk disks[2] = {
		{.drive = "rootfs", .generation = 7, .layer = layer, .layer_count = 2},
		{.drive = "data"}};
	struct snap_plan plan = {.fd = NULL};
	struct snap_write cfg = {.dir_fd = t->dir_fd,
				 .name = name,
				 .publish = publish,
				 .kind = kind,
				 .cpus = 2,
				 .pages = PAGES,
				 .state = rig_state,
				 .state_len = sizeof(rig_state),
				 .plan = &plan,
				 .diff_from = 1,
				 .parent = parent,
				 .disks = disks,
				 .disk_count = 2,
				 .meta = "{\"a\":1}",
				 .meta_len = 7,
				 .ws = t->ws,
				 .ws_len = t->ws_len};

	rig_plan(t, &plan);
	int err = snap_image_write(&cfg, w, why);
	snap_plan_free(&plan);
	return err;
}

static inline struct snap_written rig_write(struct rig *t, const char *name, const char *parent,
					    enum snap_image_kind kind)
{
	struct snap_chain *chain = parent ? rig_open(t, parent, SNAP_CHAIN_NEEDED) : NULL;
	struct snap_written w;
	struct errmsg why = {""};

	must(rig_try(t, name, chain, kind, SNAP_NEW, &w, &why), &why);
	snap_chain_close(chain);
	memset(t->dirty, 0, sizeof(t->dirty));
	return w;
}

static inline void rig_compare(struct rig *t, const char *name, enum snap_chain_depth depth)
{
	struct snap_chain *chain = rig_open(t, name, depth);
	uint8_t page[SNAP_PAGE_SIZE];
	struct errmsg why = {""};

	for (unsigned p = 0; p < PAGES; p++) {
		must(snap_chain_read(chain, p, page, &why), &why);
		if (memcmp(page, t->mem[p], sizeof(page)) != 0)
			fail_msg("%s: page %u differs", name, p);
	}
	snap_chain_close(chain);
}

/* What a VMM would map. */
static inline void rig_compare_plan(struct rig *t, const char *name)
{
	static const uint8_t zero[SNAP_PAGE_SIZE];
	struct snap_chain *chain = rig_open(t, name, SNAP_CHAIN_NEEDED);
	struct snap_plan plan = {.fd = NULL};
	struct errmsg why = {""};

	must(snap_chain_plan(chain, &plan, &why), &why);
	snap_chain_close(chain);
	must(snap_plan_check(&plan, PAGES, SNAP_MAPS_MAX, &why), &why);
	for (size_t i = 0; i < plan.runs.count; i++) {
		const struct snap_run *run = &plan.runs.run[i];
		uint64_t len = run->count * SNAP_PAGE_SIZE;
		const uint8_t *map = run->kind == SNAP_RUN_ZERO
					     ? NULL
					     : mmap(NULL, len, PROT_READ, MAP_PRIVATE,
						    plan.fd[run->source], (off_t)run->off);
		assert_true(map != MAP_FAILED);
		for (uint64_t p = 0; p < run->count; p++)
			assert_memory_equal(map ? map + p * SNAP_PAGE_SIZE : zero,
					    t->mem[run->page + p], SNAP_PAGE_SIZE);
		if (run->kind == SNAP_RUN_MAP)
			munmap((void *)(uintptr_t)map, len);
	}
	snap_plan_free(&plan);
}

#endif
