/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.c - the interface as the kernel command line names it: the host knows the addresses, for it started
 * what stands behind the interface, so that there is nothing to ask for and to wait for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/cleanup.h"

#define INTERFACE "eth0"
#define RESOLV    "/etc/resolv.conf"

struct network {
	struct in_addr address, mask, gateway, names;
};

static int parse(struct network *net, const char *text)
{
	char address[16], gateway[16], names[16];
	unsigned bits;

	if (sscanf(text, "%15[0-9.]/%2u,%15[0-9.],%15[0-9.]", address, &bits, gateway, names) != 4)
		return -EINVAL;
	if (bits < 1 || bits > 32 || inet_pton(AF_INET, address, &net->address) != 1 ||
	    inet_pton(AF_INET, gateway, &net->gateway) != 1 ||
	    inet_pton(AF_INET, names, &net->names) != 1)
		return -EINVAL;
	net->mask.s_addr = htonl(UINT32_MAX << (32 - bits));
	return 0;
}

static void put_address(struct sockaddr *to, struct in_addr addr)
{
	const struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = addr};
	memcpy(to, &in, sizeof(in));
}

static struct ifreq ifr_with(struct in_addr addr)
{
	struct ifreq ifr = {.ifr_name = INTERFACE};

	put_address(&ifr.ifr_addr, addr);
	return ifr;
}

static int set_addresses(int fd, const struct network *net)
{
	struct ifreq address = ifr_with(net->address), mask = ifr_with(net->mask);

	return ioctl(fd, SIOCSIFADDR, &address) < 0 || ioctl(fd, SIOCSIFNETMASK, &mask) < 0 ? -errno
											    : 0;
}

static int set_up(int fd)
{
	struct ifreq ifr = {.ifr_name = INTERFACE};

	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int add_route(int fd, struct in_addr gateway)
{
	const struct in_addr any = {.s_addr = INADDR_ANY};
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};

	put_address(&route.rt_dst, any);
	put_address(&route.rt_genmask, any);
	put_address(&route.rt_gateway, gateway);
	return ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

/* An image may have a link there that leads to a service which does not run. */
static int write_names(struct in_addr names)
{
	char text[16];

	inet_ntop(AF_INET, &names, text, sizeof(text));
	if (unlink(RESOLV) < 0 && errno != ENOENT)
		return -errno;
	cleanup_close int fd = open(RESOLV, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	return dprintf(fd, "nameserver %s\n", text) < 0 ? -errno : 0;
}

void network_up(const char *text)
{
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct network net;

	int err = fd < 0 ? -errno : parse(&net, text);
	if (!err)
		err = set_addresses(fd, &net);
	if (!err)
		err = set_up(fd);
	if (!err)
		err = add_route(fd, net.gateway);
	if (!err)
		err = write_names(net.names);
	if (err)
		dprintf(2, "spore-agent: network %s: %s\n", text, strerror(-err));
}
