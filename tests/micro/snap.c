/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap.c - what snapshot files cost, each figure beside its floor, measured in the same run
 *
 * usage: snap FOLDER [ROUNDS]    FOLDER on the disk in question; needs 2.5 GiB there.  Prints a line a figure.
 *
 *   write   an increment: 1 GiB machine, 5 % dirty (what dynamic libraries hold), LZ4, until durable
 *           floor: the longer of compressing these bytes on one core, and writing and syncing the result
 *   size    of what it stores, to the same bytes in bare LZ4 blocks of 64 KiB; the index to the machine's memory
 *   wake    8 MiB in 2048 random pages of a 512 MiB flat file that is not in the page cache: a working set beside it
 *           floors: reading as many bytes as it has and decompressing them; and touching the mapped file
 *   depth   from a chain's files to a plan and every 64th page read: 1 and 8 ancestors, raw and merged into one
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "snapshot/image.h"
#include "snapshot/image_ws.h"
#include "vmm/memory.h"

#define PAGE        SNAP_PAGE_SIZE
#define BLOCK       SNAP_IMAGE_BLOCK
#define BIG_PAGES   (UINT64_C(1) << 18) /* 1 GiB */
#define SMALL_PAGES (UINT64_C(1) << 17) /* 512 MiB */
#define DIRTY       (BIG_PAGES / 20)
#define WS_PAGES    2048u
#define DEPTH       8u
#define ROUNDS_MAX  101u

static int dir_fd;
static unsigned rounds = 5;
static uint64_t seed = 88172645463325252u;
static uint8_t *content; /* DIRTY pages */

static void check(int err, const struct errmsg *why)
{
	if (!err)
		return;
	fprintf(stderr, "snap: %s\n", why->text);
	exit(1);
}

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static double median_ms(uint64_t *ns, unsigned count)
{
	qsort(ns, count, sizeof(*ns), by_value);
	return (double)ns[count / 2] / (double)NS_PER_MS;
}

/* What libraries hold: neither zeroes nor noise. */
static void fill_content(void)
{
	static const char folder[] = "/usr/lib/x86_64-linux-gnu";
	size_t have = 0, want = DIRTY * PAGE;
	DIR *dir = opendir(folder);
	struct dirent *entry;

	content = malloc(want);
	while (content && dir && have < want && (entry = readdir(dir))) {
		cleanup_close int fd = openat(dirfd(dir), entry->d_name, O_RDONLY);
		ssize_t n =
			strstr(entry->d_name, ".so") ? read(fd, content + have, want - have) : 0;
		have += n > 0 ? (size_t)n : 0;
	}
	if (dir)
		closedir(dir);
	for (size_t at = have; content && have && at < want; at += have)
		memcpy(content + at, content, want - at < have ? want - at : have);
	if (!content || !have) {
		fprintf(stderr, "snap: nothing to fill memory with in %s\n", folder);
		exit(77);
	}
}

/* --- write, size -------------------------------------------------------------------------------- */

/* Runs of 1 to 16 dirty pages all over, packed in a memory file, over what the parent has. */
static void dirty_plan(struct snap_plan *plan)
{
	uint64_t slot = 0, page = 0;

	*plan = (struct snap_plan){.fd = malloc(sizeof(int)), .source_count = 1};
	plan->fd[0] = memfd_create("dirty", MFD_CLOEXEC);
	if (pwrite(plan->fd[0], content, DIRTY * PAGE, 0) != (ssize_t)(DIRTY * PAGE))
		exit(1);
	while (page < BIG_PAGES) {
		struct snap_run gap = {.page = page, .count = 1 + rnd(300), .kind = SNAP_RUN_ZERO};
		if (gap.count > BIG_PAGES - page || slot == DIRTY)
			gap.count = BIG_PAGES - page;
		page += gap.count;
		struct snap_run run = {.page = page,
				       .count = 1 + rnd(16),
				       .kind = SNAP_RUN_MAP,
				       .off = slot * PAGE};
		if (run.count > BIG_PAGES - page)
			run.count = BIG_PAGES - page;
		if (run.count > DIRTY - slot)
			run.count = DIRTY - slot;
		page += run.count;
		slot += run.count;
		if (snap_runs_add(&plan->runs, &gap) || snap_runs_add(&plan->runs, &run))
			exit(1);
	}
}

