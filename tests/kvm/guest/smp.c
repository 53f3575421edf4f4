/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts all other processors by INIT and SIPI, waits for "cpus=N" of them, says "up" and then a dot a
 * round for ever.  Each processor counts in one shared counter, atomically.
 */
#include "tests/kvm/guest/smpdrv.h"

static volatile uint64_t shared;

void smp_main(unsigned cpu)
{
	(void)cpu;
	for (;;)
		__atomic_fetch_add(&shared, 1, __ATOMIC_SEQ_CST);
}

void guest_main(const void *zero_page)
{
	put_text("starting\n");
	smp_start((unsigned)guest_option(zero_page, "cpus="));
	put_text("up\n");
	for (uint64_t seen = shared;;
	     put_char('.')) { /* a dot for every 100 that the others counted */
		while (shared - seen < 100)
			;
		seen = shared;
	}
}
