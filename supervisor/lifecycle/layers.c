/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/layers.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
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

static int add(struct layers *to, int fd, const struct cow_layer *layer, struct errmsg *why)
{
	static const uint8_t none[COW_ID_LEN];
	const uint8_t *below = to->count ? to->id[to->count - 1] : none;

	if (to->count && memcmp(layer->below_id, below, COW_ID_LEN) != 0)
		return err_set(why, EBADMSG, "disk-%u.cow lies on another layer", to->count);
	memcpy(to->id[to->count], layer->layer_id, COW_ID_LEN);
	to->size = layer->size;
	to->block_size = layer->block_size;
	to->fd[to->count++] = fd;
	return 0;
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
	cleanup_close int fd = open_layer(home_fd, to->count, O_RDONLY, why);

	if (fd == -ENOENT)
		return 1;
	if (fd < 0)
		return fd;
	if (to->count == LAYERS_MAX)
		return err_set(why, E2BIG, "its disk has more than %u layers", LAYERS_MAX);
	int err = cow_open(fd, &layer, why);
	if (err == -EBADMSG && is_blank_top(fd, home_fd, to->count))
		return 1;
	if (!err && !layer.sealed)
		return 1; /* the VMM's */
	if (err)
		return err_wrap(why, err, "disk-%u.cow", to->count);
	if (!err)
		err = add(to, fd, &layer, why);
	if (!err)
		fd = -1;
	return err;
}

int layers_open(struct layers *out, int home_fd, struct errmsg *why)
{
	struct layers made = {.count = 0};
	int got;

	for (unsigned i = 0; i <= LAYERS_MAX; i++)
		made.fd[i] = -1;
	do
		got = open_next(&made, home_fd, why);
	while (!got);
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
	struct cow_layer layer = {
		.size = layers->size, .below_size = layers->size, .block_size = layers->block_size};

	assert(layers->count);
	memcpy(layer.below_id, layers->id[layers->count - 1], COW_ID_LEN);
	if (getrandom(layer.layer_id, COW_ID_LEN, 0) != COW_ID_LEN)
		return err_set(why, EIO, "random numbers for a layer");
	int fd = layers_fresh(home_fd, layers->count, why);
	if (fd < 0)
		return fd;
	layers->fd[layers->count] = fd;
	return cow_format(fd, &layer, why);
}
