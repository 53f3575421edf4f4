/* SPDX-License-Identifier: Apache-2.0 */
/* config_open.c - from a configuration to open descriptors; nothing is opened after the sandbox closes */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "devices/net_tap.h"
#include "vmm/config.h"

#define VSOCK_BACKLOG 64

enum file_use {
	FILE_BOOT,
	FILE_BASE,
	FILE_IMAGE,
	FILE_LAYER
}; /* kernel or initrd; read only; read and write; the same, empty: to be formatted */

static int file_check(int fd, enum file_use use, const char *path, struct errmsg *why)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_set(why, errno, "'%s'", path);
	if (S_ISBLK(st.st_mode) && use != FILE_BOOT)
		return 0;
	if (!S_ISREG(st.st_mode))
		return err_set(why, 0, "'%s' is not a regular file%s", path,
			       use == FILE_BOOT ? "" : " or block device");
	if (st.st_size == 0 && use != FILE_LAYER)
		return err_set(why, 0, "'%s' is empty", path);
	return 0;
}

/* Held by the open file description: it goes when the last copy of the descriptor is closed. */
static int file_lock(int fd, enum file_use use, const char *path, struct errmsg *why)
{
	struct flock lock = {.l_type = use >= FILE_IMAGE ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	if (!fcntl(fd, F_OFD_SETLK, &lock))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(why, EBUSY, "'%s' is in use by another VM", path);
	return err_set(why, errno, "lock '%s'", path);
}

/* Return: the descriptor, or -errno.  O_NONBLOCK: a FIFO under the name must not hold us up. */
static int file_open(const char *path, enum file_use use, struct errmsg *why)
{
	int mode = use >= FILE_IMAGE ? O_RDWR : O_RDONLY;
	cleanup_close int fd = open(path, mode | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return err_set(why, errno, "open '%s'", path);
	int err = file_check(fd, use, path, why);
	if (!err && use != FILE_BOOT)
		err = file_lock(fd, use, path, why);
	if (err)
		return err;
	if (fcntl(fd, F_SETFL, 0)) /* io_uring answers EAGAIN on a non-blocking file */
		return err_set(why, errno, "'%s'", path);
	return steal_fd(&fd);
}

static int open_boot(const struct config *cfg, struct vmm_config *out, struct errmsg *why)
{
	out->kernel_fd = file_open(cfg->kernel_path, FILE_BOOT, why);
	if (out->kernel_fd < 0)
		return err_wrap(why, out->kernel_fd, "kernel");
	if (!cfg->initrd_path)
		return 0;
	out->initrd_fd = file_open(cfg->initrd_path, FILE_BOOT, why);
	return out->initrd_fd < 0 ? err_wrap(why, out->initrd_fd, "initrd") : 0;
}

/* What an empty VM needs of it. */
static void describe_drive(const struct config_drive *drive, struct vmm_drive *out)
{
	out->id = drive->id;
	out->read_only = drive->is_read_only;
	out->is_root = drive->is_root;
	out->partuuid = drive->partuuid;
	out->writeback = drive->cache == CONFIG_CACHE_WRITEBACK;
}

static int open_drive(const struct config_drive *drive, struct vmm_drive *out, struct errmsg *why)
{
	bool base = drive->is_read_only || drive->overlay_path;

	out->fd = file_open(drive->path, base ? FILE_BASE : FILE_IMAGE, why);
	if (out->fd < 0)
		return err_wrap(why, out->fd, "drive '%s'", drive->id);
	if (!drive->overlay_path)
		return 0;
	out->overlay_fd = file_open(drive->overlay_path, FILE_LAYER, why);
	return out->overlay_fd < 0
		       ? err_wrap(why, out->overlay_fd, "drive '%s': overlay", drive->id)
		       : 0;
}

static struct vmm_limit limit_of(const struct limiter_cfg *cfg)
{
	const struct limiter_bucket_cfg *bytes = &cfg->bandwidth, *ops = &cfg->ops;

	return (struct vmm_limit){.bandwidth = {bytes->size, bytes->burst, bytes->refill_ms},
				  .ops = {ops->size, ops->burst, ops->refill_ms}};
}

static int open_drives(const struct config *cfg, struct vmm_config *out, struct errmsg *why)
{
	for (uint32_t i = 0; i < cfg->drive_count; i++) {
		out->drive[i] = (struct vmm_drive){.fd = -1, .overlay_fd = -1};
		out->drive_count = i + 1; /* config_close() looks at this one, too */
		out->drive_limit[i] = limit_of(&cfg->drive[i].limit);
		describe_drive(&cfg->drive[i], &out->drive[i]);
		int err = out->empty ? 0 : open_drive(&cfg->drive[i], &out->drive[i], why);
		if (err)
			return err;
	}
	return 0;
}

static int bind_vsock(const char *path, struct errmsg *why)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_set(why, errno, "vsock: socket");
	memcpy(addr.sun_path, path, strlen(path) + 1); /* the parser bounds it: CONFIG_UDS_SUFFIX */
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) || listen(fd, VSOCK_BACKLOG))
		return err_set(why, errno, "vsock: bind '%s'", path);
	return steal_fd(&fd);
}

