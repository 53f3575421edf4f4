/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of address blocks: the special-purpose registries of IANA (RFC 6890) that are not global unicast. */
#include "devices/net_egress.h"

#include <string.h>

#include "base/cleanup.h"

enum { ETH_HEAD = 14, IP4_HEAD = 20, IP6_HEAD = 40 };
enum { ETH_IP4 = 0x0800, ETH_ARP = 0x0806, ETH_IP6 = 0x86dd };
enum { IP_TCP = 6, IP_UDP = 17, IP_ICMP6 = 58 };
enum { TCP_FLAGS = 13, TCP_ACK = 0x10 };
enum { PORT_DNS = 53, PORT_DHCP = 67, PORT_DHCP6 = 547 };
enum { NDP_FIRST = 133, NDP_LAST = 136 }; /* RFC 4861: solicitations and advertisements */

struct block4 {
	uint32_t net;
	unsigned bits;
};

/* Never: not a destination of its own, this host, or many. */
static const struct block4 never4[] = {
	{0x00000000, 8}, /* this network */
	{0x7f000000, 8}, /* loopback */
	{0xe0000000, 4}, /* multicast */
	{0xf0000000, 4}, /* reserved, broadcast */
};
static const struct block4 private4[] = {
	{0x0a000000, 8},  {0xac100000, 12}, {0xc0a80000, 16}, /* RFC 1918 */
	{0x64400000, 10},                                     /* carrier-grade NAT */
	{0xa9fe0000, 16},                                     /* link-local, metadata services */
	{0xc0000000, 24},                                     /* IETF protocol assignments */
	{0xc6120000, 15},                                     /* benchmarking */
};

struct block6 {
	uint8_t net[16];
	unsigned bits;
};
static const struct block6 private6[] = {
	{{0xfc}, 7},       /* unique local */
	{{0xfe, 0x80}, 9}, /* link-local, and the site-local before it */
};
/* Where an IPv4 address stands inside an IPv6 one: it is judged as such. */
static const struct {
	struct block6 block;
	unsigned at;
} embedded[] = {
	{{{[10] = 0xff, [11] = 0xff}, 96}, 12},           /* mapped */
	{{{0x00, 0x64, 0xff, 0x9b}, 96}, 12},             /* NAT64 */
	{{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, 12}, /* NAT64, local use */
	{{{0x20, 0x02}, 16}, 2},                          /* 6to4 */
};

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static bool in_blocks4(uint32_t addr, const struct block4 *block, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if ((addr ^ block[i].net) >> (32 - block[i].bits) == 0)
			return true;
	return false;
}

static bool in_block6(const uint8_t *addr, const struct block6 *block)
{
	unsigned whole = block->bits / 8, rest = block->bits % 8;

	if (memcmp(addr, block->net, whole) != 0)
		return false;
	return !rest || ((addr[whole] ^ block->net[whole]) >> (8 - rest)) == 0;
}

/*
 * A segment of a connection that was opened from the other side, to a published port: it carries ACK, and one
 * that opens a connection does not.  passt drops what belongs to no connection of its own.
 */
static bool is_answer(const uint8_t *ip, size_t len)
{
	return len > IP4_HEAD + TCP_FLAGS && ip[9] == IP_TCP && !(be16(ip + 6) & 0x3fff) &&
	       ip[IP4_HEAD + TCP_FLAGS] & TCP_ACK;
}

static bool allows_addr4(const struct net_egress *rule, uint32_t addr)
{
	if (in_blocks4(addr, never4, ARRAY_LEN(never4)))
		return false;
	if (rule->gateway && addr == rule->gateway)
		return true;
	return rule->allow_private || !in_blocks4(addr, private4, ARRAY_LEN(private4));
}

/* UDP to that port, in a packet that is no fragment? */
static bool is_udp_to(const uint8_t *ip, size_t len, uint16_t port)
{
	return len >= IP4_HEAD + 4 && ip[9] == IP_UDP && !(be16(ip + 6) & 0x3fff) &&
	       be16(ip + IP4_HEAD + 2) == port;
}

static bool allows_ip4(const struct net_egress *rule, const uint8_t *ip, size_t len)
{
	if (len < IP4_HEAD || ip[0] != 0x45)
		return false; /* options could name another way */
	uint32_t to = be32(ip + 16);
	if (to == UINT32_MAX)
		return is_udp_to(ip, len, PORT_DHCP);
	if (rule->dns && to == rule->dns && is_udp_to(ip, len, PORT_DNS))
		return true;
	return allows_addr4(rule, to) ||
	       (is_answer(ip, len) && !in_blocks4(to, never4, ARRAY_LEN(never4)));
}

/* Neighbour discovery, and DHCPv6: to the backend itself. */
static bool is_local6(const uint8_t *ip, size_t len)
{
	const uint8_t *next = ip + IP6_HEAD;

	if (ip[6] == IP_ICMP6 && len > IP6_HEAD)
		return next[0] >= NDP_FIRST && next[0] <= NDP_LAST;
	return ip[6] == IP_UDP && len >= IP6_HEAD + 4 && be16(next + 2) == PORT_DHCP6;
}

static bool allows_ip6(const struct net_egress *rule, const uint8_t *ip, size_t len)
{
	static const uint8_t zero[15];

	if (len < IP6_HEAD || ip[0] >> 4 != 6)
		return false;
	const uint8_t *to = ip + 24;
	if (to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80 && !rule->allow_private))
		return is_local6(ip, len);
	for (size_t i = 0; i < ARRAY_LEN(embedded); i++)
		if (in_block6(to, &embedded[i].block))
			return allows_addr4(rule, be32(to + embedded[i].at));
	if (memcmp(to, zero, 12) == 0)
		return false; /* unspecified, loopback, and the IPv4-compatible ones of old */
	for (size_t i = 0; !rule->allow_private && i < ARRAY_LEN(private6); i++)
		if (in_block6(to, &private6[i]))
			return is_local6(ip, len) && to[0] == 0xfe;
	return true;
}

bool net_egress_allows(const struct net_egress *rule, const uint8_t *head, size_t len)
{
	if (!rule->filter)
		return true;
	if (len < ETH_HEAD)
		return false;
	switch (be16(head + 12)) {
	case ETH_ARP: return true;
	case ETH_IP4: return allows_ip4(rule, head + ETH_HEAD, len - ETH_HEAD);
	case ETH_IP6: return allows_ip6(rule, head + ETH_HEAD, len - ETH_HEAD);
	default: return false;
	}
}
