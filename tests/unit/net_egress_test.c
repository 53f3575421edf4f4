/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest may reach: one row an address, and frames that cannot be judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <arpa/inet.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "devices/net_egress.h"

static const struct net_egress strict = {
	.filter = true, .dns = 0x0a000203, .gateway = 0}; /* 10.0.2.3 */
static const struct net_egress with_private = {.filter = true, .allow_private = true};
static const struct net_egress with_gateway = {.filter = true, .gateway = 0x0a000202};

struct frame {
	uint8_t b[NET_EGRESS_HEAD];
};

static struct frame ip4(const char *to, uint8_t proto, uint16_t port)
{
	struct frame f = {{[12] = 0x08, [14] = 0x45, [23] = proto}};

	assert_int_equal(inet_pton(AF_INET, to, f.b + 30), 1);
	f.b[36] = (uint8_t)(port >> 8);
	f.b[37] = (uint8_t)port;
	return f;
}

static struct frame ip6(const char *to, uint8_t proto, uint8_t type, uint16_t port)
{
	struct frame f = {{[12] = 0x86, [13] = 0xdd, [14] = 0x60, [20] = proto, [54] = type}};

	assert_int_equal(inet_pton(AF_INET6, to, f.b + 38), 1);
	f.b[56] = (uint8_t)(port >> 8);
	f.b[57] = (uint8_t)port;
	return f;
}

static bool passes(const struct net_egress *rule, struct frame f)
{
	return net_egress_allows(rule, f.b, sizeof(f.b));
}

