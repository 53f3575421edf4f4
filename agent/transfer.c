/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - a file down, a file up
 *
 * An upload is written to a file without a name (O_TMPFILE) in the folder of its target, which gets
 * a name and is renamed onto the target when EOF has come: a client that dies at any time leaves
 * nothing, and a reader sees the old file or the new one.  Where there is no O_TMPFILE a hidden name
 * is used and taken away on every way out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/file.h"
#include "base/cleanup.h"

#define LINKS_MAX 40
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* --- down ------------------------------------------------------------------------------------- */

static int open_source(struct job *job)
{
	int nofollow = job->file.flags & AGENT_FILE_NOFOLLOW ? O_NOFOLLOW : 0;
	struct stat st;
	/* Non-blocking: a FIFO must not hold us. */
	int fd = open(job->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | nofollow);

	if (fd < 0 || fstat(fd, &st) < 0)
		job_fail(job, errno, "read");
	if (S_ISDIR(st.st_mode))
		job_fail(job, EISDIR, "read");
	if (!S_ISREG(st.st_mode))
		job_fail(job, EINVAL, "not a regular file:");
	return fd;
}

void job_read(struct job *job)
{
	int fd = open_source(job);
	uint8_t *buf = malloc(AGENT_FRAME_MAX);
	uint64_t done = 0;

	if (!buf)
		job_fail(job, ENOMEM, "read");
	int err = job_send_entry(job, AT_FDCWD, job->path, job->asked);
	if (err < 0)
		job_fail(job, err, "read");
	while (done < job->file.len) {
		uint64_t left = job->file.len - done;
		size_t want = left < AGENT_FRAME_MAX ? (size_t)left : AGENT_FRAME_MAX;
		ssize_t n = pread(fd, buf, want, (off_t)(job->file.offset + done));
		if (n < 0)
			job_fail(job, errno, "read");
		if (n == 0)
			break;
		worker_send_data(job->w, buf, (size_t)n);
		done += (uint64_t)n;
	}
	worker_value(job->w, AGENT_END, done);
}

/* --- up --------------------------------------------------------------------------------------- */

struct upload {
	struct job *job;
	int folder;       /* O_PATH */
	const char *name; /* of the target, in the folder */
	int fd;
	bool exists;
	struct stat old;
	char temp[32]; /* in the folder; "": none */
	char path[AGENT_PATH_MAX];
};

static struct upload upload; /* one per worker; a static, for abandon() */

static void abandon(void)
{
	if (upload.temp[0])
		unlinkat(upload.folder, upload.temp, 0);
}

static void up_fail(int err) __attribute__((noreturn));

static void up_fail(int err)
{
	abandon();
	job_fail(upload.job, err, "write");
}

/* Where a symlink at the end of the path leads: the upload replaces what it names, not the link. */
static int follow(const char *path, char out[AGENT_PATH_MAX])
{
	char link[AGENT_PATH_MAX], next[2 * AGENT_PATH_MAX];

	snprintf(out, AGENT_PATH_MAX, "%s", path);
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		ssize_t n = readlink(out, link, sizeof(link) - 1);
		if (n < 0)
			return 0;
		link[n] = '\0';
		const char *slash = strrchr(out, '/');
		int keep = link[0] == '/' || !slash ? 0 : (int)(slash - out + 1);
		int len = snprintf(next, sizeof(next), "%.*s%s", keep, out, link);
		if (len >= (int)AGENT_PATH_MAX)
			return -ENAMETOOLONG;
		memcpy(out, next, (size_t)len + 1);
	}
	return -ELOOP;
}

static void random_name(char out[32])
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(out, 32, ".spore-%d-%08lx", getpid(), (unsigned long)ts.tv_nsec);
}

