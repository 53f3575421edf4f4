/* SPDX-License-Identifier: Apache-2.0 */
/* Each read and each write is one frame behind its virtio header, which the kernel checks. */
#include "devices/net_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"

#define OFFLOADS                                                                                 \
	(NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_HOST_TSO4 | \
	 NET_F_HOST_TSO6)

struct tap {
	struct net_backend net;
	uint32_t len; /* of what `in` holds; 0: nothing */
	uint8_t in[sizeof(struct net_hdr) + NET_FRAME_MAX];
};

static struct tap *tap_of(struct net_backend *net)
{
	return container_of(net, struct tap, net);
}

/* What the kernel may hand us is what the driver can take. */
static int tap_set_offload(struct net_backend *net, uint64_t taken)
{
	unsigned long flags = 0;

	if (taken & NET_F_GUEST_CSUM)
		flags |= TUN_F_CSUM;
	if (taken & NET_F_GUEST_TSO4)
		flags |= TUN_F_TSO4;
	if (taken & NET_F_GUEST_TSO6)
		flags |= TUN_F_TSO6;
	return ioctl(net->fd, TUNSETOFFLOAD, flags) ? -errno : 0;
}

static int tap_send(struct net_backend *net, const struct net_tx *tx)
{
	struct net_hdr hdr = tx->hdr;

	tx->iov[-1] = (struct iovec){&hdr, sizeof(hdr)};
	ssize_t n = writev(net->fd, tx->iov - 1, (int)tx->count + 1);
	if (n < 0 && (errno == EAGAIN || errno == EBADFD))
		return -errno;
	return 0; /* refused: the header lies, or the interface is down: the frame is lost */
}

static int tap_peek(struct net_backend *net, struct net_rx *rx)
{
	struct tap *tap = tap_of(net);

	if (!tap->len) {
		ssize_t n = read(net->fd, tap->in, sizeof(tap->in));
		if (n < 0)
			return errno == EBADFD ? -EBADFD : 0; /* EIO: the interface is down */
		if ((size_t)n < sizeof(rx->hdr) + NET_FRAME_MIN)
			return 0;
		tap->len = (uint32_t)n;
	}
	memcpy(&rx->hdr, tap->in, sizeof(rx->hdr));
	rx->frame = tap->in + sizeof(rx->hdr);
	rx->len = tap->len - (uint32_t)sizeof(rx->hdr);
	return 1;
}

static void tap_take(struct net_backend *net)
{
	tap_of(net)->len = 0;
}

static void tap_destroy(struct net_backend *net)
{
	close(net->fd);
	free(tap_of(net));
}

static const struct net_ops tap_ops = {
	.name = "tap",
	.set_offload = tap_set_offload,
	.send = tap_send,
	.peek = tap_peek,
	.take = tap_take,
	.destroy = tap_destroy,
};

int net_tap_open(const char *name, struct errmsg *why)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	cleanup_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_set(why, errno, "open '/dev/net/tun'");
	if (strlen(name) >= sizeof(ifr.ifr_name))
		return err_set(why, ENAMETOOLONG, "tap '%s'", name);
	memcpy(ifr.ifr_name, name, strlen(name));
	if (ioctl(fd, TUNSETIFF, &ifr))
		return err_set(why, errno, "tap '%s'", name);
	return steal_fd(&fd);
}

int net_tap_create(struct net_backend **out, int fd, struct errmsg *why)
{
	struct ifreq ifr = {.ifr_flags = 0};
	int size = sizeof(struct net_hdr);

	if (ioctl(fd, TUNGETIFF, &ifr))
		return err_set(why, errno, "descriptor %d is not a tap", fd);
	if ((ifr.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) !=
	    (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
		return err_set(why, 0, "tap %.15s lacks IFF_VNET_HDR or IFF_NO_PI", ifr.ifr_name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) || ioctl(fd, TUNSETOFFLOAD, 0ul) ||
	    fcntl(fd, F_SETFL, O_NONBLOCK))
		return err_set(why, errno, "tap %.15s", ifr.ifr_name);
	struct tap *tap = calloc(1, sizeof(*tap));
	if (!tap)
		return err_set(why, ENOMEM, "tap backend");
	tap->net = (struct net_backend){.ops = &tap_ops, .fd = fd, .features = OFFLOADS};
	*out = &tap->net;
	return 0;
}
