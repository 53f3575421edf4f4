/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a snapshot's file: what is to be stored is decided page by page (zero? the parent's?), pages go through the
 * pipe, the rest of the file follows, the header comes last, and only then a name.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "snapshot/image_impl.h"
#include "snapshot/image_io.h"
#include "snapshot/image_pipe.h"
#include "wire/snap.h"

#define CHUNK_PAGES  64u /* read at once from a plan's source */
/* Blocks of a compressed parent that may be opened to compare pages: as many as pages were looked at, and these. */
#define SPARE_BLOCKS 256u

struct groups {
	struct snap_image_group *group;
	uint64_t count, cap;
};

struct writer {
	const struct snap_write *cfg;
	struct io_stage stage;
	struct snap_image_header head;
	struct pipe *pipe;
	struct groups groups;
	struct snap_image_index index;
	uint64_t equal;
	uint64_t looked, opened; /* pages compared with the parent; its blocks opened for that */
	uint64_t end;            /* of what is written, in the file */
	unsigned sections;
	uint8_t *chunk; /* CHUNK_PAGES pages */
};

static bool page_is_zero(const uint8_t *page)
{
	/* A page equals itself moved by 8 bytes, and its first 8 are zero. */
	static const uint8_t zero[8];
	return !memcmp(page, zero, sizeof(zero)) && !memcmp(page, page + 8, PAGE - 8);
}

/* --- index -------------------------------------------------------------------------------------- */

static struct snap_image_group *group_of(struct writer *w, uint64_t page)
{
	uint32_t number = (uint32_t)(page / SNAP_IMAGE_GROUP_PAGES);
	struct groups *g = &w->groups;

	if (g->count && g->group[g->count - 1].group == number)
		return &g->group[g->count - 1];
	if (g->count == g->cap) {
		uint64_t cap = g->cap ? 2 * g->cap : 64;
		struct snap_image_group *grown = realloc(g->group, cap * sizeof(*grown));
		if (!grown)
			return NULL;
		g->group = grown;
		g->cap = cap;
	}
	struct snap_image_group *group = &g->group[g->count++];
	*group = (struct snap_image_group){.group = number, .rank = (uint32_t)w->index.stored};
	return group;
}

static int put_zero(struct writer *w, uint64_t page, uint64_t count, struct errmsg *why)
{
	for (uint64_t p = page; p < page + count; p++) {
		struct snap_image_group *g = group_of(w, p);
		if (!g)
			return err_set(why, ENOMEM, "snapshot");
		g->zero[p % SNAP_IMAGE_GROUP_PAGES / 64] |= UINT64_C(1) << p % 64;
	}
	w->index.zero += count;
	return 0;
}

static int put_page(struct writer *w, uint64_t page, const uint8_t *bytes, struct errmsg *why)
{
	int err = 0;
	struct snap_image_group *g = group_of(w, page);
	if (!g)
		return err_set(why, ENOMEM, "snapshot");
	uint64_t slot = w->cfg->kind == SNAP_IMAGE_FLAT ? page : w->index.stored;
	uint8_t *to = pipe_put(w->pipe, slot, &err, why);
	if (!to)
		return err;
	memcpy(to, bytes, PAGE);
	g->stored[page % SNAP_IMAGE_GROUP_PAGES / 64] |= UINT64_C(1) << page % 64;
	w->index.stored++;
	return 0;
}

/* --- which pages -------------------------------------------------------------------------------- */

/* May block `b` of a compressed ancestor be opened for a comparison? */
static bool may_open(struct writer *w, const struct snap_image *image, uint64_t b)
{
	if (image->index.kind != SNAP_IMAGE_LZ4 || image->cached == b)
		return true;
	/* 16 pages a block: scattered pages would each cost a whole one. */
	if (w->opened >= SPARE_BLOCKS + w->looked / 4)
		return false;
	w->opened++;
	return true;
}

/* 1 the parent has the same there, 0 not or not known, -errno. */
static int same_as_parent(struct writer *w, uint64_t page, const uint8_t *bytes, bool zero,
			  struct errmsg *why)
{
	struct snap_chain *parent = w->cfg->parent;
	const struct snap_run *run = snap_runs_find(&parent->runs, page);
	uint8_t theirs[PAGE];

	w->looked++;
	if (!run || run->kind == SNAP_RUN_ZERO)
		return run && zero;
	struct snap_image *image = parent->image[run->source];
	uint64_t slot = run->off / PAGE + page - run->page;
	if (!may_open(w, image, slot / SNAP_IMAGE_BLOCK_PAGES))
		return 0;
	int err = image_read_slot(image, slot, IMAGE_UNCHECKED, theirs, why);
	return err ? err : !memcmp(theirs, bytes, PAGE);
}

