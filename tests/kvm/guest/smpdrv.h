/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smpdrv.h - the other processors of a tiny guest: started by INIT and SIPI, in long mode, each on its own stack
 *
 * smp_main() is the program's: where each of them goes, with its number from 1 on.
 */
#ifndef SPORE_TESTS_GUEST_SMPDRV_H
#define SPORE_TESTS_GUEST_SMPDRV_H

#include "tests/kvm/guest/virtio.h"

#define SMP_TRAMPOLINE 0x10000u /* SIPI vector 0x10 */
#define SMP_LAPIC      0xfee00000u

__attribute__((noreturn, used)) void smp_main(unsigned cpu);

extern const uint8_t smp_begin[], smp_end[];
static volatile uint64_t smp_arrived;
uint8_t smp_stack[32][1024] __attribute__((aligned(16)));
volatile uint64_t smp_next;

__asm__(".code16\n"
	"smp_begin: cli\n"
	"	lgdtl %cs:(smp_gdtr - smp_begin)\n"
	"	mov $0x20, %eax\n" /* PAE */
	"	mov %eax, %cr4\n"
	"	mov $0x9000, %eax\n" /* the boot CPU's tables */
	"	mov %eax, %cr3\n"
	"	mov $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	or $0x100, %eax\n" /* LME */
	"	wrmsr\n"
	"	mov $0x80000011, %eax\n" /* PG, ET, PE */
	"	mov %eax, %cr0\n"
	"	ljmpl $0x10, $(0x10000 + smp_long - smp_begin)\n"
	".code64\n"
	"smp_long: mov $0x18, %eax\n"
	"	mov %eax, %ds\n"
	"	mov %eax, %es\n"
	"	mov %eax, %ss\n"
	"	mov $1, %eax\n"
	"	lock xaddq %rax, smp_next\n"
	"	inc %rax\n"
	"	shl $10, %rax\n"
	"	lea smp_stack(%rax), %rsp\n"
	"	shr $10, %rax\n"
	"	mov %eax, %edi\n"
	"	mov $smp_enter, %rax\n"
	"	call *%rax\n"
	".balign 8\n"
	"smp_gdt: .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff\n"
	"smp_gdtr: .word 31\n"
	"	.long 0x10000 + smp_gdt - smp_begin\n"
	"smp_end:\n");

__attribute__((noreturn, used)) void smp_enter(unsigned cpu);
void smp_enter(unsigned cpu)
{
	__atomic_fetch_add(&smp_arrived, 1, __ATOMIC_SEQ_CST);
	smp_main(cpu);
}

static inline void smp_send(uint32_t command)
{
	mmio_store(SMP_LAPIC + 0x310, 0);
	mmio_store(SMP_LAPIC + 0x300, command);
	while (mmio_load(SMP_LAPIC + 0x300) & 1 << 12)
		;
}

/* Returns when `cpus` - 1 others are in smp_main(). */
static inline void smp_start(unsigned cpus)
{
	for (unsigned i = 0; i < (unsigned)(smp_end - smp_begin); i++)
		((volatile uint8_t *)(uint64_t)SMP_TRAMPOLINE)[i] = smp_begin[i];
	mmio_store(SMP_LAPIC + 0xf0, 0x1ff);
	smp_send(0xc4500);                        /* INIT to all but this one */
	smp_send(0xc4600 | SMP_TRAMPOLINE >> 12); /* SIPI */
	while (smp_arrived != cpus - 1)
		;
}

#endif
