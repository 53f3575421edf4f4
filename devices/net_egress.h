/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_egress.h - which frames of a guest may leave
 *
 * Judged by destination address: only what the Internet at large could reach passes, unless private networks
 * are allowed.  Frames that cannot be judged (VLAN tags, IPv4 options, other protocols) stay.  ARP, neighbour
 * discovery and DHCP pass: the backend answers them itself and sends none of it on.
 * Answers to connections that came in pass, too, told by their ACK flag alone: the backend must be one that
 * keeps connections and drops what belongs to none, as passt does.
 * Pure; any thread.
 */
#ifndef SPORE_DEVICES_NET_EGRESS_H
#define SPORE_DEVICES_NET_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As many bytes of a frame as the verdict may depend on. */
#define NET_EGRESS_HEAD 64u

struct net_egress {
	bool filter;        /* false: everything passes */
	bool allow_private; /* RFC 1918, CGNAT, link-local, ULA ... */
	uint32_t dns;       /* IPv4 address, host order: port 53 over UDP is open there; 0: none */
	uint32_t gateway;   /* IPv4 address, host order: all of it is open; 0: none */
};

/* @head: the frame's first min(len, NET_EGRESS_HEAD) bytes, the caller's private copy */
bool net_egress_allows(const struct net_egress *rule, const uint8_t *head, size_t len);

#endif
