/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"

/* A caller's runs are ours, under names that the library may show. */
#define SAME_FIELD(name)                                                                    \
	_Static_assert(offsetof(struct vmm_run, name) == offsetof(struct snap_run, name) && \
			       sizeof(((struct vmm_run *)0)->name) ==                       \
				       sizeof(((struct snap_run *)0)->name),                \
		       "vmm_run." #name)
SAME_FIELD(page);
SAME_FIELD(count);
SAME_FIELD(source);
SAME_FIELD(kind);
SAME_FIELD(off);
_Static_assert(sizeof(struct vmm_run) == sizeof(struct snap_run), "vmm_run");
_Static_assert((int)VMM_RUN_MAP == (int)SNAP_RUN_MAP && (int)VMM_RUN_ZERO == (int)SNAP_RUN_ZERO,
	       "vmm_run_kind");
_Static_assert((int)VMM_RUN_LAZY == (int)SNAP_RUN_LAZY, "vmm_run_kind");

/*
 * A mapping costs a system call and an entry that every fault searches; a copied page costs a page.  Fewer pages
 * than this are copied, and all that is left once there are SNAP_MAPS_MAX mappings.
 */
#define MAP_PAGES_MIN 16u

int memory_add_source(struct snap_plan *plan, int fd)
{
	if (plan->source_count == SNAP_SOURCES_MAX)
		return -E2BIG;
	int *more = realloc(plan->fd, (plan->source_count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	plan->fd = more;
	plan->fd[plan->source_count] = fd;
	return (int)plan->source_count++;
}

static int keep_source(struct snap_plan *to, int from)
{
	cleanup_close int fd = fcntl(from, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	int index = memory_add_source(to, fd);
	if (index < 0)
		return index;
	steal_fd(&fd);
	return 0;
}

static int keep_run(struct snap_plan *to, struct snap_runs *lazy, struct snap_run run)
{
	int err = 0;

	if (run.kind == SNAP_RUN_LAZY) {
		err = snap_runs_add(lazy, &run);
		run.kind = SNAP_RUN_ZERO;
	}
	return err ? err : snap_runs_add(&to->runs, &run);
}

int memory_keep(struct snap_plan *to, struct snap_runs *lazy, const struct vmm_memory *from,
		uint64_t pages, struct errmsg *why)
{
	int err = from->run_count > SNAP_RUNS_MAX ? -E2BIG : 0;

	for (uint32_t i = 0; !err && i < from->fd_count; i++)
		err = keep_source(to, from->fd[i]);
	for (uint64_t i = 0; !err && i < from->run_count; i++)
		err = keep_run(to, lazy, *(const struct snap_run *)&from->run[i]);
	if (err)
		return err_set(why, err, "memory: its plan");
	return snap_plan_check(to, pages, SNAP_RUNS_MAX, why);
}

/* --- in place ----------------------------------------------------------------------------------- */

static int copy_in(int fd, uint8_t *to, uint64_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO; /* shorter than it was a moment ago */
		to += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int put_run(const struct snap_plan *plan, const struct snap_run *run, uint8_t *to,
		   unsigned *maps)
{
	const int access = PROT_READ | PROT_WRITE, how = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
	uint64_t len = run->count * SNAP_PAGE_SIZE;

	if (run->kind == SNAP_RUN_ZERO)
		return 0;
	if (run->count < MAP_PAGES_MIN || *maps == SNAP_MAPS_MAX)
		return copy_in(plan->fd[run->source], to, len, run->off);
	(*maps)++;
	void *at = mmap(to, len, access, how, plan->fd[run->source], (off_t)run->off);
	return at == to ? 0 : -errno;
}

/* Zeroes lie under everything, unless one file is all there is. */
static bool needs_zeroes(const struct snap_runs *runs)
{
	return runs->count != 1 || runs->run[0].kind != SNAP_RUN_MAP;
}

int memory_map(const struct snap_plan *plan, void *map, uint64_t pages, struct errmsg *why)
{
	const int access = PROT_READ | PROT_WRITE;
	const int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
	const struct snap_runs *runs = &plan->runs;
	unsigned maps = 0;

	if (needs_zeroes(runs) && mmap(map, pages * SNAP_PAGE_SIZE, access, how, -1, 0) != map)
		return err_set(why, errno, "memory: %llu pages", (unsigned long long)pages);
	for (size_t i = 0; i < runs->count; i++) {
		const struct snap_run *run = &runs->run[i];
		int err = put_run(plan, run, (uint8_t *)map + run->page * SNAP_PAGE_SIZE, &maps);
		if (err)
			return err_set(why, err, "memory: run %zu of %zu", i, runs->count);
	}
	madvise(map, pages * SNAP_PAGE_SIZE, MADV_DONTDUMP);
	return 0;
}

/* --- what has changed --------------------------------------------------------------------------- */

static int region_holes(struct snap_runs *to, const struct gmem *gm, unsigned index, uint64_t first)
{
	uint64_t pages = gm->region[index].size / SNAP_PAGE_SIZE;
	int err = 0;

	for (uint64_t page = 0; !err && page < pages; page++) {
		const struct snap_run hole = {
			.page = first + page, .count = 1, .kind = SNAP_RUN_ZERO};
		if (gm_is_hole(gm, index, page))
			err = snap_runs_add(to, &hole);
	}
	return err;
}

int memory_holes(struct snap_runs *to, const struct gmem *gm)
{
	uint64_t first = 0;
	int err = 0;

	for (unsigned i = 0; !err && i < gm->count; i++) {
		const struct gm_holes *holes = gm->region[i].holes;
		if (holes && holes->count)
			err = region_holes(to, gm, i, first);
		first += gm->region[i].size / SNAP_PAGE_SIZE;
	}
	return err;
}

/* The pages of a list, from byte `off` of the file on, over what there is in `runs`. */
static int overlay_pages(struct snap_runs *runs, const struct anon *pages, uint32_t source,
			 uint64_t off)
{
	struct snap_runs over = {.run = NULL}, out = {.run = NULL};
	int err = 0;

	for (size_t i = 0; !err && i < pages->count; i++) {
		const struct snap_run run = {.page = pages->run[i].page,
					     .count = pages->run[i].count,
					     .source = source,
					     .kind = SNAP_RUN_MAP,
					     .off = off};
		err = snap_runs_add(&over, &run);
		off += run.count * SNAP_PAGE_SIZE;
	}
	if (!err)
		err = snap_runs_overlay(&out, runs, &over);
	snap_runs_free(&over);
	snap_runs_free(runs);
	*runs = out;
	return err;
}

int memory_changed(struct snap_runs *to, const struct snap_runs *base,
		   const struct memory_change *change)
{
	int err = snap_runs_overlay(to, base, change->holes);

	if (!err)
		err = overlay_pages(to, change->written, change->source, 0);
	if (!err)
		err = overlay_pages(to, change->again, change->source,
				    change->written->pages * SNAP_PAGE_SIZE);
	return err;
}
