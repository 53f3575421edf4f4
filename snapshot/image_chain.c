/* SPDX-License-Identifier: Apache-2.0 */
/* An image and its ancestors: found by identity, laid over each other once. */
#include "snapshot/image_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

struct walk {
	struct snap_chain *chain;
	snap_find_fn *find;
	void *arg;
};

void snap_chain_close(struct snap_chain *chain)
{
	if (!chain)
		return;
	for (uint32_t i = 0; i < chain->count; i++)
		snap_image_close(chain->image[i]);
	free(chain->image);
	snap_runs_free(&chain->runs);
	free(chain);
}

const struct snap_image *snap_chain_head(const struct snap_chain *chain)
{
	return chain->image[0];
}

const struct snap_image *snap_chain_image(const struct snap_chain *chain, uint32_t index)
{
	return index < chain->count ? chain->image[index] : NULL;
}

uint64_t snap_chain_growth(const struct snap_chain *chain)
{
	const struct snap_image *oldest = chain->image[chain->count - 1];
	uint64_t sum = 0;

	for (uint32_t i = 0; i + 1 < chain->count; i++)
		sum += chain->image[i]->index.stored;
	return sum * 100 / (oldest->index.stored ? oldest->index.stored : 1);
}

/* --- finding ------------------------------------------------------------------------------------ */

static int check_ancestor(const struct snap_image *image, const struct snap_image *head,
			  const struct snap_ref *want, struct errmsg *why)
{
	struct snap_id_text id = snap_id_text(want->id);

	if (memcmp(image->head.id, want->id, SNAP_ID_LEN) != 0 || image->head.crc != want->root) {
		err_set(why, 0, "snapshot %s: its parent %s is another one than it was made from",
			snap_id_text(head->head.id).text, id.text);
		return -ESTALE;
	}
	if (image->head.pages != head->head.pages)
		return image_bad(why, "parent %s is of a machine of another size", id.text);
	return 0;
}

/* Opens and appends the image that `want` names. */
static int add_ancestor(struct walk *w, const struct snap_ref *want, struct errmsg *why)
{
	struct snap_chain *chain = w->chain;
	struct snap_id_text id = snap_id_text(want->id);

	for (uint32_t i = 0; i < chain->count; i++)
		if (!memcmp(chain->image[i]->head.id, want->id, SNAP_ID_LEN)) {
			err_set(why, 0, "snapshot %s is its own ancestor", id.text);
			return -ELOOP;
		}
	if (chain->count > SNAP_IMAGE_DEPTH_MAX)
		return err_set(why, 0, "snapshot: more than %u ancestors", SNAP_IMAGE_DEPTH_MAX),
		       -ELOOP;
	cleanup_close int fd = w->find(w->arg, want->id);
	if (fd < 0) {
		err_set(why, fd, "snapshot %s: its parent %s",
			snap_id_text(chain->image[chain->count - 1]->head.id).text, id.text);
		return fd;
	}
	struct snap_image *image;
	int err = image_open(&image, fd, IMAGE_MEMORY_ONLY, why);
	if (err)
		return err_wrap(why, err, "parent %s", id.text);
	struct snap_image **grown =
		realloc(chain->image, (chain->count + 1) * sizeof(struct snap_image *));
	if (!grown) {
		snap_image_close(image);
		return err_set(why, ENOMEM, "snapshot");
	}
	chain->image = grown;
	chain->image[chain->count++] = image;
	return check_ancestor(image, chain->image[0], want, why);
}

static int add_all(struct walk *w, struct errmsg *why)
{
	int err = 0;

	for (;;) {
		const struct snap_image_header *last = &w->chain->image[w->chain->count - 1]->head;
		struct snap_ref want = {.root = last->parent_root};
		uint32_t depth = last->depth;
		if (!depth)
			return 0;
		memcpy(want.id, last->parent_id, SNAP_ID_LEN);
		err = add_ancestor(w, &want, why);
		if (err)
			return err;
		if (w->chain->image[w->chain->count - 1]->head.depth + 1 != depth)
			return image_bad(why, "parent %s has another number of ancestors",
					 snap_id_text(want.id).text);
	}
}

/* --- laying over each other --------------------------------------------------------------------- */

