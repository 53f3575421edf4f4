/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes where nobody is, and string I/O: all of it must be harmless. */
#include "tests/kvm/guest/tiny.h"

void guest_main(const void *zero_page)
{
	static const char text[] = "string io\n";
	const char *at = text;
	size_t count = sizeof(text) - 1;

	(void)zero_page;
	for (unsigned port = 0; port < 0x1000; port += 7)
		if (port != 0x64 && port != 0x60 && (port < 0x3f8 || port > 0x3ff) &&
		    inb((uint16_t)port) != 0xff)
			put_text("port answers\n");
	if (mmio_load(0xd0000000) != 0xffffffff)
		put_text("mmio answers\n");
	mmio_store(0xd0000000, 1);
	__asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(COM1) : "memory");
}
