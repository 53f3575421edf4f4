/* SPDX-License-Identifier: Apache-2.0 */
/* Says hello and stays, halted: its VMM can be looked at. */
#include "tests/kvm/guest/tiny.h"

void guest_main(const void *zero_page)
{
	(void)zero_page;
	put_text("hello\n");
	for (;;)
		__asm__ volatile("hlt");
}
