/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with no interrupt table: the processor gives up. */
#include "tests/kvm/guest/tiny.h"

void guest_main(const void *zero_page)
{
	(void)zero_page;
	put_text("about to fault\n");
	__asm__ volatile("ud2");
}
