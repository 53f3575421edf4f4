/* SPDX-License-Identifier: Apache-2.0 */
/* attr.c - mode, owner, extended attributes, symlinks.  Runs in a worker. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/file.h"

static bool nofollow(const struct job *job)
{
	return job->file.flags & AGENT_FILE_NOFOLLOW;
}

static void done(struct job *job, int result, const char *what)
{
	if (result < 0)
		job_fail(job, errno, what);
	worker_value(job->w, AGENT_OK, 0);
}

static void send_bytes(struct job *job, const void *bytes, size_t len)
{
	if (len)
		worker_send_data(job->w, bytes, len);
	worker_value(job->w, AGENT_END, len);
}

void job_chmod(struct job *job)
{
	if (job->file.mode == AGENT_MODE_KEEP)
		job_fail(job, EINVAL, "chmod");
	if (nofollow(job)) /* Linux has no mode of a link */
		job_fail(job, EOPNOTSUPP, "chmod");
	done(job, chmod(job->path, job->file.mode), "chmod");
}

void job_chown(struct job *job)
{
	uid_t uid;
	gid_t gid;

	if (user_parse_owner(job->arg, &uid, &gid) < 0)
		worker_fail(job->w, ENOENT, AGENT_STAGE_USER, "owner '%.200s' does not exist",
			    job->arg);
	done(job, fchownat(AT_FDCWD, job->path, uid, gid, nofollow(job) ? AT_SYMLINK_NOFOLLOW : 0),
	     "chown");
}

void job_readlink(struct job *job)
{
	char target[AGENT_PATH_MAX];
	ssize_t n = readlink(job->path, target, sizeof(target));

	if (n < 0)
		job_fail(job, errno, "readlink");
	send_bytes(job, target, (size_t)n);
}

void job_symlink(struct job *job)
{
	if (!job->arg[0])
		job_fail(job, EINVAL, "symlink");
	done(job, symlink(job->arg, job->path), "symlink");
}

/* --- extended attributes ---------------------------------------------------------------------- */

static void xattr_get(struct job *job, uint8_t *buf)
{
	ssize_t n = nofollow(job) ? lgetxattr(job->path, job->arg, buf, AGENT_XATTR_MAX)
				  : getxattr(job->path, job->arg, buf, AGENT_XATTR_MAX);
	if (n < 0)
		job_fail(job, errno, "get attribute of");
	send_bytes(job, buf, (size_t)n);
}

static void xattr_list(struct job *job, uint8_t *buf)
{
	char *names = (char *)buf;
	ssize_t n = nofollow(job) ? llistxattr(job->path, names, AGENT_XATTR_MAX)
				  : listxattr(job->path, names, AGENT_XATTR_MAX);
	if (n < 0)
		job_fail(job, errno, "list attributes of");
	send_bytes(job, buf, (size_t)n);
}

/* The value comes as DATA frames and EOF. */
static void xattr_set(struct job *job, uint8_t *buf)
{
	struct agent_frame frame;
	size_t len = 0;

	for (;;) {
		if (!worker_recv(job->w, &frame))
			_exit(0);
		if (frame.type == AGENT_EOF)
			break;
		if (frame.type != AGENT_DATA)
			job_fail(job, EPROTO, "set attribute of");
		if (frame.len > AGENT_XATTR_MAX - len)
			job_fail(job, E2BIG, "set attribute of");
		memcpy(buf + len, job->w->payload, frame.len);
		len += frame.len;
	}
	done(job,
	     nofollow(job) ? lsetxattr(job->path, job->arg, buf, len, 0)
			   : setxattr(job->path, job->arg, buf, len, 0),
	     "set attribute of");
}

void job_xattr(struct job *job, uint16_t type)
{
	uint8_t *buf = malloc(AGENT_XATTR_MAX);

	if (!buf)
		job_fail(job, ENOMEM, "attribute of");
	switch (type) {
	case AGENT_XATTR_GET: xattr_get(job, buf); break;
	case AGENT_XATTR_LIST: xattr_list(job, buf); break;
	case AGENT_XATTR_SET: xattr_set(job, buf); break;
	case AGENT_XATTR_REMOVE:
		done(job,
		     nofollow(job) ? lremovexattr(job->path, job->arg)
				   : removexattr(job->path, job->arg),
		     "remove attribute of");
		break;
	default: job_fail(job, ENOSYS, agent_msg_name(type));
	}
	free(buf);
}
