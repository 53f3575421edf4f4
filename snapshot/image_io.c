/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/image_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dir.h"
#include "base/fault.h"

int io_read(int fd, void *to, size_t len, uint64_t off, struct errmsg *why)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)to + done, len - done, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(why, errno, "read snapshot");
		if (!n)
			return err_set(why, 0, "snapshot: cut short"), -EBADMSG;
		done += (size_t)n;
	}
	return 0;
}

static int failed(const struct io_stage *stage, const char *what, int err, struct errmsg *why)
{
	return err_set(why, err, "snapshot %s: %s", stage->name, what);
}

static int check_name(const char *name)
{
	size_t len = strlen(name), suffix = strlen(IO_PART);

	if (!len || len >= IO_NAME_MAX || strchr(name, '/') || !strcmp(name, ".") ||
	    !strcmp(name, ".."))
		return -EINVAL;
	return len >= suffix && !strcmp(name + len - suffix, IO_PART) ? -EINVAL : 0;
}

static void part_name(struct io_stage *stage)
{
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (uint64_t)getpid();
	snprintf(stage->part, sizeof(stage->part), ".%s.%08x" IO_PART, stage->name,
		 (unsigned)random);
}

/* A sweep between the two calls may take the file away: then there is no link left. */
static int open_part(struct io_stage *stage)
{
	struct stat st;

	for (unsigned tries = 0; tries < 8; tries++) {
		part_name(stage);
		int err = fault_at("create");
		cleanup_close int fd = err ? -1
					   : openat(stage->dir_fd, stage->part,
						    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (err || fd < 0) {
			stage->part[0] = '\0';
			return err ? err : -errno;
		}
		if (!flock(fd, LOCK_EX) && !fstat(fd, &st) && st.st_nlink)
			return steal_fd(&fd);
	}
	return -EAGAIN;
}

/* An unnamed file, its lock taken before it can be seen. */
static int open_unnamed(const struct io_stage *stage)
{
	int err = fault_at("tmpfile");
	if (err)
		return err;
	cleanup_close int fd = openat(stage->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX))
		return -errno;
	return steal_fd(&fd);
}

int io_stage_open(struct io_stage *stage, int dir_fd, const char *name, struct errmsg *why)
{
	*stage = (struct io_stage){.dir_fd = dir_fd, .fd = -1};
	if (check_name(name))
		return err_set(why, 0, "'%.64s' is no name for a snapshot", name);
	strcpy(stage->name, name);
	stage->fd = open_unnamed(stage);
	/* open(2), O_TMPFILE: these say that the file system or the kernel does not have it */
	if (stage->fd == -EOPNOTSUPP || stage->fd == -EISDIR || stage->fd == -ENOENT)
		stage->fd = open_part(stage);
	if (stage->fd >= 0)
		return 0;
	int err = stage->fd;
	stage->fd = -1;
	return failed(stage, "create", err, why);
}

int io_write(struct io_stage *stage, const void *bytes, size_t len, uint64_t off,
	     struct errmsg *why)
{
	for (size_t done = 0; done < len;) {
		int fault = fault_at("write");
		if (fault < 0)
			return failed(stage, "write", fault, why);
		size_t part = len - done;
		if (fault == FAULT_SHORT && part > 1)
			part /= 2;
		ssize_t n =
			pwrite(stage->fd, (const char *)bytes + done, part, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return failed(stage, "write", n < 0 ? errno : ENOSPC, why);
		done += (size_t)n;
	}
	return 0;
}

void io_start_sync(const struct io_stage *stage, uint64_t off, uint64_t len)
{
	/* Only a head start: io_sync() is what counts, and reports. */
	(void)sync_file_range(stage->fd, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

int io_sync(struct io_stage *stage, struct errmsg *why)
{
	int err = fault_at("fdatasync");

	if (!err && fdatasync(stage->fd))
		err = -errno;
	return err ? failed(stage, "make durable", err, why) : 0;
}

/* AT_EMPTY_PATH would need a capability; /proc does not. */
static int give_name(const struct io_stage *stage, const char *name)
{
	char path[64];
	int err = fault_at("linkat");

	if (err)
		return err;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", stage->fd);
	return linkat(AT_FDCWD, path, stage->dir_fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int rename_part(struct io_stage *stage, enum io_publish how)
{
	int err = fault_at("rename");

	if (!err && renameat2(stage->dir_fd, stage->part, stage->dir_fd, stage->name,
			      how == IO_NEW ? RENAME_NOREPLACE : 0))
		err = -errno;
	/* A file system without RENAME_NOREPLACE (9p): a link fails where there is a name. */
	if (err == -EINVAL && how == IO_NEW) {
		err = linkat(stage->dir_fd, stage->part, stage->dir_fd, stage->name, 0) ? -errno
											: 0;
		if (!err)
			(void)unlinkat(stage->dir_fd, stage->part, 0);
	}
	if (!err)
		stage->part[0] = '\0';
	return err;
}

static int sync_dir(const struct io_stage *stage)
{
	int err = fault_at("fsync");

	return !err && fsync(stage->dir_fd) ? -errno : err;
}

int io_stage_publish(struct io_stage *stage, enum io_publish how, struct errmsg *why)
{
	int err = 0;

	if (!stage->part[0] && how == IO_NEW) {
		err = give_name(stage, stage->name);
		if (err)
			return failed(stage, "give it its name", err, why);
	} else {
		if (!stage->part[0]) {
			part_name(stage);
			err = give_name(stage, stage->part);
			if (err)
				stage->part[0] = '\0';
		}
		if (!err)
			err = rename_part(stage, how);
		if (err)
			return failed(stage, "give it its name", err, why);
	}
	err = sync_dir(stage);
	if (!err)
		return 0;
	/* Not known to be durable: a new name is taken back; what was replaced is gone either way. */
	if (how == IO_NEW)
		(void)unlinkat(stage->dir_fd, stage->name, 0);
	return failed(stage, "make its name durable", err, why);
}

void io_stage_close(struct io_stage *stage)
{
	if (stage->part[0])
		(void)unlinkat(stage->dir_fd, stage->part, 0);
	stage->part[0] = '\0';
	cleanup_close_fn(&stage->fd);
	stage->fd = -1;
}

static int sweep_one(int dir_fd, const char *name)
{
	size_t len = strlen(name), suffix = strlen(IO_PART);

	if (len <= suffix || name[0] != '.' || strcmp(name + len - suffix, IO_PART) != 0)
		return 0;
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) && !unlinkat(dir_fd, name, 0);
}

int io_sweep(int dir_fd)
{
	DIR *dir = dir_names(dir_fd);
	struct dirent *entry;
	int count = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		count += sweep_one(dir_fd, entry->d_name);
	closedir(dir);
	return count;
}
