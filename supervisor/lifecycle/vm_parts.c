/* SPDX-License-Identifier: Apache-2.0 */
/* The parts: a configuration, an image, a layer, a socket, each as a descriptor without a name. */
#include "supervisor/lifecycle/vm_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

#define GUEST_CID 3

/* reboot=k and panic=-1: a guest that ends, by itself or in panic, ends its VM at once. */
#define KERNEL_ARGS "console=ttyS0 quiet reboot=k panic=-1 i8042.noaux i8042.nomux i8042.dumbkbd"
#define ROOT_ARGS   " root=/dev/vda rw"

static json_t *drives_json(void)
{
	char image[32], overlay[32];

	snprintf(image, sizeof(image), "/proc/self/fd/%d", LIFE_FD_IMAGE);
	snprintf(overlay, sizeof(overlay), "/proc/self/fd/%d", LIFE_FD_OVERLAY);
	return json_pack("[{ss sb sb ss ss}]", "drive_id", "rootfs", "is_root_device", 1,
			 "is_read_only", 0, "path_on_host", image, "overlay_path", overlay);
}

/* Empty, and for its reports: what the guest has freed leaves host memory, and snapshots. */
static json_t *balloon_json(void)
{
	return json_pack("{sI sb sb}", "amount_mib", (json_int_t)0, "deflate_on_oom", 1,
			 "free_page_reporting", 1);
}

static json_t *config_json(const struct life_config *cfg)
{
	char args[2048];

	snprintf(args, sizeof(args), "%s%s%s%s", KERNEL_ARGS, cfg->image ? ROOT_ARGS : "",
		 cfg->args ? " " : "", cfg->args ? cfg->args : "");
	json_t *nets = cfg->net.fd > 0 ? json_pack("[{ss}]", "iface_id", "eth0") : json_array();

	return json_pack("{s{ss ss ss} s{sI sI} so so s{sI ss} s{} so}", "boot-source",
			 "kernel_image_path", cfg->kernel, "initrd_path", cfg->initrd, "boot_args",
			 args, "machine-config", "vcpu_count", (json_int_t)cfg->cpus,
			 "mem_size_mib", (json_int_t)cfg->memory_mib, "drives",
			 cfg->image ? drives_json() : json_array(), "network-interfaces", nets,
			 "vsock", "guest_cid", (json_int_t)GUEST_CID, "uds_path", "/dev/null",
			 "entropy", "balloon", balloon_json());
}

int life_config_fd(const struct life_config *cfg, struct errmsg *why)
{
	cleanup_close int fd = memfd_create("spore-config", MFD_CLOEXEC);
	json_t *json = config_json(cfg);

	if (!json)
		return err_set(why, EINVAL, "configuration: a path is not UTF-8");
	int err = fd < 0 ? -1 : json_dumpfd(json, fd, JSON_INDENT(1));
	json_decref(json);
	if (err)
		return err_set(why, errno ? errno : EIO, "configuration");
	return steal_fd(&fd);
}

int life_image_fd(const char *path, struct errmsg *why)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_set(why, errno, "image %s", path);
	if (fcntl(fd, F_OFD_SETLK, &lock) && (errno == EAGAIN || errno == EACCES))
		return err_set(why, 0, "image %s: in use for writing by another VM", path), -EBUSY;
	return steal_fd(&fd);
}

static int overlay_in(const char *folder)
{
	char name[4096];
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd >= 0 ? fd : -errno;
	/* A file system without O_TMPFILE: a name, for a moment. */
	snprintf(name, sizeof(name), "%s/spore-XXXXXX", folder);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(name);
	return fd;
}

int life_overlay_fd(struct errmsg *why)
{
	const char *chosen = getenv("TMPDIR");
	const char *const folders[] = {chosen && *chosen ? chosen : "/var/tmp", "/var/tmp", "/tmp"};
	int fd = -ENOENT;

	for (size_t i = 0; fd < 0 && i < ARRAY_LEN(folders); i++)
		fd = overlay_in(folders[i]);
	return fd < 0 ? err_set(why, fd, "writable layer in %s", folders[0]) : fd;
}

/* Binds in a folder of our own and leaves nothing of it but the two descriptors. */
static int bind_in(const char *folder, int fd, int *socket_fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/vsock", folder) >=
	    (int)sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	*socket_fd = open(addr.sun_path, O_PATH | O_CLOEXEC);
	int err = *socket_fd < 0 ? -errno : 0;
	unlink(addr.sun_path);
	return err;
}

int life_listen_fd(int *socket_fd, struct errmsg *why)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *run = getenv("XDG_RUNTIME_DIR");
	char folder[80];

	if (fd < 0)
		return err_set(why, errno, "vsock socket");
	if (!run || !*run || strlen(run) > 40 || access(run, W_OK))
		run = "/tmp";
	snprintf(folder, sizeof(folder), "%s/spore-XXXXXX", run);
	if (!mkdtemp(folder))
		return err_set(why, errno, "vsock socket in %s", run);
	int path_fd = -1;
	int err = bind_in(folder, fd, &path_fd);
	rmdir(folder);
	if (!err && listen(fd, LIFE_BACKLOG))
		err = -errno;
	if (err) {
		cleanup_close_fn(&path_fd);
		return err_set(why, err, "vsock socket in %s", run);
	}
	*socket_fd = path_fd;
	return steal_fd(&fd);
}
