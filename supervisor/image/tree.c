/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/image/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/ckd.h"

#define COPY_CHUNK 65536

typedef int (*tree_visit)(int at, const char *name, unsigned depth, void *arg, struct errmsg *why);

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* Calls visit() for every entry of a folder.  @fd: taken over. */
static int each_entry(int fd, unsigned depth, tree_visit visit, void *arg, struct errmsg *why)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	int err = 0;

	if (!dir) {
		close(fd);
		return err_set(why, errno, "folder");
	}
	while (!err && (errno = 0, entry = readdir(dir)))
		if (!is_dot(entry->d_name))
			err = visit(dirfd(dir), entry->d_name, depth + 1, arg, why);
	if (!err && errno)
		err = err_set(why, errno, "read folder");
	closedir(dir);
	return err;
}

static int open_folder(int at, const char *name, struct errmsg *why)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_set(why, errno, "open folder %s", name) : fd;
}

static int remove_entry(int at, const char *name, unsigned depth, void *arg, struct errmsg *why)
{
	if (!unlinkat(at, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_set(why, errno, "remove %s", name);
	if (depth > TREE_DEPTH_MAX)
		return err_set(why, ELOOP, "remove %s", name);
	int fd = open_folder(at, name, why);
	int err = fd < 0 ? fd : each_entry(fd, depth, remove_entry, arg, why);
	if (!err && unlinkat(at, name, AT_REMOVEDIR))
		err = err_set(why, errno, "remove folder %s", name);
	return err;
}

int tree_remove(int at, const char *name, struct errmsg *why)
{
	return remove_entry(at, name, 0, NULL, why);
}

int tree_empty(int dir_fd, struct errmsg *why)
{
	int fd = open_folder(dir_fd, ".", why);

	return fd < 0 ? fd : each_entry(fd, 0, remove_entry, NULL, why);
}

int tree_make(const char *path, struct errmsg *why)
{
	cleanup_free char *copy = strdup(path);

	if (!copy)
		return err_set(why, ENOMEM, "folder");
	for (char *at = copy + 1;; at++) {
		if (*at && *at != '/')
			continue;
		char end = *at;
		*at = '\0';
		if (mkdir(copy, 0700) && errno != EEXIST)
			return err_set(why, errno, "make folder %s", copy);
		if (!end)
			return 0;
		*at = end;
	}
}

static bool all_zero(const char *buf, size_t len)
{
	return !len || (!buf[0] && !memcmp(buf, buf + 1, len - 1));
}

static int write_at(int fd, const char *buf, size_t len, off_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, at);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
			at += n;
		}
	}
	return 0;
}

/* The next byte that is not in a hole, or `size`. */
static off_t next_data(int fd, off_t at, off_t size)
{
	off_t data = lseek(fd, at, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? size : at;
	return data - data % COPY_CHUNK > at ? data - data % COPY_CHUNK : at;
}

int tree_copy_sparse(int from, int to, struct errmsg *why)
{
	static _Thread_local char buf[COPY_CHUNK];
	struct stat st;

	if (fstat(from, &st))
		return err_set(why, errno, "copy");
	if (ftruncate(to, st.st_size))
		return err_set(why, errno, "copy: make room for %lld bytes", (long long)st.st_size);
	for (off_t at = next_data(from, 0, st.st_size); at < st.st_size;) {
		ssize_t n = pread(from, buf, sizeof(buf), at);
		if (n < 0)
			return err_set(why, errno, "copy: read");
		if (!n)
			return err_set(why, 0, "copy: the file has shrunk");
		int err = all_zero(buf, (size_t)n) ? 0 : write_at(to, buf, (size_t)n, at);
		if (err)
			return err_set(why, err, "copy: write");
		at = next_data(from, at + n, st.st_size);
	}
	return 0;
}

struct measure {
	uint64_t *bytes, *entries;
};

static int measure_entry(int at, const char *name, unsigned depth, void *arg, struct errmsg *why)
{
	struct measure *m = arg;
	struct stat st;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW))
		return err_set(why, errno, "stat %s", name);
	*m->entries += 1;
	*m->bytes += S_ISREG(st.st_mode) ? align_up((uint64_t)st.st_size, 4096) : 4096;
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (depth > TREE_DEPTH_MAX)
		return err_set(why, ELOOP, "measure %s", name);
	int fd = open_folder(at, name, why);
	return fd < 0 ? fd : each_entry(fd, depth, measure_entry, arg, why);
}

int tree_measure(int at, const char *name, uint64_t *bytes, uint64_t *entries, struct errmsg *why)
{
	struct measure m = {.bytes = bytes, .entries = entries};

	*bytes = *entries = 0;
	return measure_entry(at, name, 0, &m, why);
}
