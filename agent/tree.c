/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.c - folders: list, make, move, remove
 *
 * Walks hold one descriptor per level and never follow a symlink below their root, so that a tree
 * which somebody changes meanwhile cannot lead them elsewhere.  Runs in a worker.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/file.h"

#define NAMES_BYTES_MAX  (64u << 20) /* of one folder's names, while they are sorted */
#define REMOVE_DEPTH_MAX 1000u
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int open_folder(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* --- list ------------------------------------------------------------------------------------- */

struct names {
	char **name;
	size_t count, cap, bytes;
};

static int names_add(struct names *names, const char *name)
{
	names->bytes += strlen(name) + 1 + sizeof(char *);
	if (names->bytes > NAMES_BYTES_MAX)
		return -E2BIG;
	if (names->count == names->cap) {
		size_t cap = names->cap ? names->cap * 2 : 64;
		char **more = realloc(names->name, cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		names->name = more;
		names->cap = cap;
	}
	names->name[names->count] = strdup(name);
	return names->name[names->count++] ? 0 : -ENOMEM;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

/* Does not close fd. */
static int names_read(struct names *names, int fd)
{
	DIR *dir = fdopendir(dup(fd));
	const struct dirent *entry;
	int err = dir ? 0 : -errno;

	while (err == 0 && (entry = readdir(dir))) {
		if (!is_dots(entry->d_name))
			err = names_add(names, entry->d_name);
	}
	if (dir)
		closedir(dir);
	if (err == 0 && names->count)
		qsort(names->name, names->count, sizeof(*names->name), by_bytes);
	return err;
}

struct walk {
	struct job *job;
	char path[AGENT_PATH_MAX]; /* below the root */
	uint64_t count;
	uint32_t depth; /* levels to go down */
};

static int list_folder(struct walk *walk, int fd, size_t len, uint32_t level);

static int list_entry(struct walk *walk, int fd, const char *name, size_t len, uint32_t level)
{
	size_t name_len = strlen(name);
	size_t start = len ? len + 1 : 0;

	if (start + name_len + 1 > sizeof(walk->path))
		return 0; /* deeper than a path can say */
	if (len)
		walk->path[len] = '/';
	memcpy(walk->path + start, name, name_len + 1);
	if (job_send_entry(walk->job, fd, name, walk->path) < 0)
		return 0; /* gone meanwhile */
	walk->count++;
	if (level >= walk->depth)
		return 0;
	int sub = open_folder(fd, name);
	if (sub < 0)
		return 0; /* no folder, or not ours to read */
	int err = list_folder(walk, sub, start + name_len, level + 1);
	close(sub);
	return err;
}

static int list_folder(struct walk *walk, int fd, size_t len, uint32_t level)
{
	struct names names = {0};
	int err = names_read(&names, fd);

	for (size_t i = 0; i < names.count && err == 0; i++)
		err = list_entry(walk, fd, names.name[i], len, level);
	names_free(&names);
	return err;
}

void job_list(struct job *job)
{
	static struct walk walk;

	walk.job = job;
	walk.depth = job->file.depth;
	if (walk.depth == 0 || walk.depth > AGENT_LIST_DEPTH_MAX)
		worker_fail(job->w, EINVAL, AGENT_STAGE_FILE, "depth must be 1 to %u",
			    AGENT_LIST_DEPTH_MAX);
	int fd = open(job->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* the root may be a link */
	if (fd < 0)
		job_fail(job, errno, "list");
	int err = list_folder(&walk, fd, 0, 1);
	if (err < 0)
		job_fail(job, err, "list");
	worker_value(job->w, AGENT_END, walk.count);
}

/* --- make, move ------------------------------------------------------------------------------- */

/* Takes slashes off the end: mkdir "a/" is mkdir "a". */
static void trim(char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
}

void job_mkdir(struct job *job)
{
	bool parents = job->file.flags & AGENT_FILE_PARENTS;
	mode_t mode = job->file.mode == AGENT_MODE_KEEP ? 0755 : job->file.mode;
	struct stat st;

	trim(job->path);
	int made = parents ? make_parents(job->path) : 0;
	if (made < 0)
		job_fail(job, made, "mkdir");
	if (mkdir(job->path, mode) == 0) {
		/* The mode is what was asked for, whatever the umask. */
		if (job->file.mode != AGENT_MODE_KEEP && chmod(job->path, mode) < 0)
			job_fail(job, errno, "mkdir");
		made++;
	} else if (errno != EEXIST || !parents) {
		job_fail(job, errno, "mkdir");
	} else if (stat(job->path, &st) < 0 || !S_ISDIR(st.st_mode)) {
		job_fail(job, ENOTDIR, "mkdir");
	}
	worker_value(job->w, AGENT_OK, (uint64_t)made);
}

void job_move(struct job *job)
{
	char to[AGENT_PATH_MAX];
	unsigned flags = job->file.flags & AGENT_FILE_EXCL ? RENAME_NOREPLACE : 0;
	int err = job_path(job, job->arg, to);
	struct stat st;

	if (err < 0)
		job_fail(job, err, "move");
	if (lstat(job->path, &st) < 0) /* before making folders for it */
		job_fail(job, errno, "move");
	trim(to);
	if (job->file.flags & AGENT_FILE_PARENTS)
		err = make_parents(to);
	if (err < 0)
		job_fail(job, err, "move");
	if (syscall(SYS_renameat2, AT_FDCWD, job->path, AT_FDCWD, to, flags) < 0)
		job_fail(job, errno, "move");
	err = job_send_entry(job, AT_FDCWD, to, job->arg);
	if (err < 0)
		job_fail(job, err, "move");
}

/* --- remove ----------------------------------------------------------------------------------- */

static int remove_at(int fd, const char *name, unsigned depth, uint64_t *count);

/* Empties a folder; closes it. */
static int remove_inside(int fd, unsigned depth, uint64_t *count)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *entry;
	int err = 0;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (err == 0 && (entry = readdir(dir))) {
		if (!is_dots(entry->d_name))
			err = remove_at(dirfd(dir), entry->d_name, depth, count);
		if (err == -ENOENT)
			err = 0; /* somebody else was faster */
	}
	closedir(dir);
	return err;
}

static int remove_at(int fd, const char *name, unsigned depth, uint64_t *count)
{
	if (unlinkat(fd, name, 0) == 0) {
		++*count;
		return 0;
	}
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth >= REMOVE_DEPTH_MAX)
		return -ELOOP;
	int sub = open_folder(fd, name);
	if (sub == -ENOTDIR || sub == -ELOOP)
		return -EPERM; /* no folder: unlink meant what it said */
	int err = sub < 0 ? sub : remove_inside(sub, depth + 1, count);
	/* An empty folder may go even when it may not be read. */
	if (unlinkat(fd, name, AT_REMOVEDIR) < 0)
		return err < 0 ? err : -errno;
	++*count;
	return 0;
}

void job_remove(struct job *job)
{
	const struct rlimit many = job->w->agent->nofile;
	struct rlimit limit = {.rlim_cur = many.rlim_max, .rlim_max = many.rlim_max};
	const char *name;
	uint64_t count = 0;

	setrlimit(RLIMIT_NOFILE, &limit); /* one descriptor per level */
	trim(job->path);
	int folder = open_parent(job->path, &name, PARENTS_MUST_EXIST);
	int err = folder;
	if (folder >= 0 && job->file.flags & AGENT_FILE_RECURSIVE)
		err = remove_at(folder, name, 0, &count);
	else if (folder >= 0) {
		err = unlinkat(folder, name, 0) < 0 ? -errno : 0;
		if (err == -EISDIR || err == -EPERM)
			err = unlinkat(folder, name, AT_REMOVEDIR) < 0 ? -errno : 0;
		count = err == 0;
	}
	if (err == -ENOENT && job->file.flags & AGENT_FILE_MISSING_OK)
		err = 0;
	if (err < 0)
		job_fail(job, err, "remove");
	worker_value(job->w, AGENT_OK, count);
}
