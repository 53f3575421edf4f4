/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/image/unpack_put.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/image/tree.h"

#define DATA_BLOCK  65536
#define MODE_BITS   07777u
#define FOLDER_MODE 0755

int unpack_clean(const char *path, char *out, struct errmsg *why)
{
	size_t used = 0;

	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");
		if (len == 2 && !memcmp(at, "..", 2))
			return err_set(why, 0, "archive: '..' in a name"), -EBADMSG;
		if (len && !(len == 1 && *at == '.')) {
			if (used + len + 2 > UNPACK_PATH_MAX)
				return err_set(why, 0, "archive: a name is too long"), -EBADMSG;
			if (used)
				out[used++] = '/';
			memcpy(out + used, at, len);
			used += len;
		}
		at += len + (at[len] == '/');
	}
	out[used] = '\0';
	return 0;
}

/* As if the image's folder were "/": its links lead nowhere else. */
static int open_in_root(int root, const char *path, uint64_t flags)
{
	const struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int unpack_open_folder(int root, const char *path, struct errmsg *why)
{
	int fd = open_in_root(root, path, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? err_set(why, fd, "open the folder") : fd;
}

/* Missing parents are made: not every archive lists them. */
static int open_parent(int root, const char *path, struct errmsg *why)
{
	char folder[UNPACK_PATH_MAX];
	const char *slash = strrchr(path, '/');

	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) : 0, path);
	int fd = open_in_root(root, folder, O_PATH | O_DIRECTORY);
	if (fd != -ENOENT || !*folder)
		return fd < 0 ? err_set(why, fd, "open the folder") : fd;
	cleanup_close int above = open_parent(root, folder, why);
	if (above < 0)
		return above;
	const char *name = strrchr(folder, '/');
	if (mkdirat(above, name ? name + 1 : folder, FOLDER_MODE) && errno != EEXIST)
		return err_set(why, errno, "make the folder");
	fd = open_in_root(root, folder, O_PATH | O_DIRECTORY);
	return fd < 0 ? err_set(why, fd, "open the folder") : fd;
}

static int copy_data(struct unpack *u, struct archive *a, int fd, struct errmsg *why)
{
	const void *block;
	size_t len;
	la_int64_t at;
	int got;

	while ((got = archive_read_data_block(a, &block, &len, &at)) == ARCHIVE_OK) {
		if (len > u->bytes_left)
			return err_set(why, 0, "the archive unpacks to more than allowed"), -EFBIG;
		u->bytes_left -= len;
		for (size_t done = 0; done < len;) {
			ssize_t n = pwrite(fd, (const char *)block + done, len - done,
					   at + (off_t)done);
			if (n < 0 && errno != EINTR)
				return err_set(why, errno, "write");
			done += n > 0 ? (size_t)n : 0;
		}
	}
	if (got != ARCHIVE_EOF)
		return err_set(why, 0, "%.200s", archive_error_string(a)), -EBADMSG;
	return 0;
}

static int put_file(struct unpack *u, struct archive *a, struct archive_entry *e, int parent,
		    const char *name, struct errmsg *why)
{
	cleanup_close int fd =
		openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_set(why, errno, "make the file");
	int err = copy_data(u, a, fd, why);
	if (err)
		return err;
	if (archive_entry_size_is_set(e) && ftruncate(fd, archive_entry_size(e)))
		return err_set(why, errno, "size of the file"); /* a sparse one may end in a hole */
	return 0;
}

static int put_hardlink(struct unpack *u, const char *target, int parent, const char *name,
			struct errmsg *why)
{
	char path[UNPACK_PATH_MAX];
	int err = unpack_clean(target, path, why);

	if (err)
		return err;
	cleanup_close int from = open_parent(u->root, path, why);
	if (from < 0)
		return from;
	const char *slash = strrchr(path, '/');
	if (linkat(from, slash ? slash + 1 : path, parent, name, 0))
		return err_set(why, errno, "hard link to %.200s", path);
	return 0;
}

static int put_folder(int parent, const char *name, struct errmsg *why)
{
	struct stat st;

	if (!fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
		return 0;
	return mkdirat(parent, name, FOLDER_MODE) ? err_set(why, errno, "make the folder") : 0;
}

/* Whatever stands there makes room, but a folder for a folder. */
static int make_room(int parent, const char *name, mode_t type, struct errmsg *why)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : err_set(why, errno, "look");
	if (S_ISDIR(st.st_mode) && type == AE_IFDIR)
		return 0;
	return tree_remove(parent, name, why);
}

static void put_xattrs(struct unpack *u, struct archive_entry *e, const char *fd_path)
{
	const char *name;
	const void *value;
	size_t len;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK)
		if (name && lsetxattr(fd_path, name, value, len, 0))
			u->attributes_lost++;
}

/* Owner first: changing it clears set-id bits.  Links have no mode. */
static int put_attributes(struct unpack *u, struct archive_entry *e, int parent, const char *name,
			  mode_t type, struct errmsg *why)
{
	const struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e)},
	};
	char fd_path[32];

	if (fchownat(parent, name, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e),
		     AT_SYMLINK_NOFOLLOW))
		u->owners_lost++;
	if (type == AE_IFREG || type == AE_IFDIR) {
		cleanup_close int fd =
			openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			return err_set(why, errno, "open again");
		snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fd);
		if (archive_entry_xattr_count(e)) {
			char real[64];
			snprintf(real, sizeof(real), "%s/.", fd_path);
			put_xattrs(u, e, type == AE_IFDIR ? real : fd_path);
		}
		if (fchmod(fd, archive_entry_perm(e) & MODE_BITS))
			return err_set(why, errno, "set the mode");
	}
	utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

/* 1: this kind is left out. */
static int put_object(struct unpack *u, struct archive *a, struct archive_entry *e, int parent,
		      const char *name, struct errmsg *why)
{
	switch (archive_entry_filetype(e)) {
	case AE_IFREG: return put_file(u, a, e, parent, name, why);
	case AE_IFDIR: return put_folder(parent, name, why);
	case AE_IFLNK:
		if (symlinkat(archive_entry_symlink(e), parent, name))
			return err_set(why, errno, "make the link");
		return 0;
	case AE_IFIFO:
		return mkfifoat(parent, name, 0600) ? err_set(why, errno, "make the FIFO") : 0;
	default: return 1;
	}
}

/* The top itself: its mode and owner only. */
static int put_top(struct unpack *u, struct archive_entry *e, struct errmsg *why)
{
	return archive_entry_filetype(e) == AE_IFDIR
		       ? put_attributes(u, e, u->root, ".", AE_IFDIR, why)
		       : 0;
}

int unpack_put(struct unpack *u, struct archive *a, struct archive_entry *e, const char *path,
	       struct errmsg *why)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	const char *target = archive_entry_hardlink(e);
	mode_t type = archive_entry_filetype(e);

	if (!*path)
		return put_top(u, e, why);
	cleanup_close int parent = open_parent(u->root, path, why);
	if (parent < 0)
		return parent;
	int err = make_room(parent, name, target ? AE_IFREG : type, why);
	if (err)
		return err;
	if (target)
		return put_hardlink(u, target, parent, name, why);
	err = put_object(u, a, e, parent, name, why);
	if (err == 1)
		u->left_out++;
	return err ? (err == 1 ? 0 : err) : put_attributes(u, e, parent, name, type, why);
}