static int merge(struct snap_chain *chain)
{
	struct snap_runs all = {.run = NULL};
	struct snap_run zero = {.count = chain->image[0]->head.pages, .kind = SNAP_RUN_ZERO};
	int err = snap_runs_add(&all, &zero);

	for (uint32_t i = chain->count; !err && i-- > 0;) {
		struct snap_runs own = {.run = NULL}, both = {.run = NULL};
		err = index_runs(chain->image[i], i, &own);
		if (!err)
			err = snap_runs_overlay(&both, &all, &own);
		snap_runs_free(&own);
		snap_runs_free(&all);
		all = both;
	}
	if (err)
		snap_runs_free(&all);
	else
		chain->runs = all;
	return err;
}

/* --- the head's index --------------------------------------------------------------------------- */

struct index_in {
	uint32_t layer_count, run_count;
	const struct snap_image_layer *layer;
	const struct snap_image_run *run;
};

static int chain_parse(const struct snap_image *head, struct index_in *in, struct errmsg *why)
{
	uint64_t len = image_len(head, SNAP_IMAGE_CHAIN);
	struct snap_image_chain c;

	if (len < sizeof(c))
		return image_bad(why, "its index of ancestors is cut short");
	memcpy(&c, head->chain, sizeof(c));
	if (c.layer_count > head->head.depth || c.run_count > SNAP_MAPS_MAX ||
	    len != sizeof(c) + c.layer_count * sizeof(*in->layer) + c.run_count * sizeof(*in->run))
		return image_bad(why, "its index of ancestors has another length");
	*in = (struct index_in){.layer_count = c.layer_count,
				.run_count = c.run_count,
				.layer = (const void *)(head->chain + sizeof(c))};
	in->run = (const void *)(in->layer + c.layer_count);
	return 0;
}

static int check_run(const struct snap_chain *chain, const struct snap_image_run *r,
		     struct errmsg *why)
{
	if (r->layer == SNAP_IMAGE_ZERO)
		return r->slot ? image_bad(why, "its index of ancestors cannot be") : 0;
	if (r->layer >= chain->count)
		return image_bad(why, "its index of ancestors names one that is not there");
	const struct snap_image *image = chain->image[r->layer];
	bool flat = image->index.kind == SNAP_IMAGE_FLAT;
	uint64_t slots = flat ? image->head.pages : image->index.stored;
	if (r->slot > slots || r->count > slots - r->slot || (flat && r->slot != r->page))
		return image_bad(why, "its index of ancestors points outside of one");
	return 0;
}

static int add_runs(struct snap_chain *chain, const struct index_in *in, struct errmsg *why)
{
	uint64_t next = 0, pages = chain->image[0]->head.pages;

	for (uint32_t i = 0; i < in->run_count; i++) {
		const struct snap_image_run *r = &in->run[i];
		struct snap_run run = {.page = r->page, .count = r->count, .kind = SNAP_RUN_ZERO};
		if (r->page != next || !r->count || r->count > pages - next)
			return image_bad(why, "its index of ancestors has gaps");
		int err = check_run(chain, r, why);
		if (err)
			return err;
		if (r->layer != SNAP_IMAGE_ZERO) {
			run.kind = SNAP_RUN_MAP;
			run.source = r->layer;
			run.off = (uint64_t)r->slot * PAGE;
		}
		next += r->count;
		if (snap_runs_add(&chain->runs, &run))
			return err_set(why, ENOMEM, "snapshot");
	}
	return next == pages ? 0 : image_bad(why, "its index of ancestors has gaps");
}

static int open_needed(struct walk *w, struct errmsg *why)
{
	struct index_in in = {.layer_count = 0};
	int err = chain_parse(w->chain->image[0], &in, why);

	for (uint32_t i = 0; !err && i < in.layer_count; i++) {
		struct snap_ref want = {.root = in.layer[i].root};
		memcpy(want.id, in.layer[i].id, SNAP_ID_LEN);
		err = in.layer[i].rsvd ? image_bad(why, "its index of ancestors cannot be")
				       : add_ancestor(w, &want, why);
	}
	return err ? err : add_runs(w->chain, &in, why);
}