static int take_page(struct writer *w, uint64_t page, const uint8_t *bytes, struct errmsg *why)
{
	bool zero = page_is_zero(bytes);

	if (w->cfg->parent) {
		int same = same_as_parent(w, page, bytes, zero, why);
		if (same < 0)
			return same;
		w->equal += (uint64_t)same;
		if (same)
			return 0;
		if (zero)
			return put_zero(w, page, 1, why);
	}
	return zero ? 0 : put_page(w, page, bytes, why);
}

/* Puts pages [page, end), all of one run of the parent's, as far as they are not zero there. */
static int zero_over(struct writer *w, const struct snap_run *theirs, uint64_t page, uint64_t end,
		     struct errmsg *why)
{
	if (theirs->kind == SNAP_RUN_ZERO)
		return 0;
	const struct snap_image *image = w->cfg->parent->image[theirs->source];
	if (image->index.kind != SNAP_IMAGE_FLAT)
		return put_zero(w, page, end - page, why);
	int err = 0;
	for (; !err && page < end; page++)
		if (index_stores(image, page))
			err = put_zero(w, page, 1, why);
	return err;
}

/* Pages that are zero now: those that the parent has otherwise. */
static int take_zero(struct writer *w, const struct snap_run *run, struct errmsg *why)
{
	uint64_t end = run->page + run->count;
	int err = 0;

	if (!w->cfg->parent)
		return 0;
	for (uint64_t page = run->page; !err && page < end;) {
		const struct snap_run *theirs = snap_runs_find(&w->cfg->parent->runs, page);
		uint64_t stop = theirs->page + theirs->count;
		if (stop > end)
			stop = end;
		err = zero_over(w, theirs, page, stop, why);
		page = stop;
	}
	return err;
}

static int take_plan_run(struct writer *w, const struct snap_run *run, struct errmsg *why)
{
	int fd = w->cfg->plan->fd[run->source], err = 0;

	for (uint64_t done = 0; !err && done < run->count;) {
		uint64_t count = run->count - done < CHUNK_PAGES ? run->count - done : CHUNK_PAGES;
		err = io_read(fd, w->chunk, count * PAGE, run->off + done * PAGE, why);
		for (uint64_t i = 0; !err && i < count; i++)
			err = take_page(w, run->page + done + i, w->chunk + i * PAGE, why);
		done += count;
	}
	return err;
}

static int take_chain_run(struct writer *w, const struct snap_run *run, struct errmsg *why)
{
	struct snap_image *image = w->cfg->from->image[run->source];
	int err = 0;

	for (uint64_t i = 0; !err && i < run->count; i++) {
		err = image_read_slot(image, run->off / PAGE + i, IMAGE_CHECKED, w->chunk, why);
		if (!err)
			err = take_page(w, run->page + i, w->chunk, why);
	}
	return err;
}

static int take_run(struct writer *w, const struct snap_run *run, struct errmsg *why)
{
	const struct snap_write *cfg = w->cfg;

	if (run->kind == SNAP_RUN_ZERO)
		return take_zero(w, run, why);
	if (cfg->from)
		return take_chain_run(w, run, why);
	if (cfg->parent && run->source < cfg->diff_from)
		return 0;
	return take_plan_run(w, run, why);
}

static int take_all(struct writer *w, struct errmsg *why)
{
	const struct snap_runs *runs = w->cfg->from ? &w->cfg->from->runs : &w->cfg->plan->runs;
	int err = 0;

	for (size_t i = 0; !err && i < runs->count; i++)
		err = take_run(w, &runs->run[i], why);
	return err;
}

/* --- the file ----------------------------------------------------------------------------------- */

static uint64_t aligned(uint64_t off, uint64_t to)
{
	return (off + to - 1) / to * to;
}

static void note_section(struct writer *w, enum snap_image_type type, uint32_t crc, uint64_t off,
			 uint64_t len)
{
	w->head.section[w->sections++] =
		(struct snap_image_section){.type = type, .crc = crc, .off = off, .len = len};
	w->end = off + len;
}

static int put_section(struct writer *w, enum snap_image_type type, const void *bytes, size_t len,
		       struct errmsg *why)
{
	uint64_t off = aligned(w->end, SNAP_IMAGE_ALIGN);
	int err = io_write(&w->stage, bytes, len, off, why);

	if (!err)
		note_section(w, type, crc32c(bytes, len), off, len);
	return err;
}

