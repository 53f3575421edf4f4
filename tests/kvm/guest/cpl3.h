/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpl3.h - from CPL 0 to CPL 3, where code runs at native speed also under a KVM that interprets CPL 0
 *
 * "enter=" on the command line says how: 0 by IRETQ (any real processor), 1 by SYSEXIT (a KVM that interprets has no
 * IRET in long mode; an AMD processor has no SYSEXIT there).  Ports need not work there: say things by memory-mapped registers.
 */
#ifndef SPORE_TESTS_GUEST_CPL3_H
#define SPORE_TESTS_GUEST_CPL3_H

#include "tests/kvm/guest/tiny.h"

/* 0x10, 0x18 as before; 0x30, 0x38 are where SYSEXIT finds the user's when its base is 0x10 (SDM 2B, SYSEXIT). */
static uint64_t cpl3_gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff,
			      0, 0, 0x00affb000000ffff, 0x00cff3000000ffff};

/* Everything that is mapped may be used at CPL 3 from here on.  Once, by one processor. */
static inline void cpl3_open(void)
{
	volatile uint64_t *pml4 = (void *)0x9000, *pdpt = (void *)0xa000, *pd = (void *)0xb000;

	pml4[0] |= 4;
	for (unsigned i = 0; i < 4; i++)
		pdpt[i] |= 4;
	for (unsigned i = 0; i < 4 * 512; i++)
		pd[i] |= 4;
	__asm__ volatile("mov %%cr3, %%rax\n\tmov %%rax, %%cr3" : : : "rax", "memory");
}

/* Each processor: goes on at CPL 3 behind this call. */
static inline void cpl3_enter(uint64_t how)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} gdtr = {sizeof(cpl3_gdt) - 1, (uint64_t)cpl3_gdt};

	__asm__ volatile("lgdt %0\n\tpushq $2\n\tpopfq" : : "m"(gdtr) : "cc");
	if (how) {
		__asm__ volatile("wrmsr" : : "c"(0x174), "a"(0x10), "d"(0));
		__asm__ volatile("lea 1f(%%rip), %%rdx\n\tmov %%rsp, %%rcx\n\trex.w sysexit\n1:"
				 :
				 :
				 : "rcx", "rdx", "memory", "cc");
	} else {
		__asm__ volatile("mov %%rsp, %%rcx\n\tpushq $0x3b\n\tpushq %%rcx\n\tpushq $2\n\t"
				 "pushq $0x33\n\tlea 1f(%%rip), %%rcx\n\tpushq %%rcx\n\tiretq\n1:"
				 :
				 :
				 : "rcx", "memory", "cc");
	}
}

#endif
