/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a dot for ever. */
#include "tests/kvm/guest/tiny.h"

void guest_main(const void *zero_page)
{
	(void)zero_page;
	for (;;)
		put_char('.');
}
