/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt.h - a network for one VM without privileges: passt, started for it alone
 *
 * The VMM gets one end of a socket pair, passt the other.  passt ends when that socket is closed, so it ends with
 * the VMM whatever becomes of us, and there is no path, no port and no file that could be left behind.
 *
 *     guest 10.0.2.15/24 -- virtio-net -- VMM (filter) -- socket pair -- passt -- sockets of the host
 *     gateway 10.0.2.2 (answers ARP only, unless the host's loopback is allowed), names at 10.0.2.3 (UDP)
 *
 * What a guest may reach is decided in the VMM (devices/net_egress.h); passt itself does not map the gateway
 * to the host's loopback unless that is allowed.
 * Thread: the one that starts the VM.
 */
#ifndef SPORE_SUPERVISOR_NET_PASST_H
#define SPORE_SUPERVISOR_NET_PASST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define NET_GUEST   "10.0.2.15"
#define NET_GATEWAY "10.0.2.2"
#define NET_DNS     "10.0.2.3"
/* For the kernel command line: the agent sets the interface up with it. */
#define NET_CMDLINE "spore.net=" NET_GUEST "/24," NET_GATEWAY "," NET_DNS

#define PASST_PORTS_MAX 512 /* bytes of a list of ports */

struct passt_config {
	bool allow_loopback;
	char tcp[PASST_PORTS_MAX], udp[PASST_PORTS_MAX]; /* from passt_publish() */
};

/* Is passt in PATH?  @path: out, of `cap` bytes. */
bool passt_find(char *path, size_t cap);

/*
 * passt_publish() - "HOST:GUEST[/udp]": a port of the host's loopback that leads to one of the guest
 * Return: 0; -EINVAL with the reason.
 */
int passt_publish(struct passt_config *cfg, const char *text, struct errmsg *why);

/*
 * passt_start() - start it and wait until it is set up, at most 30 s
 * @pid: out: a child to be reaped; it ends when the other end of the returned socket is closed
 * Return: the VMM's end of the socket pair, close-on-exec; or -errno with passt's own words.
 */
int passt_start(const struct passt_config *cfg, int *pid, struct errmsg *why);

#endif