static void egress_ipv4__by_destination(void **state)
{
	static const struct {
		const char *to;
		bool pass, pass_private;
	} row[] = {
		{"8.8.8.8", true, true},           {"1.0.0.0", true, true},
		{"9.255.255.255", true, true},     {"10.0.0.0", false, true},
		{"10.255.255.255", false, true},   {"11.0.0.0", true, true},
		{"100.63.255.255", true, true},    {"100.64.0.0", false, true},
		{"100.127.255.255", false, true},  {"100.128.0.0", true, true},
		{"126.255.255.255", true, true},   {"127.0.0.1", false, false},
		{"127.255.255.255", false, false}, {"128.0.0.0", true, true},
		{"169.253.255.255", true, true},   {"169.254.169.254", false, true},
		{"169.255.0.0", true, true},       {"172.15.255.255", true, true},
		{"172.16.0.1", false, true},       {"172.31.255.255", false, true},
		{"172.32.0.0", true, true},        {"192.0.0.8", false, true},
		{"192.0.1.0", true, true},         {"192.168.0.1", false, true},
		{"192.169.0.0", true, true},       {"198.18.0.1", false, true},
		{"198.20.0.0", true, true},        {"223.255.255.255", true, true},
		{"224.0.0.1", false, false},       {"255.255.255.255", false, false},
		{"0.0.0.0", false, false},         {"0.1.2.3", false, false},
		{"240.0.0.1", false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		if (passes(&strict, ip4(row[i].to, 6, 80)) != row[i].pass ||
		    passes(&with_private, ip4(row[i].to, 6, 80)) != row[i].pass_private)
			fail_msg("%s", row[i].to);
	}
}

static void egress_ipv6__by_destination(void **state)
{
	static const struct {
		const char *to;
		bool pass, pass_private;
	} row[] = {
		{"2001:4860::8888", true, true},
		{"::", false, false},
		{"::1", false, false},
		{"::7f00:1", false, false},
		{"::ffff:127.0.0.1", false, false},
		{"::ffff:10.0.0.1", false, true},
		{"::ffff:8.8.8.8", true, true},
		{"64:ff9b::10.0.0.1", false, true},
		{"64:ff9b::8.8.8.8", true, true},
		{"64:ff9b:1:2:3:4:10.0.0.1", false, true},
		{"2002:0a00:0001::1", false, true},
		{"2002:7f00:0001::1", false, false},
		{"2002:0808:0808::1", true, true},
		{"fbff::1", true, true},
		{"fc00::1", false, true},
		{"fdff::1", false, true},
		{"fe00::1", true, true},
		{"fe80::1", false, true},
		{"fec0::1", false, true},
		{"ff02::1", false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		if (passes(&strict, ip6(row[i].to, 6, 0, 80)) != row[i].pass ||
		    passes(&with_private, ip6(row[i].to, 6, 0, 80)) != row[i].pass_private)
			fail_msg("%s", row[i].to);
	}
}

static void egress_services__of_the_backend_only(void **state)
{
	(void)state;
	assert_true(passes(&strict, ip4("10.0.2.3", 17, 53)));
	assert_false(passes(&strict, ip4("10.0.2.3", 17, 54)));
	assert_false(passes(&strict, ip4("10.0.2.3", 6, 53)));
	assert_false(passes(&strict, ip4("10.0.2.4", 17, 53)));
	struct frame fragment = ip4("10.0.2.3", 17, 53);
	fragment.b[21] = 1; /* offset: no ports in it */
	assert_false(passes(&strict, fragment));
	assert_true(passes(&strict, ip4("255.255.255.255", 17, 67)));
	assert_false(passes(&strict, ip4("255.255.255.255", 17, 68)));
	assert_true(passes(&with_gateway, ip4("10.0.2.2", 6, 8080)));
	assert_false(passes(&with_gateway, ip4("10.0.2.1", 6, 8080)));
	assert_false(passes(&strict, ip4("10.0.2.2", 6, 8080)));
	for (unsigned type = 0; type < 256; type++)
		assert_int_equal(passes(&strict, ip6("ff02::2", 58, (uint8_t)type, 0)),
				 type >= 133 && type <= 136);
	assert_true(passes(&strict, ip6("fe80::1", 58, 135, 0)));
	assert_false(passes(&strict, ip6("fd00::1", 58, 135, 0)));
	assert_true(passes(&strict, ip6("ff02::1:2", 17, 0, 547)));
	assert_false(passes(&strict, ip6("ff02::fb", 17, 0, 5353)));
}

static void egress_tcp__private__answers_only(void **state)
{
	(void)state;
	for (unsigned flags = 0; flags < 256; flags++) {
		struct frame f = ip4("10.0.2.2", 6, 40000);
		f.b[47] = (uint8_t)flags;
		assert_int_equal(passes(&strict, f), (flags & 0x10) != 0);
		f.b[21] = 1; /* a fragment: what stands there are no flags */
		assert_false(passes(&strict, f));
		f = ip4("127.0.0.1", 6, 40000);
		f.b[47] = (uint8_t)flags;
		assert_false(passes(&strict, f));
		f = ip4("10.0.2.2", 17, 40000);
		f.b[47] = (uint8_t)flags;
		assert_false(passes(&strict, f));
	}
	struct frame cut = ip4("10.0.2.2", 6, 40000);
	cut.b[47] = 0x10;
	assert_false(net_egress_allows(&strict, cut.b, 47));
	assert_true(net_egress_allows(&strict, cut.b, 48));
}

static void egress_frames__that_cannot_be_judged__stay(void **state)
{
	struct frame f = ip4("8.8.8.8", 6, 80);
	const struct net_egress open = {.filter = false};

	(void)state;
	for (size_t len = 0; len < 34; len++)
		assert_false(net_egress_allows(&strict, f.b, len));
	assert_true(net_egress_allows(&strict, f.b, 34));
	f.b[14] = 0x46; /* options */
	assert_false(passes(&strict, f));
	assert_true(passes(&open, f));
	f.b[14] = 0x65; /* another version behind the type */
	assert_false(passes(&strict, f));
	f = ip4("8.8.8.8", 6, 80);
	f.b[12] = 0x81, f.b[13] = 0; /* VLAN */
	assert_false(passes(&strict, f));
	f.b[12] = 0x08, f.b[13] = 0x06; /* ARP */
	assert_true(passes(&strict, f));
	f = ip6("2001::1", 6, 0, 80);
	for (size_t len = 0; len < 54; len++)
		assert_false(net_egress_allows(&strict, f.b, len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(egress_ipv4__by_destination),
		cmocka_unit_test(egress_ipv6__by_destination),
		cmocka_unit_test(egress_services__of_the_backend_only),
		cmocka_unit_test(egress_tcp__private__answers_only),
		cmocka_unit_test(egress_frames__that_cannot_be_judged__stay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