static int put_front(struct writer *w, struct errmsg *why)
{
	const struct snap_write *cfg = w->cfg;
	cleanup_free uint8_t *disks = NULL;
	size_t len;

	int err = put_section(w, SNAP_IMAGE_STATE, cfg->state, cfg->state_len, why);
	if (!err && cfg->disk_count) {
		err = disks_encode(cfg->disks, cfg->disk_count, &disks, &len, why);
		if (!err)
			err = put_section(w, SNAP_IMAGE_DISKS, disks, len, why);
	}
	if (!err && cfg->meta_len)
		err = put_section(w, SNAP_IMAGE_META, cfg->meta, cfg->meta_len, why);
	return err;
}

static int put_memory(struct writer *w, const struct snap_image_block **block, struct errmsg *why)
{
	const struct snap_write *cfg = w->cfg;
	uint64_t len, off = aligned(w->end, cfg->kind == SNAP_IMAGE_FLAT ? SNAP_IMAGE_FLAT_ALIGN
									 : SNAP_IMAGE_ALIGN);
	int err = pipe_create(&w->pipe, &w->stage, off, cfg->pages, cfg->kind, why);

	if (!err)
		err = take_all(w, why);
	if (!err)
		err = pipe_finish(w->pipe, block, &w->index.block_count, &len, why);
	if (!err)
		note_section(w, SNAP_IMAGE_MEM, 0, off, len);
	return err;
}

static int put_index(struct writer *w, const struct snap_image_block *block, struct errmsg *why)
{
	w->index.kind = w->cfg->kind;
	w->index.group_count = w->groups.count;
	size_t groups = w->groups.count * sizeof(*w->groups.group);
	size_t blocks = w->index.block_count * sizeof(*block);
	cleanup_free uint8_t *bytes = malloc(sizeof(w->index) + groups + blocks);

	if (!bytes)
		return err_set(why, ENOMEM, "snapshot");
	memcpy(bytes, &w->index, sizeof(w->index));
	if (groups)
		memcpy(bytes + sizeof(w->index), w->groups.group, groups);
	if (blocks)
		memcpy(bytes + sizeof(w->index) + groups, block, blocks);
	return put_section(w, SNAP_IMAGE_MEMIDX, bytes, sizeof(w->index) + groups + blocks, why);
}

static int put_chain(struct writer *w, struct errmsg *why)
{
	struct snap_image self = {
		.head.pages = w->cfg->pages, .index = w->index, .group = w->groups.group};
	struct snap_runs own = {.run = NULL};
	cleanup_free uint8_t *bytes = NULL;
	size_t len;
	int err = index_runs(&self, 0, &own);

	if (!err)
		err = chain_encode(w->cfg->parent, &own, &bytes, &len);
	snap_runs_free(&own);
	if (err)
		return err_set(why, err, "snapshot");
	return bytes ? put_section(w, SNAP_IMAGE_CHAIN, bytes, len, why) : 0;
}

static int put_back(struct writer *w, const struct snap_image_block *block, struct errmsg *why)
{
	int err = put_index(w, block, why);

	if (!err && w->cfg->parent)
		err = put_chain(w, why);
	if (!err && w->cfg->ws_len)
		err = put_section(w, SNAP_IMAGE_WS, w->cfg->ws, w->cfg->ws_len, why);
	return err;
}

static int put_header(struct writer *w, struct errmsg *why)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	w->head.created = (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
	w->head.file_len = w->end;
	w->head.crc = 0;
	w->head.crc = crc32c(&w->head, sizeof(w->head));
	return io_write(&w->stage, &w->head, sizeof(w->head), 0, why);
}

static int make_head(struct writer *w, struct errmsg *why)
{
	const struct snap_write *cfg = w->cfg;
	struct snap_image_header *h = &w->head;

	*h = (struct snap_image_header){.version = SNAP_IMAGE_VERSION,
					.arch = SNAP_IMAGE_X86_64,
					.page_size = PAGE,
					.cpus = cfg->cpus,
					.pages = cfg->pages};
	memcpy(h->magic, SNAP_IMAGE_MAGIC, sizeof(h->magic));
	if (getrandom(h->id, sizeof(h->id), 0) != sizeof(h->id))
		return err_set(why, errno, "snapshot: identity");
	if (cfg->parent) {
		const struct snap_image_header *p = &cfg->parent->image[0]->head;
		memcpy(h->parent_id, p->id, SNAP_ID_LEN);
		h->parent_root = p->crc;
		h->depth = p->depth + 1;
	}
	w->end = sizeof(*h);
	return 0;
}

