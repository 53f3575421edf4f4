/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/image/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/image/tree.h"
#include "supervisor/image/unpack_put.h"

#define READ_BLOCK      65536
#define WHITEOUT        ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

typedef int (*entry_fn)(struct unpack *u, struct archive *a, struct archive_entry *e,
			enum unpack_kind kind, struct errmsg *why);

static void free_archive(struct archive **a)
{
	archive_read_free(*a);
}

static int archive_fault(struct archive *a, struct errmsg *why)
{
	const char *text = archive_error_string(a);

	return err_set(why, 0, "archive: %.200s", text ? text : "damaged"), -EBADMSG;
}

static int walk(struct unpack *u, int fd, enum unpack_kind kind, entry_fn fn, struct errmsg *why)
{
	__attribute__((cleanup(free_archive))) struct archive *a = archive_read_new();
	struct archive_entry *entry;
	int got;

	if (!a || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(why, a ? errno : ENOMEM, "archive");
	archive_read_support_filter_all(a);
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	if (archive_read_open_fd(a, fd, READ_BLOCK) != ARCHIVE_OK)
		return archive_fault(a, why);
	while ((got = archive_read_next_header(a, &entry)) == ARCHIVE_OK || got == ARCHIVE_WARN) {
		int err = fn(u, a, entry, kind, why);
		if (err)
			return err;
	}
	return got == ARCHIVE_EOF ? 0 : archive_fault(a, why);
}

static const char *last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_whiteout(const char *path)
{
	return !strncmp(last_name(path), WHITEOUT, strlen(WHITEOUT));
}

/* The entry's path without leading slashes and "./"; "" is the folder itself.  -EBADMSG: hostile. */
static int clean_path(struct archive_entry *e, char *out, struct errmsg *why)
{
	const char *path = archive_entry_pathname(e);

	return path ? unpack_clean(path, out, why)
		    : (err_set(why, 0, "archive: an entry without a name"), -EBADMSG);
}

static int apply_whiteout(struct unpack *u, struct archive *a, struct archive_entry *e,
			  enum unpack_kind kind, struct errmsg *why)
{
	char path[UNPACK_PATH_MAX];
	int err = clean_path(e, path, why);

	(void)a, (void)kind;
	if (err || !is_whiteout(path))
		return err;
	const char *name = last_name(path);
	path[name > path ? name - path - 1 : 0] = '\0';
	cleanup_close int parent = unpack_open_folder(u->root, path, why);
	if (parent == -ENOENT)
		return 0; /* nothing below to hide */
	if (parent < 0)
		return parent;
	if (!strcmp(name, WHITEOUT_OPAQUE))
		return tree_empty(parent, why);
	name += strlen(WHITEOUT);
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return err_set(why, 0, "archive: a whiteout without a name"), -EBADMSG;
	return tree_remove(parent, name, why);
}

static int put_entry(struct unpack *u, struct archive *a, struct archive_entry *e,
		     enum unpack_kind kind, struct errmsg *why)
{
	char path[UNPACK_PATH_MAX];
	int err = clean_path(e, path, why);

	if (err || (kind == UNPACK_LAYER && is_whiteout(path)))
		return err;
	if (!u->entries_left)
		return err_set(why, 0, "archive: too many entries"), -EFBIG;
	u->entries_left--;
	err = unpack_put(u, a, e, path, why);
	return err ? err_wrap(why, err, "archive: %.200s", path) : 0;
}

int unpack_archive(struct unpack *u, int fd, enum unpack_kind kind, struct errmsg *why)
{
	int err = kind == UNPACK_LAYER ? walk(u, fd, kind, apply_whiteout, why) : 0;

	return err ? err : walk(u, fd, kind, put_entry, why);
}
