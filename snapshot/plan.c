/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define FIRST_CAP 64u

void snap_runs_free(struct snap_runs *runs)
{
	free(runs->run);
	*runs = (struct snap_runs){.run = NULL};
}

/* True when `next` is the same kind of pages going on where `last` ends. */
static int goes_on(const struct snap_run *last, const struct snap_run *next)
{
	if (last->page + last->count != next->page || last->kind != next->kind)
		return 0;
	return next->kind != SNAP_RUN_MAP ||
	       (last->source == next->source &&
		last->off + last->count * SNAP_PAGE_SIZE == next->off);
}

static int runs_grow(struct snap_runs *runs)
{
	size_t cap = runs->cap ? 2 * runs->cap : FIRST_CAP;
	struct snap_run *run = realloc(runs->run, cap * sizeof(*run));

	if (!run)
		return -ENOMEM;
	runs->run = run;
	runs->cap = cap;
	return 0;
}

int snap_runs_add(struct snap_runs *runs, const struct snap_run *run)
{
	if (!run->count)
		return 0;
	if (runs->count && goes_on(&runs->run[runs->count - 1], run)) {
		runs->run[runs->count - 1].count += run->count;
		return 0;
	}
	if (runs->count == runs->cap && runs_grow(runs))
		return -ENOMEM;
	runs->run[runs->count++] = *run;
	return 0;
}

/* The part of `run` in pages [from, end). */
static struct snap_run cut(const struct snap_run *run, uint64_t from, uint64_t end)
{
	struct snap_run part = *run;
	uint64_t run_end = run->page + run->count;

	part.page = run->page > from ? run->page : from;
	part.count = (run_end < end ? run_end : end) - part.page;
	if (run->kind == SNAP_RUN_MAP)
		part.off += (part.page - run->page) * SNAP_PAGE_SIZE;
	return part;
}

/* Adds what `base` has in [from, end); *at is the first run that may reach into it, and only goes up. */
static int add_range(struct snap_runs *out, const struct snap_runs *base, size_t *at, uint64_t from,
		     uint64_t end)
{
	int err = 0;

	while (*at < base->count && base->run[*at].page + base->run[*at].count <= from)
		++*at;
	for (size_t i = *at; !err && i < base->count && base->run[i].page < end; i++) {
		struct snap_run part = cut(&base->run[i], from, end);
		err = snap_runs_add(out, &part);
	}
	return err;
}

int snap_runs_overlay(struct snap_runs *out, const struct snap_runs *base,
		      const struct snap_runs *over)
{
	uint64_t from = 0;
	size_t at = 0;
	int err = 0;

	for (size_t i = 0; !err && i < over->count; i++) {
		const struct snap_run *run = &over->run[i];
		if (from < run->page)
			err = add_range(out, base, &at, from, run->page);
		if (!err)
			err = snap_runs_add(out, run);
		from = run->page + run->count;
	}
	return err ? err : add_range(out, base, &at, from, UINT64_MAX);
}

const struct snap_run *snap_runs_find(const struct snap_runs *runs, uint64_t page)
{
	size_t low = 0, high = runs->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (runs->run[middle].page + runs->run[middle].count <= page)
			low = middle + 1;
		else
			high = middle;
	}
	return low < runs->count && runs->run[low].page <= page ? &runs->run[low] : NULL;
}

int snap_runs_read(struct snap_runs *out, int fd, uint64_t count, struct errmsg *why)
{
	if (!count || count > SNAP_RUNS_MAX)
		return err_set(why, EBADMSG, "memory plan of %llu runs", (unsigned long long)count);
	size_t len = count * sizeof(*out->run);
	cleanup_free struct snap_run *run = malloc(len);

	if (!run)
		return err_set(why, ENOMEM, "memory plan");
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)run + done, len - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(why, n < 0 ? errno : EBADMSG, "memory plan: read the runs");
		done += (size_t)n;
	}
	*out = (struct snap_runs){.run = steal_ptr(&run), .count = count, .cap = count};
	return 0;
}

int snap_runs_fd(const struct snap_runs *runs, struct errmsg *why)
{
	size_t len = runs->count * sizeof(*runs->run);
	cleanup_close int fd = memfd_create("runs", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_set(why, errno, "memory plan");
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)runs->run + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(why, errno, "memory plan: write the runs");
		done += (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		return err_set(why, errno, "memory plan: seal the runs");
	return steal_fd(&fd);
}

static int bad_run(struct errmsg *why, size_t i, const char *what)
{
	return err_set(why, EBADMSG, "memory plan: run %zu %s", i, what);
}

static int check_run(const struct snap_run *run, size_t i, const uint64_t *len, uint32_t sources,
		     struct errmsg *why)
{
	if (run->kind == SNAP_RUN_ZERO)
		return run->source || run->off ? bad_run(why, i, "of zeroes has a source") : 0;
	if (run->kind != SNAP_RUN_MAP)
		return bad_run(why, i, "is of an unknown kind");
	if (run->source >= sources)
		return bad_run(why, i, "names a source that is not there");
	if (run->off % SNAP_PAGE_SIZE)
		return bad_run(why, i, "does not begin at a page of its source");
	if (run->off > len[run->source] ||
	    run->count > (len[run->source] - run->off) / SNAP_PAGE_SIZE)
		return bad_run(why, i, "lies outside its source");
	return 0;
}

static int source_lengths(const struct snap_plan *plan, uint64_t *len, struct errmsg *why)
{
	struct stat st;

	for (uint32_t i = 0; i < plan->source_count; i++) {
		if (fstat(plan->fd[i], &st))
			return err_set(why, errno, "memory plan: source %u", i);
		if (!S_ISREG(st.st_mode))
			return err_set(why, EBADMSG, "memory plan: source %u is no file", i);
		len[i] = (uint64_t)st.st_size;
	}
	return 0;
}

int snap_plan_check(const struct snap_plan *plan, uint64_t pages, uint64_t runs_max,
		    struct errmsg *why)
{
	uint64_t len[SNAP_SOURCES_MAX], next = 0;

	if (!pages || pages > SNAP_PAGES_MAX)
		return err_set(why, EBADMSG, "memory plan: a machine of %llu pages",
			       (unsigned long long)pages);
	if (plan->source_count > SNAP_SOURCES_MAX || plan->runs.count > runs_max)
		return err_set(why, EBADMSG, "memory plan: %zu runs over %u sources are too many",
			       plan->runs.count, plan->source_count);
	int err = source_lengths(plan, len, why);
	for (size_t i = 0; !err && i < plan->runs.count; i++) {
		const struct snap_run *run = &plan->runs.run[i];
		if (run->page != next || !run->count || run->count > pages - next)
			return bad_run(why, i, "does not follow the one before it");
		next += run->count;
		err = check_run(run, i, len, plan->source_count, why);
	}
	if (!err && next != pages)
		return err_set(why, EBADMSG, "memory plan: covers %llu pages of %llu",
			       (unsigned long long)next, (unsigned long long)pages);
	return err;
}

void snap_plan_free(struct snap_plan *plan)
{
	snap_runs_free(&plan->runs);
	for (uint32_t i = 0; i < plan->source_count; i++)
		close(plan->fd[i]);
	free(plan->fd);
	*plan = (struct snap_plan){.fd = NULL};
}
