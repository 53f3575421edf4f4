/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.h - interrupts of a tiny guest: 32 vectors that only count, the local APIC, the IOAPIC
 *
 * Interrupts are let in at irq_sleep() alone.  The handler returns there by hand with interrupts off
 * again: an interpreting KVM need not know IRET.
 */
#ifndef SPORE_TESTS_GUEST_IRQ_H
#define SPORE_TESTS_GUEST_IRQ_H

#include "tests/kvm/guest/tiny.h"

#define IRQ_BASE   0x20u /* vector of pin 0 */
#define IRQ_LAPIC  0xfee00000u
#define IRQ_IOAPIC 0xfec00000u

volatile uint64_t irq_count[32];
extern const uint8_t irq_stubs[];

__asm__(".balign 16\n"
	"irq_stubs:\n"
	".set n, 0\n"
	".rept 32\n"
	"	.balign 16\n"
	"	pushq $n\n"
	"	jmp irq_common\n"
	"	.set n, n + 1\n"
	".endr\n"
	"irq_common:\n" /* stack: n, rip, cs, rflags, rsp, ss */
	"	push %rax\n"
	"	push %rcx\n"
	"	mov 16(%rsp), %rax\n"
	"	incq irq_count(,%rax,8)\n"
	"	mov $0xfee000b0, %ecx\n"
	"	movl $0, (%rcx)\n" /* end of interrupt */
	"	mov 24(%rsp), %rax\n"
	"	mov 48(%rsp), %rcx\n"
	"	mov %rax, -8(%rcx)\n"
	"	lea -8(%rcx), %rcx\n"
	"	mov %rcx, 16(%rsp)\n"
	"	pop %rcx\n"
	"	pop %rax\n"
	"	mov (%rsp), %rsp\n"
	"	ret\n");

static struct {
	uint16_t low, selector, flags, middle;
	uint32_t high, rsvd;
} irq_table[64] __attribute__((aligned(16)));

static inline void irq_init(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} idtr = {sizeof(irq_table) - 1, (uint64_t)irq_table};

	for (unsigned i = 0; i < 32; i++) {
		uint64_t at = (uint64_t)irq_stubs + 16 * i;
		irq_table[IRQ_BASE + i].low = (uint16_t)at;
		irq_table[IRQ_BASE + i].selector = 0x10;
		irq_table[IRQ_BASE + i].flags = 0x8e00;
		irq_table[IRQ_BASE + i].middle = (uint16_t)(at >> 16);
		irq_table[IRQ_BASE + i].high = (uint32_t)(at >> 32);
	}
	__asm__ volatile("lidt %0" : : "m"(idtr));
	mmio_store(IRQ_LAPIC + 0xf0, 0x1ff); /* on */
}

/* Edge, fixed, to processor 0. */
static inline void irq_pin(unsigned pin, int masked)
{
	mmio_store(IRQ_IOAPIC, 0x11 + 2 * pin);
	mmio_store(IRQ_IOAPIC + 0x10, 0);
	mmio_store(IRQ_IOAPIC, 0x10 + 2 * pin);
	mmio_store(IRQ_IOAPIC + 0x10, (IRQ_BASE + pin) | (masked ? 1u << 16 : 0));
}

/* Until one interrupt has come. */
static inline void irq_sleep(void)
{
	__asm__ volatile("sti\n\thlt\n\tcli" : : : "memory", "cc");
}

/* Until pin `pin` has counted beyond `seen`. */
static inline void irq_wait(unsigned pin, uint64_t seen)
{
	while (irq_count[pin] == seen)
		irq_sleep();
}

#endif
