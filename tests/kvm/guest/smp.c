/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts all other processors by INIT and SIPI, waits for "cpus=N" of them, says "up" and then a dot a
 * round for ever.  Each processor counts in one shared counter, atomically.
 */
#include "tests/kvm/guest/virtio.h"

#define TRAMPOLINE 0x10000u /* SIPI vector 0x10 */
#define LAPIC      0xfee00000u

extern const uint8_t smp_begin[], smp_end[];
static volatile uint64_t shared, arrived;
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
	"	mov $smp_main, %rax\n"
	"	call *%rax\n"
	".balign 8\n"
	"smp_gdt: .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff\n"
	"smp_gdtr: .word 31\n"
	"	.long 0x10000 + smp_gdt - smp_begin\n"
	"smp_end:\n");

__attribute__((noreturn, used)) void smp_main(void);
void smp_main(void)
{
	__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
	for (;;)
		__atomic_fetch_add(&shared, 1, __ATOMIC_SEQ_CST);
}

static void send(uint32_t command)
{
	mmio_store(LAPIC + 0x310, 0);
	mmio_store(LAPIC + 0x300, command);
	while (mmio_load(LAPIC + 0x300) & 1 << 12)
		;
}

void guest_main(const void *zero_page)
{
	uint64_t others = guest_option(zero_page, "cpus=") - 1;

	for (unsigned i = 0; i < (unsigned)(smp_end - smp_begin); i++)
		((volatile uint8_t *)(uint64_t)TRAMPOLINE)[i] = smp_begin[i];
	mmio_store(LAPIC + 0xf0, 0x1ff);
	put_text("starting\n");
	send(0xc4500);                    /* INIT to all but this one */
	send(0xc4600 | TRAMPOLINE >> 12); /* SIPI */
	while (arrived != others)
		;
	put_text("up\n");
	for (uint64_t seen = shared;;
	     put_char('.')) { /* a dot for every 100 that the others counted */
		while (shared - seen < 100)
			;
		seen = shared;
	}
}
