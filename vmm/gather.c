/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gather.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/memory.h"

#define PAGE SNAP_PAGE_SIZE

/* Room that is made before the pause beyond what was written by then: the guest goes on meanwhile. */
#define SLACK_PAGES 256u

int gather_create(struct gather *g, struct errmsg *why)
{
	*g = (struct gather){.fd = -1, .again.fd = -1};
	return anon_open(&g->first, why);
}

void gather_destroy(struct gather *g)
{
	gather_forget(g);
	anon_close(&g->first);
	anon_close(&g->again);
	snap_runs_free(&g->holes);
}

void gather_forget(struct gather *g)
{
	if (g->map)
		munmap(g->map, g->bytes);
	if (g->fd >= 0)
		close(g->fd);
	g->map = NULL;
	g->fd = -1;
	g->first.count = g->again.count = g->holes.count = 0;
	g->first.pages = g->again.pages = 0;
}

uint64_t gather_count(const struct gather *g)
{
	return g->first.pages + g->again.pages;
}

/* --- one page or many --------------------------------------------------------------------------- */

static void copy_pages(struct gather *g, const struct vmm *m, uint64_t slot, uint64_t page,
		       uint64_t count)
{
	memcpy(g->map + slot * PAGE, (const uint8_t *)m->ram.map + page * PAGE, count * PAGE);
}

static void copy_first(struct gather *g, const struct vmm *m)
{
	uint64_t slot = 0;

	for (size_t i = 0; i < g->first.count; i++) {
		const struct anon_run *run = &g->first.run[i];
		copy_pages(g, m, slot, run->page, run->count);
		slot += run->count;
	}
}

/* Where dirty pages go, asked for in rising order: a walk along `first`. */
struct again {
	struct gather *g;
	const struct vmm *m;
	size_t at;     /* run of `first` that may hold the next page */
	uint64_t slot; /* of that run's first page */
};

static int copy_again(void *arg, uint64_t page)
{
	struct again *a = arg;
	const struct anon *first = &a->g->first;

	while (a->at < first->count && first->run[a->at].page + first->run[a->at].count <= page)
		a->slot += first->run[a->at++].count;
	if (a->at < first->count && first->run[a->at].page <= page) {
		copy_pages(a->g, a->m, a->slot + page - first->run[a->at].page, page, 1);
		return 0;
	}
	copy_pages(a->g, a->m, gather_count(a->g), page, 1);
	return anon_add(&a->g->again, page, 1);
}

/* --- before, in and behind the pause -------------------------------------------------------------- */

static int find_written(struct gather *g, const struct vmm *m, const struct dirty *dirty,
			enum gather_what what, struct errmsg *why)
{
	int err = anon_scan(&g->first, m->ram.map, m->ram.size / PAGE, why);

	if (!err && what == GATHER_SINCE_KEPT && dirty_narrow(dirty, &g->first))
		err = err_set(why, ENOMEM, "memory of a capture");
	return err;
}

/* A file as large as can be, with pages for `ready` of them. */
static int make_room(struct gather *g, const struct vmm *m, uint64_t ready, struct errmsg *why)
{
	uint64_t pages = m->ram.size / PAGE;
	cleanup_close int fd = memfd_create("guest-changes", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)m->ram.size))
		return err_set(why, errno, "memory of a capture");
	void *map =
		mmap(NULL, m->ram.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return err_set(why, errno, "memory of a capture");
	madvise(map, (ready < pages ? ready : pages) * PAGE, MADV_POPULATE_WRITE);
	g->fd = steal_fd(&fd);
	g->map = map;
	g->bytes = m->ram.size;
	return 0;
}

int gather_before(struct gather *g, struct vmm *m, struct dirty *dirty, enum gather_what what,
		  struct errmsg *why)
{
	dirty_lost(dirty); /* of the last capture, if nobody said that it is safe */
	int err = dirty_harvest(dirty, m, why);
	if (!err)
		err = find_written(g, m, dirty, what, why);
	if (!err && (anon_reserve(&g->first, 2 * g->first.count + SLACK_PAGES) ||
		     anon_reserve(&g->again, SLACK_PAGES)))
		err = err_set(why, ENOMEM, "memory of a capture");
	if (!err)
		err = make_room(g, m, g->first.pages + g->first.pages / 16 + SLACK_PAGES, why);
	g->early = !err && dirty->on;
	if (g->early) {
		dirty_take(dirty); /* what is pending from here on was written again */
		copy_first(g, m);
	}
	return err;
}

int gather_paused(struct gather *g, struct vmm *m, struct dirty *dirty, enum gather_what what,
		  struct errmsg *why)
{
	struct again again = {.g = g, .m = m};

	int err = dirty_harvest(dirty, m, why);
	if (!err && g->early)
		err = dirty_each(dirty, copy_again, &again);
	else if (!err)
		err = find_written(g, m, dirty, what, why);
	if (!err && !g->early)
		copy_first(g, m);
	if (!err)
		err = memory_holes(&g->holes, &m->gm);
	if (err)
		return err_set(why, err, "memory of a capture");
	dirty_take(dirty);
	return 0;
}

int gather_behind(struct gather *g, struct errmsg *why)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

	munmap(g->map, g->bytes);
	g->map = NULL;
	if (ftruncate(g->fd, (off_t)(gather_count(g) * PAGE)) || fcntl(g->fd, F_ADD_SEALS, seals))
		return err_set(why, errno, "memory of a capture: seal");
	return 0;
}
