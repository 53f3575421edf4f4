/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnet.h - virtio-net: a network interface
 * Source: virtio 1.2, 5.1.
 */
#ifndef SPORE_DEVICES_VNET_H
#define SPORE_DEVICES_VNET_H

#include "devices/dev.h"
#include "devices/limiter.h"
#include "devices/net.h"

#define VNET_QUEUE_SIZE 256
#define VNET_CHAINS_MAX \
	64 /* receive buffers of one frame: 64 KiB in those of 1526 bytes, and room */
#define VNET_TURN_FRAMES 256        /* each way */
#define VNET_TURN_BYTES  (1u << 20) /* each way */
#define VNET_MTU_MIN     68         /* 5.1.4.1 */
#define VNET_MTU_MAX     65535

extern const struct dev_ops vnet_ops;

struct vnet_cfg {
	const char *id; /* in messages */
	struct net_backend *backend;
	uint8_t mac[NET_MAC_LEN]; /* neither zero nor a group's */
	uint16_t mtu;             /* 0: none is told */
	struct limiter_cfg rx, tx;
};

/*
 * vnet_create() - ctl thread; the device owns cfg->backend from success on
 * Return: 0; -EINVAL MAC or MTU; -ENOMEM.
 */
int vnet_create(struct dev **out, const struct vnet_cfg *cfg, struct errmsg *why);

/*
 * vnet_set_backend() - put another backend in the place of the present one, which is destroyed
 * io thread, or quiesced.  For a clone, whose parent keeps its own; the link comes up again if it was down.
 * Return: 0; -ENOTSUP it lacks an offload that was offered to the guest: nothing has changed.
 */
int vnet_set_backend(struct dev *dev, struct net_backend *backend, struct errmsg *why);

/* Any thread: 48 bits to name an interface: locally administered, unicast.  0 or -errno. */
int vnet_random_mac(uint8_t mac[NET_MAC_LEN]);

#endif
