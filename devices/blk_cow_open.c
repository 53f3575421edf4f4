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

int cow_marks_write(const struct cow_marks *marks, uint64_t map_len)
{
	for (uint64_t page = 0; page < map_len / COW_MAP_PAGE; page++) {
		if (!cow_bit(marks->dirty, page))
			continue;
		ssize_t n = pwrite(marks->fd, marks->map + page * COW_MAP_PAGE, COW_MAP_PAGE,
				   (off_t)(COW_HEADER_LEN + page * COW_MAP_PAGE));
		if (n != COW_MAP_PAGE)
			return n < 0 ? -errno : -EIO;
	}
	return 0;
}

void cow_marks_free(struct cow_marks *marks, uint64_t map_len)
{
	unmap_memory(marks->map, map_len);
	unmap_memory(marks->stage, map_len);
	free(marks->dirty);
	free(marks->staged);
	if (marks->fd >= 0)
		close(marks->fd);
	*marks = (struct cow_marks){.fd = -1};
}

int cow_marks_create(struct cow_marks *marks, const struct cow_file *file, int fd,
		     struct errmsg *why)
{
	size_t words = (size_t)(cow_map_pages(file) + 63) / 64;

	*marks = (struct cow_marks){
		.map = map_memory(file->map_len),
		.dirty = calloc(words, sizeof(uint64_t)),
		.stage = map_memory(file->map_len),
		.staged = calloc(words, sizeof(uint64_t)),
		.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
	};
	if (marks->map && marks->dirty && marks->stage && marks->staged && marks->fd >= 0)
		return 0;
	int err = marks->fd < 0 ? errno : ENOMEM;
	cow_marks_free(marks, file->map_len);
	return err_set(why, err, "layer's map");
}

void cow_seal_drop(struct cow *cow)
{
	if (!cow->seal.due)
		return;
	blk_destroy(cow->seal.layer.file);
	cow_marks_free(&cow->seal.marks, cow->seal.layer.map_len);
	if (cow->seal.below_fd >= 0)
		close(cow->seal.below_fd);
	memset(&cow->seal, 0, sizeof(cow->seal));
}

static void cow_free(struct cow *cow)
{
	if (cow->top.map)
		cow_marks_free(&cow->top, cow_top(cow)->map_len);
	cow_seal_drop(cow);
	if (cow->where)
		unmap_memory(cow->where, cow_blocks(cow));
	for (unsigned i = 0; i < cow->layer_count; i++)
		blk_destroy(cow->layer[i].file);
	unmap_memory(cow->bounce, 2ull * cow->block * BLK_COW_INFLIGHT_MAX);
	free(cow->req);
	free(cow);
}

static void cow_destroy(struct blk_backend *backend)
{
	struct cow *cow = cow_of(backend);

	/* Writes that were not flushed may be lost: that is what unflushed means. */
	if (cow->seal.due)
		(void)!cow_marks_write(&cow->seal.marks, cow->seal.layer.map_len);
	(void)!cow_marks_write(&cow->top, cow_top(cow)->map_len);
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

int cow_file_open(struct cow_file *file, const struct cow_layer *layer, int fd, const char *name,
		  struct loop *loop, struct errmsg *why)
{
	*file = (struct cow_file){
		.data_off = layer->data_off, .blocks = layer->blocks, .map_len = layer->map_len};
	memcpy(file->layer_id, layer->layer_id, COW_ID_LEN);
	return blk_file_create(&file->file, fd,
			       layer->sealed ? BLK_FILE_READ_ONLY : BLK_FILE_READ_WRITE, name, loop,
			       why);
}

/* What this layer says of each block goes over what those below it say. */
static void cow_merge(struct cow *cow, const uint8_t *map, unsigned index)
{
	for (uint64_t block = 0; block < cow->layer[index].blocks; block++) {
		enum cow_state state;
		if (!map[block / 4]) { /* four blocks that lie below: most are */
			block |= 3;
			continue;
		}
		state = cow_map_get(map, block);
		if (state != COW_BELOW)
			cow->where[block] = (uint8_t)(state == COW_HERE ? index + 1 : WHERE_ZERO);
	}
}

static int cow_read_layer(struct cow *cow, unsigned index, int fd, const struct cow_layer *layer,
			  uint8_t *map, struct errmsg *why)
{
	int err = cow_read_map(fd, layer, map, why);
	if (!err)
		cow_merge(cow, map, index);
	return err;
}

/* The lock comes first: nobody changes the map that is read behind it. */
static int cow_open_layer(struct cow *cow, const struct blk_cow_cfg *cfg, unsigned i,
			  const struct cow_layer *layer, struct errmsg *why)
{
	int fd = cfg->layer[i];

	cow->layer_count = i + 1;
	int err = cow_file_open(&cow->layer[i], layer, fd, cfg->name, cfg->loop, why);
	if (!err && i + 1 == cfg->layer_count) {
		err = cow_marks_create(&cow->top, &cow->layer[i], fd, why);
		return err ? err : cow_read_layer(cow, i, fd, layer, cow->top.map, why);
	}
	if (err)
		return err;
	uint8_t *map = map_memory(layer->map_len);
	if (!map)
		return err_set(why, ENOMEM, "layer %u: map", i);
	err = cow_read_layer(cow, i, fd, layer, map, why);
	unmap_memory(map, layer->map_len);
	return err;
}

/* All headers first: the top one says how large the disk is. */
static int cow_open_layers(struct cow *cow, const struct blk_cow_cfg *cfg, struct errmsg *why)
{
	cleanup_free struct cow_layer *layer = calloc(cfg->layer_count, sizeof(*layer));
	int err = layer ? 0 : err_set(why, ENOMEM, "layers");

	for (unsigned i = 0; !err && i < cfg->layer_count; i++) {
		err = cow_open(cfg->layer[i], &layer[i], why);
		if (!err)
			err = cow_check_place(cfg, i, &layer[i], i ? &layer[i - 1] : NULL, why);
	}
	if (err)
		return err;
	const struct cow_layer *top = &layer[cfg->layer_count - 1];
	cow->block = top->block_size;
	cow->backend = (struct blk_backend){
		.ops = &cow_ops, .loop = cfg->loop, .size = top->size, .grain = cow->block};
	cow->where = map_memory(cow_blocks(cow));
	if (!cow->where)
		return err_set(why, ENOMEM, "where the blocks are");
	for (unsigned i = 0; !err && i < cfg->layer_count; i++)
		err = cow_open_layer(cow, cfg, i, &layer[i], why);
	return err;
}

bool blk_is_cow(const struct blk_backend *backend)
{
	return backend->ops == &cow_ops;
}

static int cow_alloc(struct cow *cow, struct errmsg *why)
{
	cow->bounce = map_memory(2ull * cow->block * BLK_COW_INFLIGHT_MAX);
	cow->req = calloc(BLK_COW_INFLIGHT_MAX, sizeof(*cow->req));
	if (!cow->bounce || !cow->req)
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
	cow->top.fd = cow->seal.marks.fd = -1;
	strncpy(cow->name, cfg->name, sizeof(cow->name) - 1);
	int err = cow_open_layers(cow, cfg, why);
	if (!err)
		err = cow_alloc(cow, why);
	if (err) {
		cow_free(cow);
		return err_wrap(why, err, "disk %s", cfg->name);
	}
	cow->base = cfg->base;
	*out = &cow->backend;
	return 0;
}