static struct snap_written write_one(const char *name, const struct snap_plan *plan, uint64_t pages,
				     struct snap_chain *parent, enum snap_image_kind kind)
{
	struct snap_write cfg = {.dir_fd = dir_fd,
				 .name = name,
				 .publish = SNAP_REPLACE,
				 .kind = kind,
				 .cpus = 1,
				 .pages = pages,
				 .state = "state",
				 .state_len = 5,
				 .plan = plan,
				 .parent = parent};
	struct snap_written out;
	struct errmsg why;

	check(snap_image_write(&cfg, &out, &why), &why);
	return out;
}

/* Both stages by themselves.  Return: bytes that are left. */
static uint64_t bare_stages(uint64_t bytes, uint64_t *compress_ns, uint64_t *cpu_ns,
			    uint64_t *write_ns)
{
	uint8_t *to = malloc(bytes + BLOCK);
	uint64_t len = 0, began = clock_now(), used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	for (uint64_t at = 0; at < bytes; at += BLOCK) {
		int raw = (int)(bytes - at < BLOCK ? bytes - at : BLOCK);
		int n = LZ4_compress_default((char *)content + at, (char *)to + len, raw, raw);
		len += (uint64_t)(n > 0 ? n : raw);
	}
	*compress_ns = clock_now() - began;
	*cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - used;
	began = clock_now();
	cleanup_close int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR, 0600);
	if (write(fd, to, len) != (ssize_t)len || fdatasync(fd))
		exit(1);
	*write_ns = clock_now() - began;
	free(to);
	return len;
}

static void measure_write(void)
{
	uint64_t wall[ROUNDS_MAX], cpu[ROUNDS_MAX], compress[ROUNDS_MAX], writing[ROUNDS_MAX];
	uint64_t bare_cpu[ROUNDS_MAX], bare = 0;
	struct snap_plan empty = {.fd = NULL}, plan;
	const struct snap_run zero = {.count = BIG_PAGES, .kind = SNAP_RUN_ZERO};
	struct snap_chain *parent;
	struct snap_written w = {.stored = 0};
	struct errmsg why;

	check(snap_runs_add(&empty.runs, &zero), &why);
	write_one("base", &empty, BIG_PAGES, NULL, SNAP_IMAGE_FLAT);
	cleanup_close int fd = openat(dir_fd, "base", O_RDONLY);
	check(snap_chain_open(&parent, fd, snap_find_in_folder, &dir_fd, SNAP_CHAIN_ALL, &why),
	      &why);
	dirty_plan(&plan);
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t began = clock_now(), used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
		w = write_one("increment", &plan, BIG_PAGES, parent, SNAP_IMAGE_LZ4);
		wall[i] = clock_now() - began;
		cpu[i] = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - used;
		bare = bare_stages(w.stored * PAGE, &compress[i], &bare_cpu[i], &writing[i]);
	}
	double ms = median_ms(wall, rounds), c = median_ms(compress, rounds),
	       s = median_ms(writing, rounds);
	printf("write  %" PRIu64 " pages durable in %.1f ms; floor: compressing %.1f ms, writing "
	       "and syncing %.1f ms; %.2f of the longer; CPU %.1f ms, compressing alone %.1f ms\n",
	       w.stored, ms, c, s, ms / (c > s ? c : s), median_ms(cpu, rounds),
	       median_ms(bare_cpu, rounds));
	printf("size   %.1f MiB of %.1f, %.3f of bare LZ4; index %.4f %% of memory\n",
	       (double)w.mem_len / 1048576, (double)w.stored * PAGE / 1048576,
	       (double)w.mem_len / (double)bare,
	       100.0 * (double)w.index_len / (double)(BIG_PAGES * PAGE));
	snap_chain_close(parent);
	snap_plan_free(&plan);
	snap_plan_free(&empty);
}

