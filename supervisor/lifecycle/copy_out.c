/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of the guest: list first (one stream, bounded), then make folders, files and last the links, so
 * that no path of ours can lead through a link that came from the guest.
 */
#include "supervisor/lifecycle/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/copy_list.h"
#include "supervisor/lifecycle/copy_path.h"
#include "supervisor/lifecycle/copy_place.h"

struct sink {
	struct copy *copy;
	int fd;
};

static int write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);
		if (n < 0 && errno != EINTR)
			return -errno;
		buf += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int write_sink(void *arg, const void *buf, size_t len)
{
	struct sink *s = arg;

	if (len > s->copy->bytes_max - s->copy->bytes)
		return -EFBIG;
	if (s->copy->stop && s->copy->stop())
		return -EINTR;
	s->copy->bytes += len;
	if (s->copy->tick)
		s->copy->tick(s->copy->tick_arg, s->copy->bytes);
	return write_all(s->fd, buf, len);
}

enum look { LOOK_FOLLOW, LOOK_NOFOLLOW }; /* at a link in the guest */

/* One file of the guest to `name` in the folder `parent`. */
static int fetch_file(struct copy *copy, const char *from, enum look look, int parent,
		      const char *name, const struct agent_entry *entry, struct errmsg *why)
{
	struct agentc_file file = agentc_file(copy->user, from);
	struct copy_place place;
	int err = copy_place_begin(&place, parent, why);

	if (err)
		return err;
	struct sink sink = {.copy = copy, .fd = place.fd};
	file.flags = look == LOOK_NOFOLLOW ? AGENT_FILE_NOFOLLOW : 0;
	int64_t n = agentc_read(copy->at, &file, NULL, write_sink, &sink, why);
	if (n == -EFBIG)
		err_set(why, 0, "more than %llu bytes in all", (unsigned long long)copy->bytes_max);
	err = n < 0 ? (int)n : copy_place_commit(&place, name, entry->mode, entry->mtime_ns, why);
	copy_place_end(&place);
	return err;
}

/* Splits a safe path: the folder's descriptor (made before) and the last name. */
static int open_parent(int root, const char *path, const char **name, struct errmsg *why)
{
	char folder[AGENT_PATH_MAX];
	const char *slash = strrchr(path, '/');

	*name = slash ? slash + 1 : path;
	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
	return copy_open_beneath(root, folder, why);
}

static int fetch_entry(struct copy *copy, const char *from, int root, const struct copy_item *item,
		       struct errmsg *why)
{
	char source[AGENT_PATH_MAX];
	const char *name;
	cleanup_close int parent = open_parent(root, item->path, &name, why);

	if (parent < 0)
		return parent;
	switch (item->entry.type) {
	case AGENT_TYPE_DIR: return copy_make_folder(parent, name, item->entry.mode, why);
	case AGENT_TYPE_SYMLINK: return copy_make_link(parent, name, item->target, why);
	default: break;
	}
	int err = copy_join(source, sizeof(source), from, item->path, why);
	return err ? err : fetch_file(copy, source, LOOK_NOFOLLOW, parent, name, &item->entry, why);
}

/* Text from the guest in a message: escaped. */
static int name_fault(struct errmsg *why, int err, const char *path)
{
	char shown[256];

	return err_wrap(why, err, "%s", agentc_escape(shown, sizeof(shown), path, strlen(path)));
}

static int fetch_all(struct copy *copy, const char *from, int root, const struct copy_list *list,
		     unsigned type, struct errmsg *why)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->item[i].entry.type != type)
			continue;
		int err = fetch_entry(copy, from, root, &list->item[i], why);
		if (err)
			return name_fault(why, err, list->item[i].path);
	}
	return 0;
}

static int fetch_folder(struct copy *copy, const char *from, int parent, const char *name,
			const struct agent_entry *entry, struct errmsg *why)
{
	struct copy_list list = {.count = 0};
	int err = copy_make_folder(parent, name, entry->mode, why);

	if (err)
		return err;
	cleanup_close int root =
		openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return err_set(why, errno, "%s", name);
	err = copy_list_fill(&list, copy, from, why);
	static const unsigned order[] = {AGENT_TYPE_DIR, AGENT_TYPE_FILE, AGENT_TYPE_SYMLINK};
	for (size_t i = 0; !err && i < ARRAY_LEN(order); i++)
		err = fetch_all(copy, from, root, &list, order[i], why);
	copy_list_free(&list);
	return err;
}

/* The folder to write into and the name there. */
static int open_target(const char *guest_path, const char *host_path, char *name,
		       struct errmsg *why)
{
	char folder[AGENT_PATH_MAX];
	struct stat st;
	bool is_folder = !stat(host_path, &st) && S_ISDIR(st.st_mode);
	int err;

	if (is_folder || copy_is_slashed(host_path)) {
		err = copy_base_name(guest_path, name, why);
		if (!err)
			err = copy_join(folder, sizeof(folder), host_path, "", why);
	} else {
		err = copy_base_name(host_path, name, why);
		const char *slash = strrchr(host_path, '/');
		snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - host_path) + 1 : 1,
			 slash ? host_path : ".");
	}
	if (err)
		return err;
	int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_set(why, errno, "%s", folder) : fd;
}

static int look_at(struct copy *copy, const char *guest_path, struct agent_entry *out,
		   struct errmsg *why)
{
	struct agentc_file file = agentc_file(copy->user, guest_path);
	cleanup_free struct agentc_entry *entry = malloc(sizeof(*entry));

	if (!entry)
		return err_set(why, ENOMEM, "copy");
	int err = agentc_stat(copy->at, &file, entry, why);
	if (err)
		return err;
	*out = entry->raw;
	if (out->type == AGENT_TYPE_SYMLINK) { /* the one link that the caller has named */
		out->type = out->target_type;
		out->mode = out->target_mode;
	}
	return 0;
}

int copy_out(struct copy *copy, const char *guest_path, const char *host_path, struct errmsg *why)
{
	struct agent_entry entry;
	char name[COPY_NAME_MAX];
	int err = look_at(copy, guest_path, &entry, why);

	if (err)
		return name_fault(why, err, guest_path);
	cleanup_close int parent = open_target(guest_path, host_path, name, why);
	if (parent < 0)
		return parent;
	copy->entries++;
	if (entry.type == AGENT_TYPE_DIR)
		err = fetch_folder(copy, guest_path, parent, name, &entry, why);
	else if (entry.type == AGENT_TYPE_FILE)
		err = fetch_file(copy, guest_path, LOOK_FOLLOW, parent, name, &entry, why);
	else
		err = err_set(why, 0, "neither a file nor a folder");
	return err ? name_fault(why, err, guest_path) : 0;
}