static int open_vsock(const struct config *cfg, const struct options *opt, struct vmm_config *out,
		      struct errmsg *why)
{
	if (!cfg->has_vsock) {
		if (opt->vsock_listen_fd >= 0 || opt->ready_fd >= 0)
			return err_set(why, 0,
				       "--vsock-listen-fd and --ready-fd need a vsock "
				       "section in the configuration");
		return 0;
	}
	out->has_vsock = true;
	out->vsock.guest_cid = (uint32_t)cfg->guest_cid;
	out->vsock.uds_path = strcmp(cfg->uds_path, CONFIG_UDS_NONE) ? cfg->uds_path : NULL;
	out->vsock.ready_fd = opt->ready_fd;
	out->vsock.ready_port = opt->ready_port;
	out->vsock.listen_fd =
		opt->vsock_listen_fd >= 0 ? opt->vsock_listen_fd : bind_vsock(cfg->uds_path, why);
	return out->vsock.listen_fd < 0 ? out->vsock.listen_fd : 0;
}

static int take_address(const char *option, const char *text, uint32_t *out, struct errmsg *why)
{
	struct in_addr addr;

	if (!text)
		return 0;
	if (inet_pton(AF_INET, text, &addr) != 1)
		return err_set(why, 0, "%s: '%s' is not an IPv4 address", option, text);
	*out = ntohl(addr.s_addr);
	return 0;
}

static int open_net(const struct config_net *net, const struct options *opt, struct vmm_net *out,
		    struct errmsg *why)
{
	out->id = net->id;
	out->mtu = (uint16_t)net->mtu;
	out->rx = limit_of(&net->rx);
	out->tx = limit_of(&net->tx);
	if (net->mac)
		(void)config_mac(out->mac, net->mac); /* the parser has checked it */
	if (net->tap) {
		out->fd = net_tap_open(net->tap, why);
		return out->fd < 0 ? out->fd : 0;
	}
	if (opt->net_fd < 0)
		return err_set(why, 0, "neither host_dev_name nor --net-fd");
	out->kind = VMM_NET_STREAM;
	out->fd = opt->net_fd;
	out->egress.filter = opt->net_filter;
	out->egress.allow_private = opt->net_private;
	int err = take_address("--net-dns", opt->net_dns, &out->egress.dns, why);
	return err ? err
		   : take_address("--net-gateway", opt->net_gateway, &out->egress.gateway, why);
}

static int open_nets(const struct config *cfg, const struct options *opt, struct vmm_config *out,
		     struct errmsg *why)
{
	bool used = false;

	for (uint32_t i = 0; i < cfg->net_count; i++) {
		out->net[i] = (struct vmm_net){.fd = -1};
		out->net_count = i + 1; /* config_close() looks at this one, too */
		int err = open_net(&cfg->net[i], opt, &out->net[i], why);
		if (err)
			return err_wrap(why, err, "network interface %s", cfg->net[i].id);
		used |= !cfg->net[i].tap;
	}
	if (opt->net_fd >= 0 && !used)
		return err_set(why, 0,
			       "--net-fd needs a network interface without host_dev_name in the "
			       "configuration");
	return 0;
}

