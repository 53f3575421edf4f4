/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "devices/vblk.h"
#include "devices/vsock.h"
#include "vmm/drive.h"

static int connect_disk(struct vmm *m, unsigned index, const struct vmm_disk *disk,
			struct errmsg *why)
{
	struct dev *dev = mmio_dev(m->dev[index]);
	struct blk_backend *backend, *old;

	int err = drive_stack(&backend, dev->id, disk, vblk_is_read_only(dev), m->loop, why);
	if (err)
		return err_wrap(why, err, "drive %s", dev->id);
	err = vblk_set_backend(dev, backend, &old, why);
	if (err) {
		blk_destroy(backend);
		return err_wrap(why, err, "drive %s", dev->id);
	}
	blk_destroy(old);
	return 0;
}

static int connect_vsock(struct vmm *m, int listen_fd, struct errmsg *why)
{
	if (listen_fd < 0)
		return 0;
	if (!m->vsock)
		return err_set(why, EINVAL, "a vsock's socket for a machine without a vsock");
	int fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 0);
	int err = fd < 0 ? -errno : vsock_set_host(m->vsock, fd, NULL, why);
	if (err && fd >= 0)
		close(fd);
	return err ? err_set(why, err, "vsock socket") : 0;
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

int devices_push_layers(struct vmm *m, const struct vmm_capture_cfg *cfg, struct errmsg *why)
{
	(void)m;
	return cfg->layer_count ? err_set(why, EINVAL, "no layers yet") : 0;
}
