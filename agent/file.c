/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.c - file requests: become the user, find the path, describe what is there
 *
 * Runs in a worker (worker.h), one request each, with blocking calls.
 */
#include "agent/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NAMES_CACHED 16

int job_path(const struct job *job, const char *asked, char out[AGENT_PATH_MAX])
{
	const char *home = job->user.home[0] ? job->user.home : "/";
	int len;

	if (!asked[0])
		return -EINVAL;
	if (asked[0] == '/')
		len = snprintf(out, AGENT_PATH_MAX, "%s", asked);
	else if (asked[0] == '~' && (asked[1] == '/' || !asked[1]))
		len = snprintf(out, AGENT_PATH_MAX, "%s%s", home, asked + 1);
	else
		len = snprintf(out, AGENT_PATH_MAX, "%s/%s", home, asked);
	return len < (int)AGENT_PATH_MAX ? 0 : -ENAMETOOLONG;
}

void job_fail(struct job *job, int err, const char *what)
{
	worker_fail(job->w, err, AGENT_STAGE_FILE, "%s '%.400s': %s", what, job->asked,
		    strerror(abs(err)));
}

/* --- entries ---------------------------------------------------------------------------------- */

/* Names of ids; a listing asks for the same few again and again. */
struct name_cache {
	struct {
		uint32_t id;
		char name[AGENT_NAME_MAX];
	} slot[NAMES_CACHED];
	unsigned count;
};

static const char *cached(struct name_cache *cache, uint32_t id,
			  void (*find)(uint32_t id, char *buf, size_t cap))
{
	for (unsigned i = 0; i < cache->count && i < NAMES_CACHED; i++) {
		if (cache->slot[i].id == id)
			return cache->slot[i].name;
	}
	unsigned at = cache->count++ % NAMES_CACHED;
	cache->slot[at].id = id;
	find(id, cache->slot[at].name, AGENT_NAME_MAX);
	return cache->slot[at].name;
}

static uint8_t type_of(mode_t mode)
{
	if (S_ISREG(mode))
		return AGENT_TYPE_FILE;
	if (S_ISDIR(mode))
		return AGENT_TYPE_DIR;
	return S_ISLNK(mode) ? AGENT_TYPE_SYMLINK : AGENT_TYPE_OTHER;
}

struct tail {
	char buf[2 * AGENT_PATH_MAX + 2 * AGENT_NAME_MAX];
	size_t len;
};

static void tail_add(struct tail *tail, const char *text, size_t cap)
{
	size_t len = strnlen(text, cap - 1);

	memcpy(tail->buf + tail->len, text, len);
	tail->len += len;
	tail->buf[tail->len++] = '\0';
}

int job_send_entry(struct job *job, int folder, const char *name, const char *shown)
{
	static struct name_cache owners, groups;
	char target[AGENT_PATH_MAX] = "";
	struct tail tail = {.len = 0};
	struct stat st, to;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	struct agent_entry entry = {.type = type_of(st.st_mode),
				    .mode = st.st_mode,
				    .uid = st.st_uid,
				    .gid = st.st_gid,
				    .nlink = (uint32_t)st.st_nlink,
				    .size = (uint64_t)st.st_size,
				    .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 +
						st.st_mtim.tv_nsec,
				    .ino = st.st_ino};
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(folder, name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		if (fstatat(folder, name, &to, 0) == 0) {
			entry.target_type = type_of(to.st_mode);
			entry.target_mode = to.st_mode;
		}
	}
	tail_add(&tail, shown, AGENT_PATH_MAX);
	tail_add(&tail, cached(&owners, st.st_uid, user_name), AGENT_NAME_MAX);
	tail_add(&tail, cached(&groups, st.st_gid, user_group_name), AGENT_NAME_MAX);
	tail_add(&tail, target, AGENT_PATH_MAX);
	worker_send(job->w, AGENT_ENTRY, &entry, tail.buf, tail.len);
	return 0;
}

/* --- paths ------------------------------------------------------------------------------------ */

int make_parents(const char *path)
{
	char part[AGENT_PATH_MAX];
	int made = 0;

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		size_t len = (size_t)(slash - path);
		if (slash[strspn(slash, "/")] == '\0')
			break; /* only slashes follow: that is the last part itself */
		memcpy(part, path, len);
		part[len] = '\0';
		if (mkdir(part, 0755) == 0)
			made++;
		else if (errno != EEXIST)
			return -errno;
	}
	return made;
}

int open_parent(const char *path, const char **name, enum parents make)
{
	char folder[AGENT_PATH_MAX];
	const char *slash = strrchr(path, '/');

	if (!slash || !slash[1] || strcmp(slash + 1, ".") == 0 || strcmp(slash + 1, "..") == 0)
		return -EISDIR;
	int made = make == PARENTS_MAKE ? make_parents(path) : 0;
	if (made < 0)
		return made;
	size_t len = (size_t)(slash - path);
	memcpy(folder, path, len);
	folder[len] = '\0';
	*name = slash + 1;
	int fd = open(len ? folder : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* --- requests --------------------------------------------------------------------------------- */

static void job_stat(struct job *job)
{
	int err = job_send_entry(job, AT_FDCWD, job->path, job->asked);
	if (err < 0)
		job_fail(job, err, "stat");
}

static void run_job(struct job *job, uint16_t type)
{
	switch (type) {
	case AGENT_FILE_READ: job_read(job); break;
	case AGENT_FILE_WRITE: job_write(job); break;
	case AGENT_STAT: job_stat(job); break;
	case AGENT_LIST_DIR: job_list(job); break;
	case AGENT_MKDIR: job_mkdir(job); break;
	case AGENT_MOVE: job_move(job); break;
	case AGENT_REMOVE: job_remove(job); break;
	case AGENT_CHMOD: job_chmod(job); break;
	case AGENT_CHOWN: job_chown(job); break;
	case AGENT_READLINK: job_readlink(job); break;
	case AGENT_SYMLINK: job_symlink(job); break;
	case AGENT_WATCH: job_watch(job); break;
	default: job_xattr(job, type); break;
	}
}

void file_request(struct worker *w, const struct agent_frame *frame, const uint8_t *payload)
{
	static struct job job;
	const char *who = agent_msg_string(frame, payload, 0);

	job.w = w;
	job.asked = agent_msg_string(frame, payload, 1);
	job.arg = agent_msg_string(frame, payload, 2);
	memcpy(&job.file, payload, sizeof(job.file));
	int err = user_find(&job.user, who);
	if (err < 0)
		worker_fail(w, err, AGENT_STAGE_USER, "user '%.200s' does not exist", who);
	err = user_become(&job.user);
	if (err < 0)
		worker_fail(w, err, AGENT_STAGE_USER, "become user '%.200s': %s", job.user.name,
			    strerror(-err));
	err = job_path(&job, job.asked, job.path);
	if (err < 0)
		job_fail(&job, err, "path");
	run_job(&job, frame->type);
}
