/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and removing images.  `.lock` in the store's folder is held for the short moments in which a
 * staging folder exists without its own lock: while one is made, and while stale ones are looked for.
 */
#include "supervisor/image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/image/spawn.h"
#include "supervisor/image/tree.h"

#define STAGE_PREFIX ".stage-"

/* A folder may hold files of other user ids, unpacked in a user namespace: only there can they be removed. */
static int remove_stage(const char *path, struct errmsg *why)
{
	const char *const in_namespace[] = {
		"unshare", "--map-root-user", "--map-auto", "--", "rm", "-rf", "--", path, NULL};
	int err = tree_remove(AT_FDCWD, path, why);

	if ((err == -EACCES || err == -EPERM) && geteuid())
		err = image_spawn(in_namespace, why);
	return err;
}

static int open_lock(const char *root, struct errmsg *why)
{
	char path[STORE_PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/.lock", root);
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX))
		return err_set(why, errno, "%s", path);
	return steal_fd(&fd);
}

/* The folder's own lock, or -errno: -EWOULDBLOCK while somebody works in it. */
static int lock_folder(const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB))
		return -errno;
	return steal_fd(&fd);
}

static void sweep(const char *root)
{
	DIR *dir = opendir(root);
	struct dirent *entry;
	char path[STORE_PATH_MAX + 264];

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, STAGE_PREFIX, strlen(STAGE_PREFIX)))
			continue;
		snprintf(path, sizeof(path), "%s/%s", root, entry->d_name);
		cleanup_close int fd = lock_folder(path);
		if (fd >= 0)
			remove_stage(path, NULL);
	}
	if (dir)
		closedir(dir);
}

int store_stage_begin(struct store_stage *stage, struct errmsg *why)
{
	char root[STORE_PATH_MAX];
	int err = store_root(root, why);

	if (!err)
		err = tree_make(root, why);
	if (err)
		return err;
	cleanup_close int lock = open_lock(root, why);
	if (lock < 0)
		return lock;
	sweep(root);
	if (snprintf(stage->path, sizeof(stage->path), "%s/" STAGE_PREFIX "XXXXXX", root) >=
		    (int)sizeof(stage->path) ||
	    !mkdtemp(stage->path))
		return err_set(why, errno, "make a folder in %s", root);
	stage->lock_fd = lock_folder(stage->path);
	return stage->lock_fd < 0 ? err_set(why, stage->lock_fd, "%s", stage->path) : 0;
}

void store_stage_abort(struct store_stage *stage)
{
	remove_stage(stage->path, NULL);
	cleanup_close_fn(&stage->lock_fd);
	stage->lock_fd = -1;
}

static int write_meta(const struct store_stage *stage, const char *name, const char *source,
		      struct errmsg *why)
{
	char path[STORE_PATH_MAX + 16];
	json_t *meta = json_pack("{ss ss sI}", "name", name, "source", source, "created",
				 (json_int_t)time(NULL));

	if (!meta) /* the source is not UTF-8 */
		meta = json_pack("{ss sI}", "name", name, "created", (json_int_t)time(NULL));
	snprintf(path, sizeof(path), "%s/" STORE_META, stage->path);
	int err = json_dump_file(meta, path, JSON_INDENT(2));
	json_decref(meta);
	return err ? err_set(why, errno ? errno : EIO, "%s", path) : 0;
}

static int make_durable(const char *path, struct errmsg *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 || fsync(fd) ? err_set(why, errno, "%s", path) : 0;
}

static int sync_stage(const struct store_stage *stage, struct errmsg *why)
{
	static const char *const files[] = {STORE_FILE, STORE_META, "."};
	char path[STORE_PATH_MAX + 16];
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", stage->path, files[i]);
		err = make_durable(path, why);
	}
	return err;
}

int store_stage_commit(struct store_stage *stage, const char *name, const char *source,
		       enum store_commit how, struct errmsg *why)
{
	char root[STORE_PATH_MAX], final[STORE_PATH_MAX + STORE_NAME_MAX];
	int err = store_root(root, why);

	if (!err)
		err = store_name_check(name, why);
	if (!err)
		err = write_meta(stage, name, source, why);
	if (!err)
		err = sync_stage(stage, why);
	if (err)
		return err;
	snprintf(final, sizeof(final), "%s/%s", root, name);
	if (!renameat2(AT_FDCWD, stage->path, AT_FDCWD, final, RENAME_NOREPLACE)) {
		cleanup_close_fn(&stage->lock_fd);
		return make_durable(root, why);
	}
	if (errno != EEXIST || how == STORE_NEW)
		return errno == EEXIST
			       ? (err_set(why, 0, "there is an image '%s' already: --replace",
					  name),
				  -EEXIST)
			       : err_set(why, errno, "%s", final);
	if (renameat2(AT_FDCWD, stage->path, AT_FDCWD, final, RENAME_EXCHANGE))
		return err_set(why, errno, "%s", final);
	store_stage_abort(stage); /* it is the old image now */
	return make_durable(root, why);
}

/* Somebody holds a lock on it, as every sandbox that runs from it does. */
static int in_use(const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && !fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;
}

int store_remove(const char *name, struct errmsg *why)
{
	char root[STORE_PATH_MAX], from[STORE_PATH_MAX + STORE_NAME_MAX];
	char file[sizeof(from) + sizeof(STORE_FILE)];
	struct store_stage stage;
	int err = store_name_check(name, why);

	if (!err)
		err = store_root(root, why);
	if (err)
		return err;
	snprintf(from, sizeof(from), "%s/%s", root, name);
	snprintf(file, sizeof(file), "%s/" STORE_FILE, from);
	if (access(from, F_OK))
		return err_set(why, 0, "no image '%s' in the store", name), -ENOENT;
	if (in_use(file))
		return err_set(why, 0, "image '%s' is in use by a sandbox", name), -EBUSY;
	err = store_stage_begin(&stage, why);
	if (err)
		return err;
	if (rename(from, stage.path)) /* onto an empty folder: one step */
		err = err_set(why, errno, "image %s", name);
	store_stage_abort(&stage);
	return err;
}
