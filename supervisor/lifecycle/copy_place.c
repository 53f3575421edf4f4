/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/copy_place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define PERMISSIONS 0777u

int copy_open_beneath(int root, const char *path, struct errmsg *why)
{
	const struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? err_set(why, errno, "open the folder") : fd;
}

int copy_make_folder(int parent, const char *name, uint32_t mode, struct errmsg *why)
{
	struct stat st;

	if (!mkdirat(parent, name, (mode & PERMISSIONS) | 0700))
		return 0;
	if (errno != EEXIST)
		return err_set(why, errno, "make the folder");
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode))
		return err_set(why, ENOTDIR, "make the folder");
	return 0;
}

static void temp_name(char *out, size_t cap)
{
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = clock_now(); /* the name need only be new: O_EXCL decides */
	snprintf(out, cap, ".spore-%016llx", (unsigned long long)random);
}

int copy_make_link(int parent, const char *name, const char *target, struct errmsg *why)
{
	char temp[32];

	temp_name(temp, sizeof(temp));
	if (symlinkat(target, parent, temp))
		return err_set(why, errno, "make the link");
	if (!renameat(parent, temp, parent, name))
		return 0;
	int err = errno;
	unlinkat(parent, temp, 0);
	return err_set(why, err, "make the link");
}

int copy_place_begin(struct copy_place *place, int parent, struct errmsg *why)
{
	*place = (struct copy_place){.parent = parent};
	place->fd = openat(parent, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (place->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return err_set(why, errno, "make the file");
	temp_name(place->temp, sizeof(place->temp));
	place->fd = openat(parent, place->temp,
			   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (place->fd >= 0)
		return 0;
	int err = errno;
	place->temp[0] = '\0';
	return err_set(why, err, "make the file");
}

/* A file without a name gets `name` at once, or a temporary one when that is taken.  1: it has its name. */
static int give_name(struct copy_place *place, const char *name)
{
	char self[32];

	if (place->temp[0])
		return 0;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", place->fd);
	if (!linkat(AT_FDCWD, self, place->parent, name, AT_SYMLINK_FOLLOW))
		return 1;
	if (errno != EEXIST)
		return -errno;
	temp_name(place->temp, sizeof(place->temp));
	if (!linkat(AT_FDCWD, self, place->parent, place->temp, AT_SYMLINK_FOLLOW))
		return 0;
	place->temp[0] = '\0';
	return -errno;
}

static int64_t seconds_of(int64_t ns)
{
	return ns / (int64_t)NS_PER_SEC - (ns % (int64_t)NS_PER_SEC < 0);
}

int copy_place_commit(struct copy_place *place, const char *name, uint32_t mode, int64_t mtime_ns,
		      struct errmsg *why)
{
	int64_t seconds = seconds_of(mtime_ns);
	const struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = seconds, .tv_nsec = mtime_ns - seconds * (int64_t)NS_PER_SEC},
	};

	if (fchmod(place->fd, mode & PERMISSIONS))
		return err_set(why, errno, "set the mode");
	futimens(place->fd, times); /* a time that this file system cannot hold is no loss */
	int named = give_name(place, name);
	if (named == 1)
		return 0;
	if (named < 0)
		return err_set(why, named, "name the file");
	if (renameat(place->parent, place->temp, place->parent, name))
		return err_set(why, errno, "name the file");
	place->temp[0] = '\0';
	return 0;
}

void copy_place_end(struct copy_place *place)
{
	if (place->temp[0])
		unlinkat(place->parent, place->temp, 0);
	cleanup_close_fn(&place->fd);
	place->fd = -1;
}
