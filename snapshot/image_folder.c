/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of snapshots: what killed writers left, and who needs whom. */
#include "snapshot/image_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/dir.h"
#include "snapshot/image_io.h"

int snap_image_sweep(int dir_fd)
{
	return io_sweep(dir_fd);
}

/* The header alone: enough to know who it is and whose child. */
static int read_header(int dir_fd, const char *name, struct snap_image_header *head)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (io_read(fd, head, sizeof(*head), 0, NULL))
		return -EBADMSG;
	uint32_t crc = head->crc;
	head->crc = 0;
	if (memcmp(head->magic, SNAP_IMAGE_MAGIC, sizeof(head->magic)) != 0 ||
	    crc32c(head, sizeof(*head)) != crc)
		return -EBADMSG;
	head->crc = crc;
	return 0;
}

int snap_find_in_folder(void *arg, const uint8_t id[SNAP_ID_LEN])
{
	int dir_fd = *(const int *)arg, found = -ENOENT;
	DIR *dir = dir_names(dir_fd);
	struct snap_image_header head;
	struct dirent *entry;

	if (!dir)
		return -errno;
	while (found == -ENOENT && (entry = readdir(dir))) {
		if (read_header(dir_fd, entry->d_name, &head) ||
		    memcmp(head.id, id, SNAP_ID_LEN) != 0)
			continue;
		found = openat(dir_fd, entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (found < 0)
			found = -errno;
	}
	closedir(dir);
	return found;
}

#define NAMES_MAX 300u /* bytes: more dependants than fit are left out */

/* Appends "name" or ", name"; all of it or nothing. */
static void append_name(char *text, const char *name)
{
	size_t len = strlen(text), more = strlen(name);

	if (len + more + 3 > NAMES_MAX)
		return;
	if (len) {
		memcpy(text + len, ", ", 2);
		len += 2;
	}
	memcpy(text + len, name, more + 1);
}

/* The names of the children of `id` into `text`.  Return: how many, or -errno. */
static int children(int dir_fd, const uint8_t id[SNAP_ID_LEN], char *text)
{
	DIR *dir = dir_names(dir_fd);
	struct snap_image_header head;
	struct dirent *entry;
	int count = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (read_header(dir_fd, entry->d_name, &head) ||
		    memcmp(head.parent_id, id, SNAP_ID_LEN) != 0)
			continue;
		append_name(text, entry->d_name);
		count++;
	}
	closedir(dir);
	return count;
}

int snap_image_remove(int dir_fd, const char *name, struct errmsg *why)
{
	struct snap_image_header head;
	char text[NAMES_MAX] = "";

	int err = read_header(dir_fd, name, &head);
	if (err)
		return err == -EBADMSG ? image_bad(why, "%s is none", name)
				       : err_set(why, err, "snapshot %s", name);
	int count = children(dir_fd, head.id, text);
	if (count < 0)
		return err_set(why, count, "snapshot %s", name);
	if (count) {
		err_set(why, 0, "snapshot %s is needed by %s", name, text);
		return -EBUSY;
	}
	return unlinkat(dir_fd, name, 0) ? err_set(why, errno, "snapshot %s", name) : 0;
}
