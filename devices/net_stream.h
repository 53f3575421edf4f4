/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_stream.h - frames over a connected stream socket, each behind its length in 4 bytes, big-endian
 * What passt speaks, and QEMU's "-netdev stream".  No offloads: frames are complete.
 */
#ifndef SPORE_DEVICES_NET_STREAM_H
#define SPORE_DEVICES_NET_STREAM_H

#include "devices/net.h"
#include "devices/net_egress.h"

/*
 * net_stream_create() - ctl thread
 * @fd: owned from success on; made non-blocking
 * Frames that `rule` forbids are dropped, without a word to the guest.
 * Return: 0; -ENOTSOCK, -EPROTOTYPE not a connected stream socket; -ENOMEM.
 */
int net_stream_create(struct net_backend **out, int fd, const struct net_egress *rule,
		      struct errmsg *why);

#endif