/* A file to write to that nobody sees yet. */
static int open_hidden(void)
{
	int fd = openat(upload.folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	if (fd >= 0 || errno == EACCES || errno == EROFS || errno == ENOSPC || errno == EDQUOT)
		return fd < 0 ? -errno : fd;
	random_name(upload.temp);
	fd = openat(upload.folder, upload.temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		upload.temp[0] = '\0';
	return fd < 0 ? -errno : fd;
}

static bool in_place(void)
{
	return upload.job->file.flags & (AGENT_FILE_IN_PLACE | AGENT_FILE_APPEND);
}

static int open_in_place(void)
{
	uint32_t flags = upload.job->file.flags;
	int how = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
		  (flags & AGENT_FILE_APPEND ? O_APPEND : O_TRUNC) |
		  (flags & AGENT_FILE_EXCL ? O_EXCL : 0);
	int fd = openat(upload.folder, upload.name, how, 0644);
	return fd < 0 ? -errno : fd;
}

static void open_target(struct job *job)
{
	uint32_t flags = job->file.flags;

	upload = (struct upload){.job = job, .folder = -1, .fd = -1};
	int err = follow(job->path, upload.path);
	if (err < 0)
		up_fail(err);
	upload.folder = open_parent(upload.path, &upload.name,
				    flags & AGENT_FILE_PARENTS ? PARENTS_MAKE : PARENTS_MUST_EXIST);
	if (upload.folder < 0)
		up_fail(upload.folder);
	upload.exists = fstatat(upload.folder, upload.name, &upload.old, AT_SYMLINK_NOFOLLOW) == 0;
	if (upload.exists && flags & AGENT_FILE_EXCL)
		up_fail(EEXIST);
	if (upload.exists && S_ISDIR(upload.old.st_mode))
		up_fail(EISDIR);
	if (upload.exists && !S_ISREG(upload.old.st_mode) && !in_place())
		up_fail(EINVAL);
	/* Renaming over a file asks for the folder's permission only: ask for the file's too. */
	if (upload.exists && faccessat(upload.folder, upload.name, W_OK, 0) < 0)
		up_fail(errno);
	upload.fd = in_place() ? open_in_place() : open_hidden();
	if (upload.fd < 0)
		up_fail(upload.fd);
}

static void write_all(const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(upload.fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			up_fail(errno);
		data += n;
		len -= (size_t)n;
	}
}

static uint64_t receive(void)
{
	struct worker *w = upload.job->w;
	struct agent_frame frame;
	uint64_t done = 0;

	for (;;) {
		if (!worker_recv(w, &frame)) {
			abandon();
			_exit(0);
		}
		if (frame.type == AGENT_EOF && frame.stream == 0)
			return done;
		if (frame.type != AGENT_DATA || frame.stream != 0)
			up_fail(EPROTO);
		write_all(w->payload, frame.len);
		done += frame.len;
	}
}

static void set_attributes(void)
{
	const struct agent_file *file = &upload.job->file;
	mode_t mode = 0644;

	if (!in_place() && upload.exists && geteuid() == 0 &&
	    fchown(upload.fd, upload.old.st_uid, upload.old.st_gid) < 0)
		up_fail(errno);
	if (file->mode != AGENT_MODE_KEEP)
		mode = file->mode;
	else if (upload.exists)
		mode = upload.old.st_mode & 07777;
	bool asked = file->mode != AGENT_MODE_KEEP || !in_place();
	if (asked && fchmod(upload.fd, mode) < 0)
		up_fail(errno);
	if (file->mtime_ns != AGENT_MTIME_NOW) {
		int64_t sec = file->mtime_ns / 1000000000, ns = file->mtime_ns % 1000000000;
		struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
					    {.tv_sec = ns < 0 ? sec - 1 : sec,
					     .tv_nsec = (long)(ns < 0 ? ns + 1000000000 : ns)}};
		if (futimens(upload.fd, times) < 0)
			up_fail(errno);
	}
	if (file->flags & AGENT_FILE_FSYNC && fsync(upload.fd) < 0)
		up_fail(errno);
}

static void give_name(void)
{
	char self[32];
	bool excl = upload.job->file.flags & AGENT_FILE_EXCL;

	if (!upload.temp[0]) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", upload.fd);
		random_name(upload.temp);
		if (linkat(AT_FDCWD, self, upload.folder, upload.temp, AT_SYMLINK_FOLLOW) < 0) {
			int err = errno;
			upload.temp[0] = '\0';
			up_fail(err);
		}
	}
	if (syscall(SYS_renameat2, upload.folder, upload.temp, upload.folder, upload.name,
		    excl ? RENAME_NOREPLACE : 0) < 0)
		up_fail(errno);
	upload.temp[0] = '\0';
}

static void sync_folder(void)
{
	cleanup_close int fd = openat(upload.folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		up_fail(errno);
}

void job_write(struct job *job)
{
	open_target(job);
	job->w->abandon = abandon;
	uint64_t done = receive();
	set_attributes();
	if (!in_place())
		give_name();
	if (job->file.flags & AGENT_FILE_FSYNC)
		sync_folder();
	int err = job_send_entry(job, upload.folder, upload.name, job->asked);
	if (err < 0)
		up_fail(err);
	worker_value(job->w, AGENT_END, done);
}
