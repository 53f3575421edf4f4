/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/layers.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dir.h"
#include "snapshot/cow.h"

void layers_name(char name[static LAYERS_NAME_MAX], unsigned index)
{
	snprintf(name, LAYERS_NAME_MAX, "disk-%u.cow", index);
}

static int open_layer(int home_fd, unsigned index, int flags, struct errmsg *why)
{
	char name[LAYERS_NAME_MAX];

	layers_name(name, index);
	int fd = openat(home_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? err_set(why, errno, "%s", name) : fd;
}

int layers_fresh(int home_fd, unsigned index, struct errmsg *why)
{
	return open_layer(home_fd, index, O_RDWR | O_CREAT | O_TRUNC, why);
}

int layers_read(int home_fd, unsigned index, struct errmsg *why)
{
	return open_layer(home_fd, index, O_RDONLY, why);
}

static void hide(struct layers *to)
{
	for (unsigned i = 0; i < to->count; i++) {
		cleanup_close_fn(&to->fd[i]);
		to->fd[i] = -1;
	}
	to->first += to->count;
	to->count = 0;
}

static void add(struct layers *to, int fd, const struct cow_layer *layer)
{
	if (to->count && memcmp(layer->below_id, to->id[to->count - 1], COW_ID_LEN) != 0)
		hide(to); /* made of them; if it lies on no image either, the VMM says so */
	memcpy(to->id[to->count], layer->layer_id, COW_ID_LEN);
	to->size = layer->size;
	to->block_size = layer->block_size;
	to->fd[to->count++] = fd;
}

/*
 * A file that was never made a layer, or that a host's crash took the header from before it was used: the uppermost,
 * with no byte in its header.  Anything else that is no layer is damaged, and must not be taken for the top: the top
 * is made anew.
 */
static bool is_blank_top(int fd, int home_fd, unsigned index)
{
	uint8_t header[COW_HEADER_LEN] = {0};
	char above[LAYERS_NAME_MAX];

	layers_name(above, index + 1);
	if (faccessat(home_fd, above, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	if (pread(fd, header, sizeof(header), 0) < 0)
		return false;
	for (size_t i = 0; i < sizeof(header); i++)
		if (header[i])
			return false;
	return true;
}

/* Return: 1 there are no more; 0 one was added; -errno. */
static int open_next(struct layers *to, int home_fd, struct errmsg *why)
{
	struct cow_layer layer;
	unsigned index = to->first + to->count;
	cleanup_close int fd = open_layer(home_fd, index, O_RDONLY, why);

	if (fd == -ENOENT)
		return 1;
	if (fd < 0)
		return fd;
	if (to->count == LAYERS_MAX)
		return err_set(why, E2BIG, "its disk has more than %u layers", LAYERS_MAX);
	int err = cow_open(fd, &layer, why);
	if (err == -EBADMSG && is_blank_top(fd, home_fd, index))
		return 1;
	if (!err && !layer.sealed)
		return 1; /* the VMM's */
	if (err)
		return err_wrap(why, err, "disk-%u.cow", index);
	add(to, steal_fd(&fd), &layer);
	return 0;
}

/* disk-N.cow -> N; else -1. */
static int number_of(const char *name)
{
	char again[LAYERS_NAME_MAX];
	unsigned index;

	if (sscanf(name, "disk-%6u.cow", &index) != 1)
		return -1;
	layers_name(again, index);
	return strcmp(name, again) == 0 ? (int)index : -1;
}

/* The number of the lowest layer there is, 0 when there is none; -errno. */
static int lowest(int home_fd, struct errmsg *why)
{
	DIR *dir = dir_names(home_fd);
	struct dirent *entry;
	int found = INT_MAX;

	if (!dir)
		return err_set(why, errno, "sandbox's folder");
	while ((entry = readdir(dir))) {
		int n = number_of(entry->d_name);
		found = n >= 0 && n < found ? n : found;
	}
	closedir(dir);
	return found == INT_MAX ? 0 : found;
}

int layers_open(struct layers *out, int home_fd, struct errmsg *why)
{
	struct layers made = {.count = 0};
	int got = lowest(home_fd, why);

	if (got >= 0)
		made.first = (unsigned)got;
	for (unsigned i = 0; i <= LAYERS_MAX; i++)
		made.fd[i] = -1;
	for (got = got < 0 ? got : 0; !got;)
		got = open_next(&made, home_fd, why);
	if (got < 0)
		layers_close(&made);
	*out = made;
	return got < 0 ? got : 0;
}

void layers_close(struct layers *layers)
{
	for (unsigned i = 0; i <= LAYERS_MAX; i++)
		cleanup_close_fn(&layers->fd[i]);
	layers->count = 0;
}

int layers_top(struct layers *layers, int home_fd, struct errmsg *why)
{
	assert(layers->count);
	int fd = layers_fresh(home_fd, layers->first + layers->count, why);
	if (fd < 0)
		return fd;
	layers->fd[layers->count] = fd;
	return cow_format_on(fd, layers->size, layers->block_size, layers->id[layers->count - 1],
			     why);
}

/* --- fewer ---------------------------------------------------------------------------------------- */

#define PART "disk.part"

static void remove_below(int home_fd, unsigned first, unsigned end)
{
	char name[LAYERS_NAME_MAX];

	for (unsigned i = first; i < end; i++) {
		layers_name(name, i);
		unlinkat(home_fd, name, 0);
	}
}

/* The one rename() changes what the disk is made of. */
static int compact(const struct layers *from, int home_fd, struct errmsg *why)
{
	unsigned top = from->first + from->count - 1;
	char name[LAYERS_NAME_MAX];
	cleanup_close int fd =
		openat(home_fd, PART, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_set(why, errno, PART);
	layers_name(name, top);
	int err = cow_compact(fd, from->fd, from->count, why);
	if (!err && (renameat(home_fd, PART, home_fd, name) || fsync(home_fd)))
		err = err_set(why, errno, "%s", name);
	if (!err)
		remove_below(home_fd, from->first, top);
	return err;
}

int layers_compact(int home_fd, struct errmsg *why)
{
	struct layers layers = {.count = 0};
	int err = layers_open(&layers, home_fd, why);

	if (!err && layers.count > LAYERS_DEEP)
		err = compact(&layers, home_fd, why);
	unlinkat(home_fd, PART, 0);
	layers_close(&layers);
	return err;
}
