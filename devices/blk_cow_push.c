/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new layer on a disk that is in use.
 *
 * The push itself moves pointers.  The layer that was the top keeps its map and the list of the pages that its
 * file has not got, apart from the running disk, which finds its blocks by `where` alone: so it can be
 * written out and sealed on another thread while the disk goes on.
 *
 * Until it is sealed its file is locked for this VM; then the lock becomes one for reading, and where the
 * caller gave a descriptor for reading only, the one for writing is closed: nothing here can change it any more.
 */
#include "devices/blk_cow_int.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/blk_file.h"

struct blk_cow_next {
	struct cow_file file;
	struct cow_marks marks;
	struct blk_backend *below; /* or NULL */
	int below_fd;              /* or -1 */
};

void blk_cow_next_destroy(struct blk_cow_next *next)
{
	if (!next)
		return;
	blk_destroy(next->file.file);
	cow_marks_free(&next->marks, next->file.map_len);
	blk_destroy(next->below);
	if (next->below_fd >= 0)
		close(next->below_fd);
	free(next);
}

static int next_check(struct cow *cow, const struct cow_layer *layer, struct errmsg *why)
{
	if (cow->layer_count == BLK_COW_LAYERS_MAX)
		return err_set(why, E2BIG, "there are %d layers", BLK_COW_LAYERS_MAX);
	if (memcmp(layer->below_id, cow_top(cow)->layer_id, COW_ID_LEN) != 0 ||
	    layer->below_size != cow->backend.size)
		return err_set(why, EBADMSG, "the new layer was made on another layer");
	if (layer->sealed || layer->size != cow->backend.size || layer->block_size != cow->block)
		return err_set(why, EBADMSG, "the new layer is sealed, or of another size");
	return 0;
}

/* A second descriptor of the top's own file, for reading only. */
static int next_below(struct blk_cow_next *next, const struct cow *cow, int fd, struct errmsg *why)
{
	struct stat top, below;

	if (fd < 0)
		return 0;
	if (fstat(fd, &below) || fstat(cow->top.fd, &top))
		return err_set(why, errno, "layer below");
	if (below.st_dev != top.st_dev || below.st_ino != top.st_ino ||
	    (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
		return err_set(why, EINVAL, "not the layer below, open for reading only");
	next->below_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (next->below_fd < 0)
		return err_set(why, errno, "layer below: dup");
	return blk_file_create(&next->below, fd, BLK_FILE_LOCKED_LATER, cow->name,
			       cow->backend.loop, why);
}

static int next_fill(struct blk_cow_next *next, struct cow *cow, int fd, int below_fd,
		     struct errmsg *why)
{
	struct cow_layer layer;

	int err = cow_open(fd, &layer, why);
	if (!err)
		err = next_check(cow, &layer, why);
	if (!err)
		err = cow_file_open(&next->file, &layer, fd, cow->name, cow->backend.loop, why);
	if (!err)
		err = cow_marks_create(&next->marks, &next->file, fd, why);
	if (!err)
		err = cow_read_map(fd, &layer, next->marks.map, why);
	if (!err && !bytes_zero(next->marks.map, layer.map_len))
		err = err_set(why, EBADMSG, "the new layer is not empty");
	return err ? err : next_below(next, cow, below_fd, why);
}

int blk_cow_next_create(struct blk_cow_next **out, struct blk_backend *disk, int fd, int below_fd,
			struct errmsg *why)
{
	struct cow *cow = cow_of(disk);
	struct blk_cow_next *next = calloc(1, sizeof(*next));

	if (!next)
		return err_set(why, ENOMEM, "disk %s", cow->name);
	next->marks.fd = next->below_fd = -1;
	int err = next_fill(next, cow, fd, below_fd, why);
	if (err) {
		blk_cow_next_destroy(next);
		return err_wrap(why, err, "disk %s", cow->name);
	}
	*out = next;
	return 0;
}

int blk_cow_push(struct blk_backend *disk, struct blk_cow_next *next)
{
	struct cow *cow = cow_of(disk);
	struct cow_file *old = cow_top(cow);

	assert(!cow->holding_count && !cow->wait_head && !cow->flush.running);
	assert(cow->free_count == BLK_COW_INFLIGHT_MAX);
	assert(memcmp(next->file.layer_id, old->layer_id, COW_ID_LEN) != 0);
	if (cow->seal.due || cow->layer_count == BLK_COW_LAYERS_MAX)
		return -EBUSY;
	cow->seal.due = true;
	cow->seal.layer = *old;
	cow->seal.marks = cow->top;
	cow->seal.below_fd = next->below_fd;
	if (next->below)
		old->file = next->below;
	else
		cow->seal.layer.file = NULL; /* it stays the layer's */
	cow->layer[cow->layer_count++] = next->file;
	cow->top = next->marks;
	free(next);
	return 0;
}

/* Others may read it from here on, and nothing of ours writes to it. */
static int seal_unlock(struct cow *cow, struct errmsg *why)
{
	int err = blk_file_lock(cow->seal.marks.fd, BLK_FILE_READ_ONLY, cow->name, why);

	if (!err && cow->seal.below_fd >= 0)
		err = blk_file_lock(cow->seal.below_fd, BLK_FILE_READ_ONLY, cow->name, why);
	return err;
}

int blk_cow_seal_finish(struct blk_backend *disk, struct errmsg *why)
{
	struct cow *cow = cow_of(disk);

	if (!cow->seal.due)
		return 0;
	int err = cow_data_sync(cow->seal.marks.fd, why);
	if (!err) {
		err = cow_marks_write(&cow->seal.marks, cow->seal.layer.map_len);
		if (err)
			err_set(why, err, "map");
	}
	if (!err)
		err = cow_seal(cow->seal.marks.fd, why);
	if (!err)
		err = seal_unlock(cow, why);
	if (err)
		return err_wrap(why, err, "disk %s: seal", cow->name);
	cow_seal_drop(cow);
	return 0;
}

unsigned blk_cow_layer_ids(const struct blk_backend *disk, uint8_t id[][COW_ID_LEN], unsigned max)
{
	const struct cow *cow = (const void *)((const char *)disk - offsetof(struct cow, backend));

	for (unsigned i = 0; i < cow->layer_count && i < max; i++)
		memcpy(id[i], cow->layer[i].layer_id, COW_ID_LEN);
	return cow->layer_count;
}
