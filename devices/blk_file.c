/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request of ours is one request of the ring; what comes back short is continued where it stopped.
 *
 * Zeroing and discarding are fallocate(2).  Where the file system cannot (ZERO_RANGE on tmpfs), zeroes
 * are written instead, and a discard is left undone, which is allowed.  What cannot be done is learnt
 * from the first refusal and not tried again.
 */
#include "devices/blk_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

struct blk_file {
	struct blk_backend backend;
	int fd;
	bool no_zero_range, no_punch; /* io */
};

uint8_t blk_zeroes[BLK_ZEROES];

static struct blk_file *file_of(struct blk_backend *backend)
{
	return container_of(backend, struct blk_file, backend);
}

unsigned blk_iov_skip(struct iovec **iov, unsigned count, uint64_t bytes)
{
	while (count && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		(*iov)++;
		count--;
	}
	if (count && bytes) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
	return count;
}

static bool is_zeroing(enum blk_kind kind)
{
	return kind == BLK_ZERO || kind == BLK_ZERO_UNMAP;
}

/* The fallocate mode that serves, or -1 where there is none. */
static int file_falloc_mode(const struct blk_file *file, enum blk_kind kind)
{
	if (kind == BLK_ZERO)
		return file->no_zero_range ? -1 : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	return file->no_punch ? -1 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

static void file_write_zeroes(struct blk_file *file, struct blk_op *op)
{
	uint64_t len = op->len - op->pos;

	loop_write(file->backend.loop, &op->io, file->fd, blk_zeroes,
		   (uint32_t)(len < BLK_ZEROES ? len : BLK_ZEROES), op->off + op->pos);
}

static void file_deallocate(struct blk_file *file, struct blk_op *op)
{
	int mode = file_falloc_mode(file, op->kind);

	if (mode >= 0)
		loop_fallocate(file->backend.loop, &op->io, file->fd, mode, op->off, op->len);
	else if (is_zeroing(op->kind))
		file_write_zeroes(file, op);
	else
		op->done(op, 0);
}

static void file_go(struct blk_file *file, struct blk_op *op)
{
	struct loop *loop = file->backend.loop;

	switch (op->kind) {
	case BLK_READ:
		loop_readv(loop, &op->io, file->fd, op->iov, op->count, op->off + op->pos);
		break;
	case BLK_WRITE:
		loop_writev(loop, &op->io, file->fd, op->iov, op->count, op->off + op->pos);
		break;
	case BLK_FLUSH: loop_fdatasync(loop, &op->io, file->fd); break;
	case BLK_DISCARD:
	case BLK_ZERO:
	case BLK_ZERO_UNMAP: file_deallocate(file, op); break;
	}
}

/* Transferred some: the rest follows.  Nothing at all: the file has ended before its size. */
static void file_moved(struct blk_file *file, struct blk_op *op, int res)
{
	if (res == 0) {
		op->done(op, -EIO);
		return;
	}
	op->pos += (unsigned)res;
	if (op->pos >= op->len) {
		op->done(op, 0);
		return;
	}
	if (is_zeroing(op->kind)) {
		file_write_zeroes(file, op);
		return;
	}
	op->count = blk_iov_skip(&op->iov, op->count, (unsigned)res);
	file_go(file, op);
}

static bool file_learn(struct blk_file *file, const struct blk_op *op, int res)
{
	if (res != -EOPNOTSUPP && res != -ENOSYS)
		return false;
	if (file_falloc_mode(file, op->kind) < 0)
		return false;
	*(op->kind == BLK_ZERO ? &file->no_zero_range : &file->no_punch) = true;
	return true;
}

static void file_done(struct loop_op *io, int res)
{
	struct blk_op *op = container_of(io, struct blk_op, io);
	struct blk_file *file = file_of(op->backend);
	bool moves = op->kind == BLK_READ || op->kind == BLK_WRITE;

	if (res == -EINTR || res == -EAGAIN)
		file_go(file, op);
	else if (!moves && op->kind != BLK_FLUSH && file_learn(file, op, res))
		file_deallocate(file, op);
	else if (res < 0)
		op->done(op, res);
	else if (moves || res > 0 || (is_zeroing(op->kind) && op->pos))
		file_moved(file, op, res);
	else
		op->done(op, 0);
}

static void file_submit(struct blk_backend *backend, struct blk_op *op)
{
	assert(op->len <= backend->size && op->off <= backend->size - op->len);
	assert(op->kind == BLK_READ || op->kind == BLK_FLUSH || !backend->read_only);
	op->backend = backend;
	op->io.done = file_done;
	op->pos = 0;
	if (!op->len && op->kind != BLK_FLUSH)
		op->done(op, 0);
	else
		file_go(file_of(backend), op);
}

static void file_destroy(struct blk_backend *backend)
{
	close(file_of(backend)->fd);
	free(file_of(backend));
}

static const struct blk_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.destroy = file_destroy,
};

int blk_file_lock(int fd, enum blk_file_mode mode, const char *name, struct errmsg *why)
{
	bool writes = mode == BLK_FILE_READ_WRITE;
	struct flock lock = {.l_type = writes ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES) {
		err_set(why, 0, "image %s is in use %sby another VM", name,
			writes ? "" : "for writing ");
		return -EBUSY;
	}
	return err_set(why, errno, "image %s: lock", name);
}

static int file_size(int fd, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, size) ? -errno : 0;
	if (!S_ISREG(st.st_mode))
		return -ENOTBLK;
	*size = (uint64_t)st.st_size;
	return 0;
}

int blk_file_create(struct blk_backend **out, int fd, enum blk_file_mode mode, const char *name,
		    struct loop *loop, struct errmsg *why)
{
	uint64_t size = 0;
	int err = file_size(fd, &size);

	if (err == -ENOTBLK)
		return err_set(why, EINVAL, "image %s is neither a file nor a block device", name);
	if (err)
		return err_set(why, err, "image %s: size", name);
	if (size < BLK_SECTOR)
		return err_set(why, EINVAL, "image %s is empty", name);
	err = mode == BLK_FILE_LOCKED_LATER ? 0 : blk_file_lock(fd, mode, name, why);
	if (err)
		return err;
	cleanup_close int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return err_set(why, errno, "image %s: dup", name);
	struct blk_file *file = calloc(1, sizeof(*file));
	if (!file)
		return err_set(why, ENOMEM, "image %s", name);
	file->backend = (struct blk_backend){.ops = &file_ops,
					     .loop = loop,
					     .size = size / BLK_SECTOR * BLK_SECTOR,
					     .grain = 4096,
					     .read_only = mode != BLK_FILE_READ_WRITE};
	file->fd = steal_fd(&own);
	*out = &file->backend;
	return 0;
}
