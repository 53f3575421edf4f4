/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing an overlay.  Everything a layer's file says is checked before it is believed; the
 * chain is checked link by link.  Closing writes the marks that no flush has written yet.
 *
 * Thread: ctl.
 */
#include "devices/blk_cow_int.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/blk_file.h"

static void *map_memory(uint64_t len)
{
	void *p = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void unmap_memory(void *p, uint64_t len)
{
	if (p)
		munmap(p, (size_t)len);
}

/* The marks since the last flush; the data they speak of is in the file already. */
static void cow_write_marks(struct cow *cow)
{
	const struct cow_file *top = cow_top(cow);

	for (uint64_t page = 0; page < cow_map_pages(top); page++)
		if (cow_bit(cow->dirty, page) &&
		    pwrite(cow->top_fd, top->map + page * COW_MAP_PAGE, COW_MAP_PAGE,
			   (off_t)(COW_HEADER_LEN + page * COW_MAP_PAGE)) != COW_MAP_PAGE)
			return; /* unflushed writes may be lost: that is what unflushed means */
}

static void cow_free(struct cow *cow)
{
	struct cow_file *top = cow->layer_count ? cow_top(cow) : NULL;

	if (top)
		unmap_memory(cow->flush.stage, top->map_len);
	for (unsigned i = 0; i < cow->layer_count; i++) {
		unmap_memory(cow->layer[i].map, cow->layer[i].map_len);
		blk_destroy(cow->layer[i].file);
	}
	unmap_memory(cow->bounce, 2ull * cow->block * BLK_COW_INFLIGHT_MAX);
	if (cow->top_fd >= 0)
		close(cow->top_fd);
	free(cow->flush.staged);
	free(cow->dirty);
	free(cow->req);
	free(cow);
}

static void cow_destroy(struct blk_backend *backend)
{
	struct cow *cow = cow_of(backend);

	cow_write_marks(cow);
	blk_destroy(cow->base);
	cow_free(cow);
}

static const struct blk_ops cow_ops = {
	.name = "cow",
	.submit = cow_submit,
	.destroy = cow_destroy,
};

/* Does layer `i` belong where it stands? */
static int cow_check_place(const struct blk_cow_cfg *cfg, unsigned i, const struct cow_layer *layer,
			   const struct cow_layer *below, struct errmsg *why)
{
	const uint8_t *id = below ? below->layer_id : cfg->base_id;
	uint64_t size = below ? below->size : cfg->base ? cfg->base->size : 0;

	if (memcmp(layer->below_id, id, COW_ID_LEN) != 0 || layer->below_size != size)
		return err_set(why, EBADMSG, "layer %u was made on another %s", i,
			       below ? "layer" : "image");
	if (layer->sealed != (i + 1 < cfg->layer_count))
		return err_set(why, EBADMSG, "layer %u is %s", i,
			       layer->sealed ? "sealed" : "not sealed");
	if (below && below->block_size != layer->block_size)
		return err_set(why, EBADMSG, "layer %u has blocks of another size", i);
	return 0;
}

static int cow_open_layer(struct cow *cow, const struct blk_cow_cfg *cfg, unsigned i,
			  const struct cow_layer *layer, struct errmsg *why)
{
	struct cow_file *file = &cow->layer[i];
	bool top = i + 1 == cfg->layer_count;

	cow->layer_count = i + 1;
	file->data_off = layer->data_off;
	file->blocks = layer->blocks;
	file->map_len = layer->map_len;
	file->map = map_memory(layer->map_len);
	if (!file->map)
		return err_set(why, ENOMEM, "layer %u: map", i);
	/* The lock comes first: nobody changes the map that is read behind it. */
	int err = blk_file_create(&file->file, cfg->layer[i],
				  top ? BLK_FILE_READ_WRITE : BLK_FILE_READ_ONLY, cfg->name,
				  cfg->loop, why);
	return err ? err : cow_read_map(cfg->layer[i], layer, file->map, why);
}

static int cow_open_layers(struct cow *cow, const struct blk_cow_cfg *cfg, struct errmsg *why)
{
	struct cow_layer layer[BLK_COW_LAYERS_MAX];

	for (unsigned i = 0; i < cfg->layer_count; i++) {
		int err = cow_open(cfg->layer[i], &layer[i], why);
		if (!err)
			err = cow_check_place(cfg, i, &layer[i], i ? &layer[i - 1] : NULL, why);
		if (!err)
			err = cow_open_layer(cow, cfg, i, &layer[i], why);
		if (err)
			return err;
	}
	cow->block = layer[0].block_size;
	cow->backend = (struct blk_backend){.ops = &cow_ops,
					    .loop = cfg->loop,
					    .size = layer[cfg->layer_count - 1].size,
					    .grain = cow->block};
	return 0;
}

static int cow_alloc(struct cow *cow, struct errmsg *why)
{
	const struct cow_file *top = cow_top(cow);
	size_t words = (size_t)(cow_map_pages(top) + 63) / 64;

	cow->flush.stage = map_memory(top->map_len);
	cow->flush.staged = calloc(words, sizeof(uint64_t));
	cow->dirty = calloc(words, sizeof(uint64_t));
	cow->bounce = map_memory(2ull * cow->block * BLK_COW_INFLIGHT_MAX);
	cow->req = calloc(BLK_COW_INFLIGHT_MAX, sizeof(*cow->req));
	if (!cow->flush.stage || !cow->flush.staged || !cow->dirty || !cow->bounce || !cow->req)
		return err_set(why, ENOMEM, "overlay");
	cow->wait_tail = &cow->wait_head;
	for (unsigned i = 0; i < BLK_COW_INFLIGHT_MAX; i++)
		cow->free[cow->free_count++] = (uint16_t)(BLK_COW_INFLIGHT_MAX - 1 - i);
	return 0;
}

int blk_cow_create(struct blk_backend **out, const struct blk_cow_cfg *cfg, struct errmsg *why)
{
	assert(cfg->layer_count >= 1 && cfg->layer_count <= BLK_COW_LAYERS_MAX);
	struct cow *cow = calloc(1, sizeof(*cow));
	if (!cow)
		return err_set(why, ENOMEM, "disk %s", cfg->name);
	cow->top_fd = -1;
	int err = cow_open_layers(cow, cfg, why);
	if (!err)
		err = cow_alloc(cow, why);
	if (!err) {
		cow->top_fd = fcntl(cfg->layer[cfg->layer_count - 1], F_DUPFD_CLOEXEC, 0);
		if (cow->top_fd < 0)
			err = err_set(why, errno, "dup");
	}
	if (err) {
		cow_free(cow);
		return err_wrap(why, err, "disk %s", cfg->name);
	}
	cow->base = cfg->base;
	*out = &cow->backend;
	return 0;
}