static int check_cfg(const struct snap_write *cfg, struct errmsg *why)
{
	if (cfg->kind < SNAP_IMAGE_FLAT || cfg->kind > SNAP_IMAGE_LZ4)
		return err_set(why, 0, "snapshot: unknown kind of memory");
	if (!cfg->pages || cfg->pages > SNAP_PAGES_MAX || !cfg->cpus ||
	    cfg->cpus > SNAP_IMAGE_CPUS_MAX || cfg->state_len > SNAP_STATE_MAX ||
	    cfg->meta_len > SNAP_META_MAX || cfg->ws_len > SNAP_WS_MAX)
		return err_set(why, 0, "snapshot: of a machine that cannot be");
	if (cfg->parent && !cfg->from && cfg->diff_from > cfg->plan->source_count)
		return err_set(why, 0, "snapshot: the source of its difference is not there");
	if (cfg->parent && cfg->kind == SNAP_IMAGE_FLAT)
		return err_set(why, 0, "snapshot: a flat image has no parent");
	if (cfg->parent && cfg->parent->image[0]->head.pages != cfg->pages)
		return err_set(why, 0, "snapshot: its parent is of a machine of another size");
	if (cfg->parent && cfg->parent->image[0]->head.depth == SNAP_IMAGE_DEPTH_MAX)
		return err_set(why, 0, "snapshot: more than %u ancestors: compact them",
			       SNAP_IMAGE_DEPTH_MAX),
		       -ELOOP;
	return cfg->from ? 0 : snap_plan_check(cfg->plan, cfg->pages, SNAP_RUNS_MAX, why);
}

static int write_all(struct writer *w, struct snap_written *out, struct errmsg *why)
{
	const struct snap_image_block *block = NULL;
	uint64_t began = clock_now();
	int err = put_front(w, why);

	if (!err)
		err = put_memory(w, &block, why);
	if (!err)
		err = put_back(w, block, why);
	out->write_ns = clock_now() - began;
	if (!err)
		err = io_sync(&w->stage, why);
	if (!err)
		err = put_header(w, why);
	if (!err)
		err = io_sync(&w->stage, why);
	if (!err)
		err = io_stage_publish(&w->stage, w->cfg->publish == SNAP_NEW ? IO_NEW : IO_REPLACE,
				       why);
	out->sync_ns = clock_now() - began - out->write_ns;
	return err;
}

static void fill_written(const struct writer *w, struct snap_written *out)
{
	out->self.root = w->head.crc;
	memcpy(out->self.id, w->head.id, SNAP_ID_LEN);
	out->stored = w->index.stored;
	out->zero = w->index.zero;
	out->equal = w->equal;
	out->file_len = w->end;
	for (unsigned i = 0; i < w->sections; i++) {
		if (w->head.section[i].type == SNAP_IMAGE_MEM)
			out->mem_len = w->head.section[i].len;
		if (w->head.section[i].type == SNAP_IMAGE_MEMIDX)
			out->index_len = w->head.section[i].len;
	}
}

int snap_image_write(const struct snap_write *cfg, struct snap_written *out, struct errmsg *why)
{
	struct writer w = {.cfg = cfg, .stage.fd = -1};
	struct snap_written done = {.stored = 0};

	int err = check_cfg(cfg, why);
	if (err)
		return err;
	w.chunk = malloc(CHUNK_PAGES * PAGE);
	err = w.chunk ? make_head(&w, why) : err_set(why, ENOMEM, "snapshot");
	if (!err)
		err = io_stage_open(&w.stage, cfg->dir_fd, cfg->name, why);
	if (!err)
		err = write_all(&w, &done, why);
	pipe_destroy(w.pipe);
	io_stage_close(&w.stage);
	if (!err) {
		fill_written(&w, &done);
		*out = done;
	}
	free(w.groups.group);
	free(w.chunk);
	return err;
}

int snap_chain_flatten(struct snap_chain *chain, int dir_fd, const char *name,
		       enum snap_image_kind kind, enum snap_publish publish,
		       struct snap_written *out, struct errmsg *why)
{
	const struct snap_image *head = chain->image[0];
	struct snap_write cfg = {
		.dir_fd = dir_fd,
		.name = name,
		.publish = publish,
		.kind = kind,
		.cpus = head->head.cpus,
		.pages = head->head.pages,
		.state = head->state,
		.state_len = image_len(head, SNAP_IMAGE_STATE),
		.from = chain,
		.disks = head->disks,
		.disk_count = head->disk_count,
		.meta = (const char *)head->meta,
		.meta_len = image_len(head, SNAP_IMAGE_META),
		.ws = head->ws,
		.ws_len = image_len(head, SNAP_IMAGE_WS),
	};

	return snap_image_write(&cfg, out, why);
}
