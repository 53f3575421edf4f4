/* SPDX-License-Identifier: Apache-2.0 */
/* Says hello on the serial line and resets. */
#include "tests/kvm/guest/tiny.h"

void guest_main(const void *zero_page)
{
	(void)zero_page;
	put_text("hello\n");
}
