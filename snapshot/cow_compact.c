/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many sealed layers made one.
 *
 * A block is taken from the topmost layer that says something of it.  Runs of blocks that one layer has are
 * copied by the kernel, which shares the extents where the file system can (copy_file_range(2)), and by
 * hand where it will not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "snapshot/cow.h"

#define COPY_BUF (1u << 20)

struct compact {
	const int *fd;
	unsigned count;
	struct cow_layer *layer;
	uint8_t **map;
	int out_fd;
	struct cow_layer out;
	uint8_t *out_map;
	uint8_t *buf;
};

static void compact_free(struct compact *c)
{
	for (unsigned i = 0; c->map && i < c->count; i++)
		free(c->map[i]);
	free(c->map);
	free(c->layer);
	free(c->out_map);
	free(c->buf);
}

/* Layer `i`: sealed, on the one below it, of the same blocks. */
static int compact_check(const struct compact *c, unsigned i, struct errmsg *why)
{
	const struct cow_layer *l = &c->layer[i], *below = i ? l - 1 : NULL;

	if (!l->sealed)
		return err_set(why, EBADMSG, "layer %u is not sealed", i);
	if (below && (memcmp(l->below_id, below->layer_id, COW_ID_LEN) != 0 ||
		      l->below_size != below->size || l->block_size != below->block_size))
		return err_set(why, EBADMSG, "layer %u was made on another layer", i);
	return 0;
}

static int compact_open(struct compact *c, struct errmsg *why)
{
	c->layer = calloc(c->count, sizeof(*c->layer));
	c->map = calloc(c->count, sizeof(*c->map));
	c->buf = malloc(COPY_BUF);
	if (!c->layer || !c->map || !c->buf)
		return err_set(why, ENOMEM, "layers");
	for (unsigned i = 0; i < c->count; i++) {
		int err = cow_open(c->fd[i], &c->layer[i], why);
		if (!err)
			err = compact_check(c, i, why);
		if (err)
			return err;
		c->map[i] = calloc(1, (size_t)c->layer[i].map_len);
		if (!c->map[i])
			return err_set(why, ENOMEM, "map of layer %u", i);
		err = cow_read_map(c->fd[i], &c->layer[i], c->map[i], why);
		if (err)
			return err_wrap(why, err, "layer %u", i);
	}
	return 0;
}

/* What the stack says of a block, and on COW_HERE which layer has it. */
static enum cow_state compact_state(const struct compact *c, uint64_t block, unsigned *from)
{
	for (unsigned i = c->count; i-- > 0;) {
		enum cow_state state =
			block < c->layer[i].blocks ? cow_map_get(c->map[i], block) : COW_BELOW;
		*from = i;
		if (state != COW_BELOW)
			return state;
	}
	return COW_BELOW;
}

static int copy_by_hand(const struct compact *c, int fd, off_t from, off_t to, size_t len,
			struct errmsg *why)
{
	while (len) {
		ssize_t n = pread(fd, c->buf, len < COPY_BUF ? len : COPY_BUF, from);
		if (n <= 0)
			return err_set(why, n ? errno : EBADMSG, "read blocks");
		if (pwrite(c->out_fd, c->buf, (size_t)n, to) != n)
			return err_set(why, ENOSPC, "write blocks");
		from += n;
		to += n;
		len -= (size_t)n;
	}
	return 0;
}

static int copy_run(const struct compact *c, unsigned i, uint64_t block, uint64_t blocks,
		    struct errmsg *why)
{
	off_t from = (off_t)(c->layer[i].data_off + block * c->out.block_size);
	off_t to = (off_t)(c->out.data_off + block * c->out.block_size);
	size_t len = (size_t)(blocks * c->out.block_size);

	while (len) {
		ssize_t n = copy_file_range(c->fd[i], &from, c->out_fd, &to, len, 0);
		if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT))
			return err_set(why, errno, "copy blocks");
		if (n <= 0) /* EXDEV, EOPNOTSUPP, EINVAL: not here, not these files */
			return copy_by_hand(c, c->fd[i], from, to, len, why);
		len -= (size_t)n;
	}
	return 0;
}

static int compact_blocks(struct compact *c, struct errmsg *why)
{
	uint64_t block = 0;

	while (block < c->out.blocks) {
		unsigned from, next;
		uint64_t first = block;
		enum cow_state state = compact_state(c, block, &from);
		do
			cow_map_set(c->out_map, block++, state);
		while (block < c->out.blocks && compact_state(c, block, &next) == state &&
		       (state != COW_HERE || next == from));
		int err = state == COW_HERE ? copy_run(c, from, first, block - first, why) : 0;
		if (err)
			return err;
	}
	return 0;
}

static int compact_map(const struct compact *c, struct errmsg *why)
{
	for (uint64_t off = 0; off < c->out.map_len; off += COW_MAP_PAGE) {
		if (bytes_zero(c->out_map + off, COW_MAP_PAGE))
			continue;
		ssize_t n = pwrite(c->out_fd, c->out_map + off, COW_MAP_PAGE,
				   (off_t)(COW_HEADER_LEN + off));
		if (n != COW_MAP_PAGE)
			return err_set(why, n < 0 ? errno : ENOSPC, "write map");
	}
	return 0;
}

static int compact_run(struct compact *c, struct errmsg *why)
{
	int err = compact_open(c, why);
	if (err)
		return err;
	const struct cow_layer *top = &c->layer[c->count - 1];
	c->out = *top; /* its identity too: who lies on it finds what it found */
	c->out.below_size = c->layer[0].below_size;
	memcpy(c->out.below_id, c->layer[0].below_id, COW_ID_LEN);
	err = cow_format(c->out_fd, &c->out, why);
	if (err)
		return err;
	c->out_map = calloc(1, (size_t)c->out.map_len);
	if (!c->out_map)
		return err_set(why, ENOMEM, "map");
	err = compact_blocks(c, why);
	if (!err)
		err = cow_data_sync(c->out_fd, why); /* the map never runs ahead of the data */
	if (!err)
		err = compact_map(c, why);
	return err ? err : cow_seal(c->out_fd, why);
}

int cow_compact(int out_fd, const int layer_fd[], unsigned count, struct errmsg *why)
{
	struct compact c = {.fd = layer_fd, .count = count, .out_fd = out_fd};

	if (!count)
		return err_set(why, EINVAL, "no layers");
	int err = compact_run(&c, why);
	compact_free(&c);
	return err ? err_wrap(why, err, "compact") : 0;
}