static int open_kvm(const struct options *opt, struct vmm_config *out, struct errmsg *why)
{
	out->kvm_fd = opt->kvm_fd >= 0 ? opt->kvm_fd : open(opt->kvm_path, O_RDWR | O_CLOEXEC);
	if (out->kvm_fd >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return err_set(why, errno, "open '%s' (is this user in the group kvm?)",
			       opt->kvm_path);
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return err_set(why, errno,
			       "open '%s' (no hardware virtualization, or the module kvm_intel "
			       "or kvm_amd is not loaded)",
			       opt->kvm_path);
	return err_set(why, errno, "open '%s'", opt->kvm_path);
}

/* Given, or opened where that is permitted: without it a load is refused that needs it. */
static int uffd_fd(const struct options *opt)
{
	if (!opt->empty || opt->uffd_fd >= 0)
		return opt->uffd_fd;
	return open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
}

static int console_fd(const struct options *opt)
{
	if (opt->console_log_fd >= 0)
		return opt->console_log_fd;
	return opt->console_fd >= 0 ? opt->console_fd : STDOUT_FILENO;
}

int config_open(const struct config *cfg, const struct options *opt, struct vmm_config *out,
		struct errmsg *why)
{
	struct vmm_config to = {
		.size = sizeof(to),
		.kernel_fd = -1,
		.initrd_fd = -1,
		.kvm_fd = -1,
		.cmdline = cfg->boot_args,
		.cpus = (uint32_t)cfg->vcpu_count,
		.mem_mib = cfg->mem_size_mib,
		.vsock = {.listen_fd = -1, .ready_fd = -1},
		.has_entropy = cfg->has_entropy,
		.has_balloon = cfg->has_balloon,
		.balloon = {.amount_mib = (uint32_t)cfg->balloon_mib,
			    .deflate_on_oom = cfg->balloon_on_oom,
			    .reporting = cfg->balloon_reporting,
			    .stats_interval_s = (uint32_t)cfg->balloon_stats_s},
		.track_dirty_pages = cfg->track_dirty_pages,
		.serial = {.out_fd = console_fd(opt), .in_fd = opt->console_in_fd},
		.serial_is_log = opt->console_log_fd >= 0,
		.boot_timer = opt->boot_timer,
		.seal_uid = opt->uid,
		.seal_gid = opt->gid,
		.seal_no_seccomp = opt->no_seccomp,
		.capturable = opt->ctl_fd >= 0,
		.empty = opt->empty,
		.uffd_fd = uffd_fd(opt),
	};

	int err = open_kvm(opt, &to, why);
	if (!err && !opt->empty)
		err = open_boot(cfg, &to, why);
	if (!err)
		err = open_drives(cfg, &to, why);
	if (!err)
		err = open_nets(cfg, opt, &to, why);
	if (!err)
		err = open_vsock(cfg, opt, &to, why);
	if (err)
		config_close(opt, &to);
	else
		*out = to;
	return err;
}

static void close_one(int *fd, int not_ours)
{
	if (*fd >= 0 && *fd != not_ours)
		close(*fd);
	*fd = -1;
}

void config_close(const struct options *opt, struct vmm_config *cfg)
{
	close_one(&cfg->vsock.listen_fd, opt->vsock_listen_fd);
	for (uint32_t i = 0; i < cfg->net_count; i++)
		close_one(&cfg->net[i].fd, opt->net_fd);
	for (uint32_t i = 0; i < cfg->drive_count; i++) {
		close_one(&cfg->drive[i].overlay_fd, -1);
		close_one(&cfg->drive[i].fd, -1);
	}
	close_one(&cfg->initrd_fd, -1);
	close_one(&cfg->kernel_fd, -1);
	close_one(&cfg->kvm_fd, opt->kvm_fd);
	close_one(&cfg->uffd_fd, opt->uffd_fd);
}
