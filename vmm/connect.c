/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "devices/vblk.h"
#include "devices/vsock.h"
#include "vmm/drive.h"

/* A backend on its way to its device: made here, put there on the io thread. */
struct hand_over {
	struct dev *dev;
	struct blk_backend *backend, *old;
	struct errmsg *why;
	int err;
};

static void put_backend(void *arg)
{
	struct hand_over *to = arg;
	to->err = vblk_set_backend(to->dev, to->backend, &to->old, to->why);
}

static int connect_disk(struct vmm *m, unsigned index, const struct vmm_disk *disk,
			struct errmsg *why)
{
	struct hand_over to = {.dev = mmio_dev(m->dev[index]), .why = why};

	int err =
		drive_stack(&to.backend, to.dev->id, disk, vblk_is_read_only(to.dev), m->loop, why);
	if (err)
		return err_wrap(why, err, "drive %s", to.dev->id);
	loop_call(m->loop, put_backend, &to);
	if (to.err) {
		blk_destroy(to.backend);
		return err_wrap(why, to.err, "drive %s", to.dev->id);
	}
	blk_destroy(to.old);
	m->layered[index] = disk->layer_count ? to.backend : NULL;
	return 0;
}

struct host_change {
	struct dev *dev;
	int fd, err;
};

static void put_host(void *arg)
{
	struct host_change *to = arg;
	to->err = vsock_set_host(to->dev, to->fd, NULL, NULL);
}

static int connect_vsock(struct vmm *m, int listen_fd, struct errmsg *why)
{
	struct host_change to = {.dev = m->vsock};

	if (listen_fd < 0)
		return 0;
	if (!m->vsock)
		return err_set(why, EINVAL, "a vsock's socket for a machine without a vsock");
	to.fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 0);
	if (to.fd < 0)
		return err_set(why, errno, "vsock socket");
	loop_call(m->loop, put_host, &to);
	if (!to.err)
		return 0;
	close(to.fd);
	return err_set(why, to.err, "vsock socket");
}

int devices_connect(struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why)
{
	if (cfg->disk_count != m->drive_count)
		return err_set(why, EINVAL, "%u disks for a machine with %u", cfg->disk_count,
			       m->drive_count);
	int err = 0;
	for (unsigned i = 0; !err && i < m->drive_count; i++)
		err = connect_disk(m, i, &cfg->disk[i], why);
	return err ? err : connect_vsock(m, cfg->vsock_listen_fd, why);
}

/* --- the layers of a capture -------------------------------------------------------------------- */

/* An empty file becomes a layer on the disk's present top; any other is looked at by who takes it. */
static int layer_format(int fd, const struct blk_backend *disk, struct errmsg *why)
{
	uint8_t id[BLK_COW_LAYERS_MAX][COW_ID_LEN];
	unsigned count = blk_cow_layer_ids(disk, id, BLK_COW_LAYERS_MAX);
	struct stat st;

	if (fstat(fd, &st))
		return err_set(why, errno, "fresh layer");
	return st.st_size ? 0 : drive_format_layer(fd, disk->size, id[count - 1], why);
}

static int layer_prepare(struct blk_cow_next **next, struct blk_backend *disk, int fd, int below_fd,
			 struct errmsg *why)
{
	int err = blk_cow_seal_finish(disk, why);
	if (!err)
		err = layer_format(fd, disk, why);
	return err ? err : blk_cow_next_create(next, disk, fd, below_fd, why);
}

int layers_prepare(struct layers *layers, struct vmm *m, const struct vmm_capture_cfg *cfg,
		   struct errmsg *why)
{
	unsigned want = 0;
	int err = 0;

	for (unsigned i = 0; i < m->drive_count; i++)
		want += m->layered[i] != NULL;
	if (cfg->layer_count != want)
		return err_set(why, EINVAL, "%u fresh layers for a machine with %u layered disks",
			       cfg->layer_count, want);
	for (unsigned i = 0; !err && i < m->drive_count; i++) {
		if (!m->layered[i])
			continue;
		unsigned n = layers->count;
		err = layer_prepare(&layers->next[n], m->layered[i], cfg->layer_fd[n],
				    cfg->below_fd[n], why);
		if (err)
			return err_wrap(why, err, "drive %s", mmio_dev(m->dev[i])->id);
		layers->count++;
	}
	return err;
}

struct push {
	struct layers *layers;
	struct vmm *m;
};

static void push_all(void *arg)
{
	struct push *push = arg;
	unsigned n = 0;

	for (unsigned i = 0; i < push->m->drive_count; i++) {
		if (!push->m->layered[i])
			continue;
		struct blk_cow_next *next = steal_ptr(&push->layers->next[n]);
		VERIFY(blk_cow_push(push->m->layered[i], next) == 0);
		n++;
	}
}

void layers_push(struct layers *layers, struct vmm *m)
{
	struct push push = {layers, m};

	if (layers->count)
		loop_call(m->loop, push_all, &push);
}

int layers_seal(struct vmm *m, struct errmsg *why)
{
	for (unsigned i = 0; i < m->drive_count; i++) {
		int err = m->layered[i] ? blk_cow_seal_finish(m->layered[i], why) : 0;
		if (err)
			return err_wrap(why, err, "drive %s", mmio_dev(m->dev[i])->id);
	}
	return 0;
}

void layers_drop(struct layers *layers)
{
	for (unsigned i = 0; i < layers->count; i++)
		blk_cow_next_destroy(layers->next[i]);
	layers->count = 0;
}
