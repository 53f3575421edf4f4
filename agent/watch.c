/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - events below a folder, inotify told as the protocol tells them
 *
 * Recursive watches are one inotify watch per folder.  A folder that appears gets its watch at once,
 * and what is already inside it is reported as CREATE: seen twice perhaps, missed never.  A folder
 * that is moved away loses its watches; moved within, it gets new ones as a new folder.  When the
 * client is slow the kernel's queue overflows and says so: OVERFLOW.  Runs in a worker.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent/file.h"

#define WATCHES_MAX 16384
#define DEPTH_MAX   128
#define MASK                                                                           \
	(IN_CREATE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | \
	 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)

struct folder {
	int wd;
	char *path; /* below the root; "" is the root */
};

struct watch {
	struct job *job;
	int fd;
	bool recursive;
	struct folder *folder; /* by wd, rising: inotify counts upwards */
	size_t count, cap;
};

static void send_event(struct watch *watch, uint32_t kind, bool is_dir, uint32_t cookie,
		       const char *name)
{
	struct agent_event event = {.kind = kind, .is_dir = is_dir, .cookie = cookie};
	worker_send(watch->job->w, AGENT_EVENT, &event, name, strlen(name) + 1);
}

/* --- the table -------------------------------------------------------------------------------- */

/* Index of the first folder with wd >= this one. */
static size_t lower(const struct watch *watch, int wd)
{
	size_t from = 0, to = watch->count;

	while (from < to) {
		size_t mid = (from + to) / 2;
		if (watch->folder[mid].wd < wd)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

static struct folder *find(struct watch *watch, int wd)
{
	size_t at = lower(watch, wd);
	return at < watch->count && watch->folder[at].wd == wd ? &watch->folder[at] : NULL;
}

static void forget(struct watch *watch, size_t at)
{
	free(watch->folder[at].path);
	watch->count--;
	memmove(watch->folder + at, watch->folder + at + 1,
		(watch->count - at) * sizeof(*watch->folder));
}

static int remember(struct watch *watch, int wd, const char *path)
{
	struct folder *known = find(watch, wd);
	char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	if (known) { /* the same folder under a new name */
		free(known->path);
		known->path = copy;
		return 0;
	}
	if (watch->count == watch->cap) {
		size_t cap = watch->cap ? watch->cap * 2 : 64;
		struct folder *more = realloc(watch->folder, cap * sizeof(*more));
		if (!more) {
			free(copy);
			return -ENOMEM;
		}
		watch->folder = more;
		watch->cap = cap;
	}
	size_t at = lower(watch, wd);
	memmove(watch->folder + at + 1, watch->folder + at,
		(watch->count - at) * sizeof(*watch->folder));
	watch->folder[at] = (struct folder){wd, copy};
	watch->count++;
	return 0;
}

/* Stops watching path and all below it. */
static void drop_tree(struct watch *watch, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = watch->count; i-- > 0;) {
		const char *have = watch->folder[i].path;
		if (strncmp(have, path, len) == 0 && (have[len] == '/' || !have[len])) {
			inotify_rm_watch(watch->fd, watch->folder[i].wd);
			forget(watch, i);
		}
	}
}

/* --- adding ----------------------------------------------------------------------------------- */

/* What of a new tree is reported as created.  Each folder is watched before it is reported, so that
 * whatever a client does on hearing of it is seen. */
enum say { SAY_NOTHING, SAY_TOP, SAY_ALL };

static bool join(char out[AGENT_PATH_MAX], const char *folder, const char *name)
{
	int len = snprintf(out, AGENT_PATH_MAX, "%s%s%s", folder, folder[0] && name[0] ? "/" : "",
			   name);
	return len < (int)AGENT_PATH_MAX;
}

static int add_tree(struct watch *watch, const char *path, enum say say, uint32_t cookie,
		    unsigned depth);

static int add_inside(struct watch *watch, DIR *dir, const char *path, enum say say, unsigned depth)
{
	const struct dirent *entry;
	int err = 0;

	while (err == 0 && (entry = readdir(dir))) {
		char sub[AGENT_PATH_MAX];
		struct stat st;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    !join(sub, path, entry->d_name) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			err = add_tree(watch, sub, say, 0, depth + 1);
		else if (say == SAY_ALL)
			send_event(watch, AGENT_EV_CREATE, false, 0, sub);
	}
	return err;
}

/* Watches a folder.  Return: 1; 0 it cannot be, which is fine below the root; -errno. */
static int add_one(struct watch *watch, const char *path, const char *full, unsigned depth)
{
	if (watch->count >= WATCHES_MAX)
		return -ENOSPC;
	int wd = inotify_add_watch(watch->fd, full, MASK | (path[0] ? IN_DONT_FOLLOW : 0));
	if (wd < 0)
		return depth == 0 || errno == ENOSPC ? -errno : 0;
	int err = remember(watch, wd, path);
	return err < 0 ? err : 1;
}

static int add_tree(struct watch *watch, const char *path, enum say say, uint32_t cookie,
		    unsigned depth)
{
	char full[2 * AGENT_PATH_MAX];

	snprintf(full, sizeof(full), "%s%s%s", watch->job->path, path[0] ? "/" : "", path);
	int err = depth > DEPTH_MAX ? 0 : add_one(watch, path, full, depth);
	if (say == SAY_ALL)
		send_event(watch, AGENT_EV_CREATE, true, cookie, path);
	DIR *dir = err > 0 && watch->recursive ? opendir(full) : NULL;
	if (dir) {
		err = add_inside(watch, dir, path, say == SAY_ALL ? SAY_ALL : SAY_NOTHING, depth);
		closedir(dir);
	}
	if (say == SAY_TOP) /* its inside is not reported: all of it is watched by now */
		send_event(watch, AGENT_EV_CREATE, true, cookie, path);
	return err < 0 ? err : 0;
}

/* --- events ----------------------------------------------------------------------------------- */

static uint32_t kind_of(uint32_t mask)
{
	if (mask & (IN_CREATE | IN_MOVED_TO))
		return AGENT_EV_CREATE;
	if (mask & IN_MODIFY)
		return AGENT_EV_WRITE;
	if (mask & IN_DELETE)
		return AGENT_EV_REMOVE;
	if (mask & IN_MOVED_FROM)
		return AGENT_EV_RENAME;
	return mask & IN_ATTRIB ? AGENT_EV_CHMOD : 0;
}

/* Events about a watched folder itself: its parent's watch tells them too, except the root's. */
static bool on_self(struct watch *watch, const struct folder *folder, uint32_t mask)
{
	bool root = folder->path[0] == '\0';

	if (root && mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) {
		send_event(watch, AGENT_EV_GONE, true, 0, "");
		return false;
	}
	if (root && mask & IN_ATTRIB)
		send_event(watch, AGENT_EV_CHMOD, true, 0, "");
	if (mask & IN_IGNORED)
		forget(watch, (size_t)(folder - watch->folder));
	return true;
}

/* False: the root is gone. */
static bool on_event(struct watch *watch, const struct inotify_event *event)
{
	char path[AGENT_PATH_MAX];
	bool is_dir = event->mask & IN_ISDIR;

	if (event->mask & IN_Q_OVERFLOW) {
		send_event(watch, AGENT_EV_OVERFLOW, false, 0, "");
		if (watch->recursive) /* folders may have been missed */
			add_tree(watch, "", SAY_NOTHING, 0, 0);
		return true;
	}
	struct folder *folder = find(watch, event->wd);
	if (!folder)
		return true;
	if (!event->len)
		return on_self(watch, folder, event->mask);
	uint32_t kind = kind_of(event->mask);
	if (!kind || !join(path, folder->path, event->name))
		return true;
	bool new_folder = is_dir && watch->recursive && kind == AGENT_EV_CREATE;
	if (!new_folder) {
		send_event(watch, kind, is_dir, event->cookie, path);
		if (is_dir && watch->recursive && kind == AGENT_EV_RENAME)
			drop_tree(watch, path);
		return true;
	}
	/* What was moved here was there before; what was made here is new with all it holds. */
	enum say say = event->cookie ? SAY_TOP : SAY_ALL;
	if (add_tree(watch, path, say, event->cookie, 1) < 0)
		send_event(watch, AGENT_EV_OVERFLOW, false, 0, "");
	return true;
}

static bool take_events(struct watch *watch)
{
	union {
		struct inotify_event first;
		char bytes[16384];
	} buf;
	ssize_t n = read(watch->fd, &buf, sizeof(buf));
	struct inotify_event event;

	for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof(event) + event.len)) {
		const char *base = buf.bytes + at;
		memcpy(&event, base, sizeof(event));
		if (!on_event(watch, (const void *)base))
			return false;
	}
	return true;
}

void job_watch(struct job *job)
{
	static struct watch watch;

	watch = (struct watch){.job = job,
			       .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK),
			       .recursive = job->file.flags & AGENT_FILE_RECURSIVE};
	if (watch.fd < 0)
		job_fail(job, errno, "watch");
	int err = add_tree(&watch, "", SAY_NOTHING, 0, 0);
	if (err < 0)
		job_fail(job, err, "watch");
	worker_value(job->w, AGENT_OK, watch.count);
	for (;;) {
		struct pollfd pfd[2] = {{.fd = watch.fd, .events = POLLIN},
					{.fd = job->w->fd, .events = POLLIN | POLLRDHUP}};
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			break;
		if (pfd[1].revents)
			break; /* the client says nothing in a watch: it closed */
		if (pfd[0].revents && !take_events(&watch))
			break;
	}
}