static void mark_used(const struct snap_runs *runs, bool *used)
{
	for (size_t i = 0; i < runs->count; i++)
		if (runs->run[i].kind == SNAP_RUN_MAP)
			used[runs->run[i].source] = true;
}

static int put_layers(const struct snap_chain *parent, const bool *used, uint32_t *number,
		      struct snap_image_layer *to)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < parent->count; i++) {
		if (!used[i + 1])
			continue;
		memcpy(to[count].id, parent->image[i]->head.id, SNAP_ID_LEN);
		to[count].root = parent->image[i]->head.crc;
		number[i + 1] = ++count;
	}
	return (int)count;
}

static void put_runs(const struct snap_runs *all, const uint32_t *number, struct snap_image_run *to)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct snap_run *run = &all->run[i];
		bool zero = run->kind == SNAP_RUN_ZERO;
		to[i] = (struct snap_image_run){.page = (uint32_t)run->page,
						.count = (uint32_t)run->count,
						.layer = zero ? SNAP_IMAGE_ZERO
							      : number[run->source],
						.slot = (uint32_t)(run->off / PAGE)};
	}
}

static int encode(const struct snap_chain *parent, const struct snap_runs *all, uint8_t **bytes,
		  size_t *len)
{
	cleanup_free bool *used = calloc(parent->count + 1, sizeof(bool));
	cleanup_free uint32_t *number = calloc(parent->count + 1, sizeof(uint32_t));
	size_t max = sizeof(struct snap_image_chain) +
		     parent->count * sizeof(struct snap_image_layer) +
		     all->count * sizeof(struct snap_image_run);
	uint8_t *to = calloc(1, max);

	if (!used || !number || !to) {
		free(to);
		return -ENOMEM;
	}
	mark_used(all, used);
	struct snap_image_layer *layer = (void *)(to + sizeof(struct snap_image_chain));
	int layers = put_layers(parent, used, number, layer);
	struct snap_image_run *run = (void *)(layer + layers);
	put_runs(all, number, run);
	struct snap_image_chain head = {.layer_count = (uint32_t)layers,
					.run_count = (uint32_t)all->count};
	memcpy(to, &head, sizeof(head));
	*len = (size_t)((uint8_t *)(run + all->count) - to);
	*bytes = to;
	return 0;
}

int chain_encode(const struct snap_chain *parent, const struct snap_runs *own, uint8_t **bytes,
		 size_t *len)
{
	struct snap_runs under = {.run = NULL}, all = {.run = NULL};
	int err = 0;

	for (size_t i = 0; !err && i < parent->runs.count; i++) {
		struct snap_run run = parent->runs.run[i];
		run.source += run.kind == SNAP_RUN_MAP;
		err = snap_runs_add(&under, &run);
	}
	if (!err)
		err = snap_runs_overlay(&all, &under, own);
	if (!err && all.count <= SNAP_MAPS_MAX)
		err = encode(parent, &all, bytes, len);
	snap_runs_free(&under);
	snap_runs_free(&all);
	return err;
}

/* --- the whole ---------------------------------------------------------------------------------- */

static int open_chain(struct walk *w, int fd, enum snap_chain_depth depth, struct errmsg *why)
{
	struct snap_chain *chain = w->chain;

	chain->image = calloc(1, sizeof(struct snap_image *));
	if (!chain->image)
		return err_set(why, ENOMEM, "snapshot");
	int err = image_open(&chain->image[0], fd, IMAGE_ALL, why);
	if (err)
		return err;
	chain->count = 1;
	if (depth == SNAP_CHAIN_NEEDED && chain->image[0]->chain)
		return open_needed(w, why);
	err = add_all(w, why);
	if (!err && merge(chain))
		err = err_set(why, ENOMEM, "snapshot");
	return err;
}

int snap_chain_open(struct snap_chain **out, int fd, snap_find_fn *find, void *arg,
		    enum snap_chain_depth depth, struct errmsg *why)
{
	struct snap_chain *chain = calloc(1, sizeof(*chain));
	struct walk w = {.chain = chain, .find = find, .arg = arg};

	if (!chain)
		return err_set(why, ENOMEM, "snapshot");
	int err = open_chain(&w, fd, depth, why);
	if (err) {
		snap_chain_close(chain);
		return err;
	}
	*out = chain;
	return 0;
}

