/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer of pattern.h, at CPL 3.  Options: "cpus=", "pages=", "enter=" (cpl3.h), "idle=" 1: stop writing once
 * all pages hold something.  Stamps the boot timer then.
 */
#include "tests/kvm/guest/cpl3.h"
#include "tests/kvm/guest/pattern.h"
#include "tests/kvm/guest/smpdrv.h"

#define CONTROL ((struct pattern *)PATTERN_CONTROL)

static uint64_t enter, idle, high_pd[4][512] __attribute__((aligned(4096)));

static void put_page(unsigned cpu, uint64_t page)
{
	volatile uint64_t *word = (void *)pattern_at(page);
	volatile uint64_t *version = (void *)PATTERN_VERSIONS;
	uint64_t seq = CONTROL->cpu[cpu].seq + 1;

	CONTROL->cpu[cpu].cur = page;
	CONTROL->cpu[cpu].seq = seq;
	for (unsigned k = 0; k < 8; k++)
		word[k * 64] = pattern_word(page, seq, k);
	version[page] = seq;
	CONTROL->cpu[cpu].cur = PATTERN_NONE;
}

__attribute__((noreturn)) static void write_for_ever(unsigned cpu)
{
	uint64_t pages = CONTROL->pages, cpus = CONTROL->cpus, draw = cpu + 1;
	uint64_t first = pattern_first(pages, cpu, (unsigned)cpus);
	uint64_t count = pattern_first(pages, cpu + 1, (unsigned)cpus) - first;

	for (uint64_t i = 0; i < count; i++)
		put_page(cpu, first + i);
	CONTROL->cpu[cpu].ready = 1;
	if (cpu == 0) {
		for (unsigned i = 0; i < cpus; i++)
			while (!CONTROL->cpu[i].ready)
				;
		CONTROL->magic = PATTERN_MAGIC;
		*(volatile uint8_t *)PATTERN_READY =
			123; /* the boot timer: ports need not work at CPL 3 */
	}
	while (idle)
		__asm__ volatile("pause");
	for (;;) {
		draw = draw * 6364136223846793005ull + 1442695040888963407ull;
		put_page(cpu, first + (draw >> 33) % count);
	}
}

void smp_main(unsigned cpu)
{
	cpl3_enter(enter);
	write_for_ever(cpu);
}

/* Memory above 4 GiB, which the boot tables do not map: four GiB more. */
static void map_high(void)
{
	volatile uint64_t *pdpt = (void *)0xa000;

	for (unsigned i = 0; i < 4; i++) {
		for (unsigned k = 0; k < 512; k++)
			high_pd[i][k] = ((uint64_t)(4 + i) << 30 | (uint64_t)k << 21) | 0x87;
		pdpt[4 + i] = (uint64_t)high_pd[i] | 7;
	}
}

void guest_main(const void *zero_page)
{
	enter = guest_option(zero_page, "enter=");
	idle = guest_option(zero_page, "idle=");
	CONTROL->cpus = guest_option(zero_page, "cpus=");
	CONTROL->pages = guest_option(zero_page, "pages=");
	if (pattern_at(CONTROL->pages) > 0xc0000000ull)
		map_high();
	cpl3_open();
	if (CONTROL->cpus > 1)
		smp_start((unsigned)CONTROL->cpus);
	smp_main(0);
}