/* --- wake --------------------------------------------------------------------------------------- */

static void full_plan(struct snap_plan *plan, uint64_t pages)
{
	uint64_t step = DIRTY;

	*plan = (struct snap_plan){.fd = malloc(sizeof(int)), .source_count = 1};
	plan->fd[0] = memfd_create("memory", MFD_CLOEXEC);
	for (uint64_t at = 0; at < pages; at += step) {
		uint64_t count = pages - at < step ? pages - at : step;
		if (pwrite(plan->fd[0], content, count * PAGE, (off_t)(at * PAGE)) < 0)
			exit(1);
	}
	struct snap_run all = {.count = pages, .kind = SNAP_RUN_MAP};
	if (snap_runs_add(&plan->runs, &all))
		exit(1);
}

static void make_cold(int fd)
{
	if (fdatasync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		exit(1);
}

static uint64_t touch_mapped(int fd, uint64_t mem_off, const snap_ws_page *list)
{
	volatile uint8_t sum = 0;
	uint64_t began = clock_now();
	const uint8_t *map =
		mmap(NULL, SMALL_PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, (off_t)mem_off);

	for (unsigned i = 0; i < WS_PAGES; i++)
		sum = (uint8_t)(sum + map[(uint64_t)list[i] * PAGE]);
	uint64_t took = clock_now() - began;
	munmap((void *)(uintptr_t)map, SMALL_PAGES * PAGE);
	return took;
}

static uint64_t fetch(int fd, const struct snap_image *image, uint8_t *mem)
{
	struct snap_ws *ws;
	struct errmsg why;
	uint64_t began = clock_now();

	check(snap_ws_open_file(&ws, fd, image, &why), &why);
	check(snap_ws_fetch(ws, mem, &why), &why);
	snap_ws_close(ws);
	return clock_now() - began;
}

/* The same file read, and as many bytes decompressed and put in their places. */
static uint64_t fetch_floor(int fd, size_t len, const uint8_t *packed, int packed_len, uint8_t *mem,
			    const snap_ws_page *list)
{
	static uint8_t block[BLOCK];
	uint8_t *bytes = malloc(len);
	uint64_t began = clock_now();

	if (!bytes || pread(fd, bytes, len, 0) != (ssize_t)len)
		exit(1);
	for (unsigned i = 0; i < WS_PAGES; i += 16) {
		LZ4_decompress_safe((const char *)packed, (char *)block, packed_len, BLOCK);
		for (unsigned k = 0; k < 16; k++)
			memcpy(mem + (uint64_t)list[i + k] * PAGE, block + k * PAGE, PAGE);
	}
	uint64_t took = clock_now() - began;
	free(bytes);
	return took;
}

static uint8_t *anonymous(void)
{
	return mmap(NULL, SMALL_PAGES * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void pick_pages(snap_ws_page *list)
{
	uint8_t *taken = calloc(1, SMALL_PAGES);

	for (unsigned i = 0; taken && i < WS_PAGES;) {
		uint64_t page = rnd(SMALL_PAGES);
		if (!taken[page])
			list[i++] = (snap_ws_page)page;
		taken[page] = 1;
	}
	free(taken);
}

/* As a load does it: the driver has the pages read all at once, and they are touched in a mapping of the plan. */
static uint64_t load_and_touch(int ws_fd, const struct snap_image *image,
			       const struct snap_plan *plan, uint8_t *room,
			       const snap_ws_page *list)
{
	volatile uint8_t sum = 0;
	struct errmsg why;
	uint64_t began = clock_now();

	check(snap_ws_warm_file(ws_fd, image, plan, &why), &why);
	check(memory_map(plan, room, SMALL_PAGES, &why), &why);
	for (unsigned i = 0; i < WS_PAGES; i++)
		sum = (uint8_t)(sum + room[(uint64_t)list[i] * PAGE]);
	return clock_now() - began;
}

static void measure_wake(void)
{
	uint64_t mapped[ROUNDS_MAX], laid[ROUNDS_MAX], fetched[ROUNDS_MAX], bare[ROUNDS_MAX];
	snap_ws_page list[WS_PAGES];
	struct snap_plan plan, where;
	struct snap_image_info info;
	struct snap_chain *chain;
	uint8_t *bytes, packed[BLOCK];
	struct errmsg why;
	size_t len;

	full_plan(&plan, SMALL_PAGES);
	write_one("flat", &plan, SMALL_PAGES, NULL, SNAP_IMAGE_FLAT);
	snap_plan_free(&plan);
	cleanup_close int fd = openat(dir_fd, "flat", O_RDONLY);
	check(snap_chain_open(&chain, fd, snap_find_in_folder, &dir_fd, SNAP_CHAIN_ALL, &why),
	      &why);
	check(snap_chain_plan(chain, &where, &why), &why);
	snap_image_info(snap_chain_head(chain), &info);
	pick_pages(list);
	check(snap_ws_make(chain, list, WS_PAGES, &info.self, &bytes, &len, &why), &why);
	check(snap_ws_write(dir_fd, "flat.ws", bytes, len, &why), &why);
	free(bytes);
	cleanup_close int ws_fd = openat(dir_fd, "flat.ws", O_RDONLY);
	int packed_len = LZ4_compress_default((char *)content, (char *)packed, BLOCK, BLOCK);
	for (unsigned i = 0; i < rounds; i++) {
		uint8_t *mem = anonymous(), *floor_mem = anonymous();
		make_cold(fd);
		mapped[i] = touch_mapped(fd, where.runs.run[0].off, list);
		make_cold(ws_fd);
		fetched[i] = fetch(ws_fd, snap_chain_head(chain), mem);
		make_cold(ws_fd);
		bare[i] = fetch_floor(ws_fd, len, packed, packed_len, floor_mem, list);
		make_cold(fd);
		make_cold(ws_fd);
		laid[i] = load_and_touch(ws_fd, snap_chain_head(chain), &where, mem, list);
		munmap(mem, SMALL_PAGES * PAGE);
		munmap(floor_mem, SMALL_PAGES * PAGE);
	}
	double f = median_ms(fetched, rounds), m = median_ms(mapped, rounds),
	       b = median_ms(bare, rounds);
	printf("wake   %u pages from a working set in %.1f ms; floor %.1f ms, %.2f of it; mapped "
	       "%.1f ms, %.1f times as long\n",
	       WS_PAGES, f, b, f / b, m, m / f);
	double l = median_ms(laid, rounds);
	printf("wake   the same read at once behind the mapping of a load: %.1f ms; mapped %.1f "
	       "times as "
	       "long\n",
	       l, m / l);
	snap_chain_close(chain);
	snap_plan_free(&where);
}

/* --- depth -------------------------------------------------------------------------------------- */

static uint64_t plan_and_read(const char *name)
{
	volatile uint8_t sum = 0;
	struct snap_chain *chain;
	struct snap_plan plan;
	struct errmsg why;
	uint64_t began = clock_now();
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY);

	check(snap_chain_open(&chain, fd, snap_find_in_folder, &dir_fd, SNAP_CHAIN_NEEDED, &why),
	      &why);
	check(snap_chain_plan(chain, &plan, &why), &why);
	for (size_t i = 0; i < plan.runs.count; i++) {
		const struct snap_run *run = &plan.runs.run[i];
		if (run->kind != SNAP_RUN_MAP)
			continue;
		const uint8_t *map = mmap(NULL, run->count * PAGE, PROT_READ, MAP_PRIVATE,
					  plan.fd[run->source], (off_t)run->off);
		for (uint64_t p = 0; p < run->count; p += 64)
			sum = (uint8_t)(sum + map[p * PAGE]);
		munmap((void *)(uintptr_t)map, run->count * PAGE);
	}
	snap_plan_free(&plan);
	snap_chain_close(chain);
	return clock_now() - began;
}

/* 64 clusters of 16 pages over what was there. */
static void add_link(const char *name, const char *parent_name)
{
	struct snap_plan plan = {.fd = malloc(sizeof(int)), .source_count = 1};
	struct snap_chain *parent;
	struct errmsg why;
	uint64_t step = SMALL_PAGES / 64, shift = rnd(step - 16);
	cleanup_close int fd = openat(dir_fd, parent_name, O_RDONLY);

	check(snap_chain_open(&parent, fd, snap_find_in_folder, &dir_fd, SNAP_CHAIN_NEEDED, &why),
	      &why);
	plan.fd[0] = memfd_create("dirty", MFD_CLOEXEC);
	if (pwrite(plan.fd[0], content + rnd(DIRTY / 2) * PAGE, 64 * 16 * PAGE, 0) < 0)
		exit(1);
	for (unsigned i = 0; i < 64; i++) {
		struct snap_run before = {.page = i * step, .count = shift, .kind = SNAP_RUN_MAP},
				run = {.page = i * step + shift,
				       .count = 16,
				       .kind = SNAP_RUN_MAP,
				       .off = UINT64_C(16) * i * PAGE},
				after = {.page = run.page + 16,
					 .count = step - shift - 16,
					 .kind = SNAP_RUN_MAP};
		before.source = after.source = 1; /* what the parent has: not looked at */
		before.off = after.off = 0;
		if (snap_runs_add(&plan.runs, &before) || snap_runs_add(&plan.runs, &run) ||
		    snap_runs_add(&plan.runs, &after))
			exit(1);
	}
	plan.fd = realloc(plan.fd, 2 * sizeof(int));
	plan.fd[1] = memfd_create("parent", MFD_CLOEXEC);
	if (ftruncate(plan.fd[1], (off_t)(SMALL_PAGES * PAGE)))
		exit(1);
	plan.source_count = 2;
	write_one(name, &plan, SMALL_PAGES, parent, SNAP_IMAGE_PACKED);
	snap_plan_free(&plan);
	snap_chain_close(parent);
}

static void measure_depth(void)
{
	static const char *const names[DEPTH + 1] = {"flat",  "link1", "link2", "link3", "link4",
						     "link5", "link6", "link7", "link8"};
	uint64_t one[ROUNDS_MAX], many[ROUNDS_MAX], merged[ROUNDS_MAX];
	struct snap_chain *chain;
	struct snap_written out;
	struct errmsg why;

	for (unsigned i = 1; i <= DEPTH; i++)
		add_link(names[i], names[i - 1]);
	cleanup_close int fd = openat(dir_fd, names[DEPTH], O_RDONLY);
	check(snap_chain_open(&chain, fd, snap_find_in_folder, &dir_fd, SNAP_CHAIN_ALL, &why),
	      &why);
	uint64_t began = clock_now();
	check(snap_chain_flatten(chain, dir_fd, "merged", SNAP_IMAGE_FLAT, SNAP_REPLACE, &out,
				 &why),
	      &why);
	double once = (double)(clock_now() - began) / (double)NS_PER_MS;
	snap_chain_close(chain);
	for (unsigned i = 0; i < rounds; i++) {
		one[i] = plan_and_read(names[1]);
		many[i] = plan_and_read(names[DEPTH]);
		merged[i] = plan_and_read("merged");
	}
	double o = median_ms(one, rounds), m = median_ms(many, rounds),
	       f = median_ms(merged, rounds);
	printf("depth  1: %.2f ms; %u: %.2f ms, %.2f of it; merged: %.2f ms, %.2f (once: %.0f "
	       "ms)\n",
	       o, DEPTH, m, m / o, f, f / o, once);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s FOLDER [ROUNDS]\n", argv[0]);
		return 2;
	}
	dir_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		perror(argv[1]);
		return 2;
	}
	if (argc > 2)
		rounds = (unsigned)strtoul(argv[2], NULL, 10);
	rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
	fill_content();
	measure_write();
	measure_wake();
	measure_depth();
	return 0;
}