int snap_chain_read(struct snap_chain *chain, uint64_t page, void *to, struct errmsg *why)
{
	const struct snap_run *run = snap_runs_find(&chain->runs, page);

	if (!run)
		return err_set(why, ERANGE, "snapshot: page %llu", (unsigned long long)page);
	if (run->kind == SNAP_RUN_ZERO) {
		memset(to, 0, PAGE);
		return 0;
	}
	return image_read_slot(chain->image[run->source], run->off / PAGE + page - run->page,
			       IMAGE_CHECKED, to, why);
}

static int add_source(struct snap_plan *plan, struct snap_image *image, struct errmsg *why)
{
	if (image->index.kind == SNAP_IMAGE_LZ4) {
		err_set(why, 0, "snapshot %s is compressed: it must be promoted to be mapped",
			snap_id_text(image->head.id).text);
		return -EOPNOTSUPP;
	}
	if (plan->source_count == SNAP_SOURCES_MAX)
		return err_set(why, E2BIG, "snapshot: ancestors that hold pages");
	int fd = fcntl(image->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_set(why, errno, "snapshot");
	plan->fd[plan->source_count++] = fd;
	return 0;
}

static int plan_sources(const struct snap_chain *chain, struct snap_plan *plan, uint32_t *number,
			struct errmsg *why)
{
	cleanup_free bool *used = calloc(chain->count + 1, sizeof(bool));
	int err = 0;

	plan->fd = malloc(chain->count * sizeof(int));
	if (!used || !plan->fd)
		return err_set(why, ENOMEM, "snapshot");
	mark_used(&chain->runs, used);
	for (uint32_t i = 0; !err && i < chain->count; i++) {
		if (!used[i])
			continue;
		number[i] = plan->source_count;
		err = add_source(plan, chain->image[i], why);
	}
	return err;
}

int snap_chain_plan(struct snap_chain *chain, struct snap_plan *plan, struct errmsg *why)
{
	struct snap_plan to = {.fd = NULL};
	cleanup_free uint32_t *number = calloc(chain->count, sizeof(*number));

	if (!number)
		return err_set(why, ENOMEM, "snapshot");
	if (chain->runs.count > SNAP_MAPS_MAX)
		return err_set(why, E2BIG, "snapshot: %zu runs of memory", chain->runs.count);
	int err = plan_sources(chain, &to, number, why);
	for (size_t i = 0; !err && i < chain->runs.count; i++) {
		struct snap_run run = chain->runs.run[i];
		if (run.kind == SNAP_RUN_MAP) {
			run.off += chain->image[run.source]->section[SNAP_IMAGE_MEM]->off;
			run.source = number[run.source];
		}
		if (snap_runs_add(&to.runs, &run))
			err = err_set(why, ENOMEM, "snapshot");
	}
	if (err) {
		snap_plan_free(&to);
		return err;
	}
	*plan = to;
	return 0;
}

static bool runs_same(const struct snap_chain *a, const struct snap_chain *b)
{
	if (a->runs.count != b->runs.count)
		return false;
	for (size_t i = 0; i < a->runs.count; i++) {
		const struct snap_run *x = &a->runs.run[i], *y = &b->runs.run[i];
		if (x->page != y->page || x->count != y->count || x->kind != y->kind ||
		    x->off != y->off)
			return false;
		if (x->kind == SNAP_RUN_MAP &&
		    memcmp(a->image[x->source]->head.id, b->image[y->source]->head.id, SNAP_ID_LEN))
			return false;
	}
	return true;
}

int snap_chain_verify(int fd, snap_find_fn *find, void *arg, struct errmsg *why)
{
	struct snap_chain *all = NULL, *needed = NULL;
	int err = snap_chain_open(&all, fd, find, arg, SNAP_CHAIN_ALL, why);

	for (uint32_t i = 0; !err && i < all->count; i++)
		err = snap_image_verify(all->image[i], why);
	if (!err && all->image[0]->chain) {
		err = snap_chain_open(&needed, fd, find, arg, SNAP_CHAIN_NEEDED, why);
		if (!err && !runs_same(all, needed))
			err = image_bad(why,
					"its index of ancestors says something else than they do");
	}
	snap_chain_close(needed);
	snap_chain_close(all);
	return err;
}
