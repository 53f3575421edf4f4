/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/working_set.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/capture.h"

#define FIRST_CAP 256u

void working_set_free(struct working_set *set)
{
	free(set->run);
	*set = (struct working_set){.run = NULL};
}

static int add(struct working_set *set, uint64_t page, uint64_t end, uint32_t written)
{
	if (page == end)
		return 0;
	if (set->count == set->cap) {
		size_t cap = set->cap ? 2 * set->cap : FIRST_CAP;
		struct vmm_page_run *run = realloc(set->run, cap * sizeof(*run));
		if (!run)
			return -ENOMEM;
		set->run = run;
		set->cap = cap;
	}
	set->run[set->count++] = (struct vmm_page_run){page, (uint32_t)(end - page), written};
	return 0;
}

/* One run of touched pages, cut where it was written; *at is the first written run that may reach into it. */
static int add_run(struct working_set *set, const struct anon_run *run, const struct anon *written,
		   size_t *at)
{
	uint64_t page = run->page, end = page + run->count;
	int err = 0;

	while (*at < written->count && written->run[*at].page + written->run[*at].count <= page)
		++*at;
	for (size_t i = *at; !err && i < written->count && written->run[i].page < end; i++) {
		uint64_t from = written->run[i].page, to = from + written->run[i].count;
		from = from > page ? from : page;
		to = to < end ? to : end;
		err = add(set, page, from, 0);
		if (!err)
			err = add(set, from, to, 1);
		page = to;
	}
	return err ? err : add(set, page, end, 0);
}

int working_set_merge(struct working_set *set, const struct anon *touched,
		      const struct anon *written)
{
	size_t at = 0;
	int err = 0;

	set->count = 0;
	for (size_t i = 0; !err && i < touched->count; i++)
		err = add_run(set, &touched->run[i], written, &at);
	return err;
}

static int check(const struct vmm *m, struct errmsg *why)
{
	if (!m->capture || (m->state != VMM_RUNNING && m->state != VMM_PAUSED))
		return err_set(why, EINVAL, "only a VM that was loaded has a working set");
	if (!m->capture->base.runs.count)
		return err_set(why, ENOTSUP, "a VM that was booted here has no working set yet");
	if (m->lazy.runs.count)
		return err_set(why, ENOTSUP,
			       "memory came from a pager: all of it has been touched");
	return 0;
}

int machine_working_set(struct vmm *m, struct vmm_working_set *out, struct errmsg *why)
{
	struct capture *c = m->capture;
	uint64_t pages = m->ram.size / SNAP_PAGE_SIZE;

	int err = check(m, why);
	if (err)
		return err;
	struct anon touched = {.fd = c->gather.first.fd, .scan = c->gather.first.scan};
	struct anon written = touched;
	err = anon_scan(&written, m->ram.map, pages, why);
	if (!err)
		err = anon_scan_touched(&touched, m->ram.map, pages, why);
	if (!err && working_set_merge(&c->working_set, &touched, &written))
		err = err_set(why, ENOMEM, "working set");
	if (!err)
		*out = (struct vmm_working_set){.run = c->working_set.run,
						.run_count = c->working_set.count,
						.pages = touched.pages,
						.written = written.pages};
	free(touched.run);
	free(written.run);
	return err;
}
