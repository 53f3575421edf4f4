/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - where the pages of a machine's memory lie: runs of pages over descriptors
 *
 * Pages are counted in the machine's RAM without the gap for devices: page n lies at byte n * 4096 of the memfd
 * of a machine that was booted here.  A plan covers each page of the machine once, in order.  The runs also
 * travel between processes as an array of struct snap_run (wire/ctl.h): little-endian, checked by who takes them.
 *
 * Thread: any; one caller an object.
 */
#ifndef SPORE_SNAPSHOT_PLAN_H
#define SPORE_SNAPSHOT_PLAN_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SNAP_PAGE_SIZE   4096u
#define SNAP_PAGES_MAX   (UINT64_C(1) << 28) /* 1 TiB */
#define SNAP_RUNS_MAX    (UINT64_C(1) << 24) /* of a capture: 512 MiB of runs */
#define SNAP_MAPS_MAX    4096u /* of a plan that is mapped: far below vm.max_map_count, 65530 */
#define SNAP_SOURCES_MAX 760u  /* what travels beside one request (CTL_FDS_MAX), and room */

enum snap_run_kind {
	SNAP_RUN_MAP = 1,  /* `count` pages of a source from byte `off` on, mapped privately */
	SNAP_RUN_ZERO = 2, /* anonymous; source and off are 0 */
	SNAP_RUN_LAZY =
		3, /* in a load only: comes from a pager (pager.h) when touched; source and off are 0 */
};

struct snap_run {
	uint64_t page, count;
	uint32_t source;
	uint32_t kind; /* enum snap_run_kind */
	uint64_t off;  /* bytes, a multiple of the page size */
};
static_assert(sizeof(struct snap_run) == 32, "struct snap_run");
static_assert(offsetof(struct snap_run, source) == 16, "snap_run.source");
static_assert(offsetof(struct snap_run, off) == 24, "snap_run.off");

/* A list that grows, its neighbours joined where they can be. */
struct snap_runs {
	struct snap_run *run;
	size_t count, cap;
};

struct snap_plan {
	struct snap_runs runs;
	int *fd; /* the sources, owned */
	uint32_t source_count;
};

void snap_runs_free(struct snap_runs *runs);

/* snap_runs_add() - append; joins the last run when this one goes on where it ends.  0 or -ENOMEM. */
int snap_runs_add(struct snap_runs *runs, const struct snap_run *run)
	__attribute__((warn_unused_result));

/*
 * snap_runs_overlay() - `over` where it has something, else `base`
 * @out: empty.  Both are in order and without overlap; `over` may have gaps.
 * Return: 0 or -ENOMEM.
 */
int snap_runs_overlay(struct snap_runs *out, const struct snap_runs *base,
		      const struct snap_runs *over) __attribute__((warn_unused_result));

/* The run that holds `page`, or NULL.  Logarithmic. */
const struct snap_run *snap_runs_find(const struct snap_runs *runs, uint64_t page);

/*
 * snap_runs_read() - a private copy of an array of runs that another process has put into a file
 * Return: 0; -EBADMSG too many or cut short; -errno.  What the runs say is not checked yet.
 */
int snap_runs_read(struct snap_runs *out, int fd, uint64_t count, struct errmsg *why)
	__attribute__((warn_unused_result));

/* The runs as a sealed memory file, for another process.  Return: a descriptor or -errno. */
int snap_runs_fd(const struct snap_runs *runs, struct errmsg *why);

/*
 * snap_plan_check() - refuse a plan that does not cover `pages` pages, each once and in order, from inside the
 * sources
 * @runs_max: SNAP_MAPS_MAX for a plan that will be mapped, SNAP_RUNS_MAX for one that is written to a file
 * Sources must be regular files (memory files are).  One that shrinks afterwards is not seen: who maps must ask for
 * sealed memory files, or own the folder.
 * Return: 0; -EBADMSG with what is wrong; -errno.
 */
int snap_plan_check(const struct snap_plan *plan, uint64_t pages, uint64_t runs_max,
		    struct errmsg *why) __attribute__((warn_unused_result));

/* Closes the sources too.  A zeroed plan is fine. */
void snap_plan_free(struct snap_plan *plan);

#endif
