/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The egress filter on any frame, in memory of exactly its length.  Whatever it lets pass is named by its own
 * addresses here: written without the filter's tables.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "devices/net_egress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_ip4(const uint8_t *a, bool answer)
{
	VERIFY(a[0] != 0 && a[0] != 127 && a[0] < 224);
	if (answer)
		return;
	VERIFY(a[0] != 10);
	VERIFY(!(a[0] == 192 && a[1] == 168) && !(a[0] == 172 && a[1] / 16 == 1));
	VERIFY(!(a[0] == 169 && a[1] == 254) && !(a[0] == 100 && a[1] / 64 == 1));
}

static void check(const uint8_t *f, size_t len)
{
	VERIFY(len >= 14);
	if (f[12] == 8 && f[13] == 0) {
		VERIFY(len >= 34);
		bool dhcp = !memcmp(f + 30, "\xff\xff\xff\xff", 4) && f[23] == 17;
		bool answer = len > 47 && f[23] == 6 && f[47] & 0x10;
		if (!dhcp)
			check_ip4(f + 30, answer);
	} else if (f[12] == 0x86 && f[13] == 0xdd) {
		VERIFY(len >= 54);
		const uint8_t *to = f + 38;
		bool local = f[20] == 58 || f[20] == 17;
		VERIFY((to[0] & 0xfe) != 0xfc);
		VERIFY(local || (to[0] != 0xff && !(to[0] == 0xfe && to[1] >= 0x80)));
	} else {
		VERIFY(f[12] == 8 && f[13] == 6);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct net_egress strict = {.filter = true};
	const struct net_egress loose = {.filter = true, .allow_private = true};
	size_t len = size < NET_EGRESS_HEAD ? size : NET_EGRESS_HEAD;
	uint8_t *frame = malloc(len ? len : 1);

	VERIFY(frame);
	memcpy(frame, data, len);
	if (net_egress_allows(&strict, frame, len)) {
		check(frame, len);
		VERIFY(net_egress_allows(&loose, frame, len));
	}
	free(frame);
	return 0;
}
