/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisor/lifecycle/copy_path.h"

struct source {
	struct copy *copy;
	int fd;
};

static ssize_t read_source(void *arg, void *buf, size_t cap)
{
	struct source *s = arg;

	if (s->copy->stop && s->copy->stop())
		return -EINTR;
	ssize_t n = read(s->fd, buf, cap);
	if (n < 0)
		return -errno;
	s->copy->bytes += (uint64_t)n;
	if (s->copy->tick)
		s->copy->tick(s->copy->tick_arg, s->copy->bytes);
	return n;
}

static int64_t mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * (int64_t)NS_PER_SEC + st->st_mtim.tv_nsec;
}

static int send_file(struct copy *copy, int fd, const struct stat *st, const char *to,
		     struct errmsg *why)
{
	struct source source = {.copy = copy, .fd = fd};
	struct agentc_file file = agentc_file(copy->user, to);

	file.flags = AGENT_FILE_PARENTS;
	file.mode = st->st_mode & 0777;
	file.mtime_ns = mtime_ns(st);
	int64_t n = agentc_write(copy->at, &file, NULL, read_source, &source, why);
	return n < 0 ? (int)n : 0;
}

static int send_link(struct copy *copy, int at, const char *name, const char *to,
		     struct errmsg *why)
{
	char target[AGENT_PATH_MAX];
	struct agentc_file file = agentc_file(copy->user, to);
	ssize_t n = readlinkat(at, name, target, sizeof(target) - 1);

	if (n < 0)
		return err_set(why, errno, "read link %s", name);
	target[n] = '\0';
	file.arg = target;
	return agentc_symlink(copy->at, &file, why);
}

static int send_entry(struct copy *copy, int at, const char *name, const char *to, unsigned depth,
		      struct errmsg *why);

static int send_children(struct copy *copy, int fd, const char *to, unsigned depth,
			 struct errmsg *why)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	char path[AGENT_PATH_MAX];
	int err = 0;

	if (!dir) {
		close(fd);
		return err_set(why, errno, "folder");
	}
	while (!err && (errno = 0, entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		err = copy_join(path, sizeof(path), to, entry->d_name, why);
		if (!err)
			err = send_entry(copy, dirfd(dir), entry->d_name, path, depth + 1, why);
	}
	if (!err && errno)
		err = err_set(why, errno, "read folder");
	closedir(dir);
	return err;
}

/* @fd: taken over */
static int send_folder(struct copy *copy, int fd, const struct stat *st, const char *to,
		       unsigned depth, struct errmsg *why)
{
	struct agentc_file file = agentc_file(copy->user, to);

	if (depth > COPY_DEPTH_MAX) {
		close(fd);
		return err_set(why, 0, "folders are nested deeper than %u", COPY_DEPTH_MAX);
	}
	file.flags = AGENT_FILE_PARENTS;
	file.mode = (st->st_mode & 0777) | 0700;
	int64_t made = agentc_mkdir(copy->at, &file, why);
	if (made < 0) {
		close(fd);
		return (int)made;
	}
	return send_children(copy, fd, to, depth, why);
}

static int send_opened(struct copy *copy, int fd, const char *to, unsigned depth,
		       struct errmsg *why)
{
	cleanup_close int held = fd;
	struct stat st;

	if (fstat(fd, &st))
		return err_set(why, errno, "stat");
	if (S_ISDIR(st.st_mode))
		return send_folder(copy, steal_fd(&held), &st, to, depth, why);
	if (S_ISREG(st.st_mode))
		return send_file(copy, fd, &st, to, why);
	copy->left_out++;
	return 0;
}

/* Devices are not opened: that alone can have effects. */
static int send_entry(struct copy *copy, int at, const char *name, const char *to, unsigned depth,
		      struct errmsg *why)
{
	struct stat st;

	if (++copy->entries > copy->entries_max)
		return err_set(why, 0, "more than %llu files",
			       (unsigned long long)copy->entries_max);
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW))
		return err_set(why, errno, "%s", name);
	if (S_ISLNK(st.st_mode))
		return send_link(copy, at, name, to, why);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		copy->left_out++;
		return 0;
	}
	int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_set(why, errno, "%s", name);
	int err = send_opened(copy, fd, to, depth, why);
	return err ? err_wrap(why, err, "%s", name) : 0;
}

/* Where the source goes: into a folder under its own name, else to the path as given. */
static int target_of(struct copy *copy, const char *host_path, const char *guest_path, char *out,
		     struct errmsg *why)
{
	struct agentc_file file = agentc_file(copy->user, guest_path);
	struct agentc_entry *entry = malloc(sizeof(*entry));
	char name[COPY_NAME_MAX];
	bool into = copy_is_slashed(guest_path);

	if (!entry)
		return err_set(why, ENOMEM, "copy");
	if (!into && !agentc_stat(copy->at, &file, entry, NULL))
		into = entry->raw.type == AGENT_TYPE_DIR ||
		       entry->raw.target_type == AGENT_TYPE_DIR;
	free(entry);
	if (!into)
		return copy_join(out, AGENT_PATH_MAX, guest_path, "", why);
	int err = copy_base_name(host_path, name, why);
	return err ? err : copy_join(out, AGENT_PATH_MAX, guest_path, name, why);
}

int copy_in(struct copy *copy, const char *host_path, const char *guest_path, struct errmsg *why)
{
	char to[AGENT_PATH_MAX];
	cleanup_close int fd = open(host_path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return err_set(why, errno, "%s", host_path);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(why, 0, "%s: neither a file nor a folder", host_path);
	int err = target_of(copy, host_path, guest_path, to, why);
	if (!err)
		err = send_opened(copy, steal_fd(&fd), to, 0, why);
	return err ? err_wrap(why, err, "%s", host_path) : 0;
}
