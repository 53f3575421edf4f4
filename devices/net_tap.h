/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_tap.h - frames through a tap, with checksum and segmentation offloads
 * Source: Linux, Documentation/networking/tuntap.rst; include/uapi/linux/if_tun.h.
 */
#ifndef SPORE_DEVICES_NET_TAP_H
#define SPORE_DEVICES_NET_TAP_H

#include "devices/net.h"

/*
 * net_tap_open() - attach to the tap of that name, which exists or is made when we may
 * Return: its descriptor, ready for net_tap_create(); or -errno.  Before the sandbox closes.
 */
int net_tap_open(const char *name, struct errmsg *why);

/*
 * net_tap_create() - ctl thread
 * @fd: a tap with IFF_VNET_HDR and IFF_NO_PI; owned from success on
 * Return: 0; -EINVAL no such tap; -ENOMEM.
 */
int net_tap_create(struct net_backend **out, int fd, struct errmsg *why);

#endif
