/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processors with a state that can be told again: "cpus=N" of them (the host starts all but the first at the
 * address that is said) fill their registers, arm their timers "delay=CYCLES" ahead and spin with a pattern in every
 * general register until the host writes to the word whose address is said.  Then each looks whether all is
 * as it was, whether its timer comes, and whether the TSCs are in step; "good" or what was not.
 */
#include "tests/kvm/guest/irq.h"
#include "tests/kvm/guest/virtio.h"

enum { CPUS = 4, ROUNDS = 1000, REGS = 16 };
enum {
	BAD_REGS = 1,
	BAD_MSR = 2,
	BAD_FPU = 4,
	BAD_DEBUG = 8,
	BAD_CR = 16,
	BAD_TSC = 32,
	BAD_LAPIC = 64
};

#define TIMER_PIN    8u /* vector IRQ_BASE + 8 + processor */
#define MSR_DEADLINE 0x6e0u

volatile uint32_t go;
static volatile uint64_t ready, done, bad, delay;
static volatile uint32_t lock;
static volatile uint64_t last_tsc;

void hold_registers(uint64_t *regs);
__asm__("hold_registers:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	"
	"push %r15\n"
	"	push %rdi\n"
	"	mov (%rdi), %rax\n	mov 8(%rdi), %rbx\n	mov 16(%rdi), %rcx\n"
	"	mov 24(%rdi), %rdx\n	mov 32(%rdi), %rsi\n	mov 40(%rdi), %rbp\n"
	"	mov 48(%rdi), %r8\n	mov 56(%rdi), %r9\n	mov 64(%rdi), %r10\n"
	"	mov 72(%rdi), %r11\n	mov 80(%rdi), %r12\n	mov 88(%rdi), %r13\n"
	"	mov 96(%rdi), %r14\n	mov 104(%rdi), %r15\n	mov 112(%rdi), %rdi\n"
	"	std\n"
	"	lock incq ready\n"
	"1:	cmpl $0, go\n"
	"	je 1b\n"
	"	pushfq\n	push %rdi\n	mov 16(%rsp), %rdi\n"
	"	mov %rax, (%rdi)\n	mov %rbx, 8(%rdi)\n	mov %rcx, 16(%rdi)\n"
	"	mov %rdx, 24(%rdi)\n	mov %rsi, 32(%rdi)\n	mov %rbp, 40(%rdi)\n"
	"	mov %r8, 48(%rdi)\n	mov %r9, 56(%rdi)\n	mov %r10, 64(%rdi)\n"
	"	mov %r11, 72(%rdi)\n	mov %r12, 80(%rdi)\n	mov %r13, 88(%rdi)\n"
	"	mov %r14, 96(%rdi)\n	mov %r15, 104(%rdi)\n"
	"	pop %rax\n	mov %rax, 112(%rdi)\n"
	"	pop %rax\n	mov %rax, 120(%rdi)\n"
	"	cld\n"
	"	pop %rdi\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	"
	"pop %rbx\n"
	"	ret\n");

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;
	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return low | (uint64_t)high << 32;
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low | (uint64_t)high << 32;
}

static uint64_t pattern(uint64_t cpu, uint64_t n)
{
	return (cpu * 64 + n + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

/* SYSENTER_CS, ESP, EIP, STAR, LSTAR, CSTAR, KERNEL_GS_BASE, SPEC-free ones that every KVM has; canonical values. */
static const uint32_t msrs[] = {0x174,      0x175,      0x176,     0xc0000081,
				0xc0000082, 0xc0000083, 0xc0000102};

static uint64_t msr_value(uint64_t cpu, unsigned i)
{
	/* KVM on AMD before Linux 6.12 keeps 32 bits of SYSENTER_ESP and EIP, which no 64-bit guest there can use. */
	uint64_t mask = msrs[i] == 0x174 ? 0xffff : msrs[i] <= 0x176 ? UINT32_MAX : UINT64_MAX;

	return pattern(cpu, 20 + i) >> 20 & mask;
}

static uint8_t fpu_in[CPUS][512] __attribute__((aligned(16)));
static uint8_t fpu_out[CPUS][512] __attribute__((aligned(16)));

/* Control word, MXCSR, x87 registers of ten bytes, XMM registers: the rest stays zero. */
static void fpu_fill(uint64_t cpu)
{
	uint8_t *f = fpu_in[cpu];

	f[0] = 0x7f;
	f[1] = (uint8_t)(3 + (cpu << 2)); /* rounding differs by processor */
	f[4] = 0xff;                      /* all x87 registers in use */
	f[24] = 0x80;
	f[25] = (uint8_t)(0x1f + (cpu << 5));
	for (unsigned i = 32; i < 416; i++)
		if (i >= 160 || i % 16 < 8)
			f[i] = (uint8_t)(pattern(cpu, i) >> 24);
	for (unsigned i = 32; i < 160; i += 16) { /* normal numbers */
		f[i + 7] |= 0x80;
		f[i + 9] = 0x3f;
	}
	__asm__ volatile("fxrstor (%0)" : : "r"(f) : "memory");
}

static int fpu_same(uint64_t cpu)
{
	__asm__ volatile("fxsave (%0)" : : "r"(fpu_out[cpu]) : "memory");
	for (unsigned i = 0; i < 416; i++)
		if (!(i >= 6 && i < 24) && !(i >= 28 && i < 32) &&
		    fpu_in[cpu][i] != fpu_out[cpu][i])
			return 0;
	return 1;
}

static void set_state(uint64_t cpu)
{
	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		wrmsr(msrs[i], msr_value(cpu, i));
	fpu_fill(cpu);
	__asm__ volatile("mov %0, %%db0" : : "r"(pattern(cpu, 40) >> 20));
	__asm__ volatile("mov %0, %%db3" : : "r"(pattern(cpu, 41) >> 20));
	__asm__ volatile("mov %0, %%cr2" : : "r"(pattern(cpu, 42) >> 20));
	__asm__ volatile("mov %0, %%cr8" : : "r"(UINT64_C(1)));
	mmio_store(IRQ_LAPIC + 0x350, 0x10000 | (0x40 + (uint32_t)cpu)); /* LINT0, masked */
	mmio_store(IRQ_LAPIC + 0x320, 0x40000 | (IRQ_BASE + TIMER_PIN + (uint32_t)cpu));
	wrmsr(MSR_DEADLINE, rdtsc() + delay);
}

static uint64_t check_state(uint64_t cpu)
{
	uint64_t wrong = 0, v;

	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		if (rdmsr(msrs[i]) != msr_value(cpu, i))
			wrong |= BAD_MSR;
	if (!fpu_same(cpu))
		wrong |= BAD_FPU;
	__asm__ volatile("mov %%db0, %0" : "=r"(v));
	if (v != pattern(cpu, 40) >> 20)
		wrong |= BAD_DEBUG;
	__asm__ volatile("mov %%db3, %0" : "=r"(v));
	if (v != pattern(cpu, 41) >> 20)
		wrong |= BAD_DEBUG;
	__asm__ volatile("mov %%cr2, %0" : "=r"(v));
	if (v != pattern(cpu, 42) >> 20)
		wrong |= BAD_CR;
	__asm__ volatile("mov %%cr8, %0" : "=r"(v));
	if (v != 1)
		wrong |= BAD_CR;
	if (mmio_load(IRQ_LAPIC + 0x350) != (0x10000 | (0x40 + (uint32_t)cpu)))
		wrong |= BAD_LAPIC;
	return wrong;
}

/* Nobody's TSC is behind one that another has read before. */
static uint64_t check_tsc(void)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		while (__atomic_exchange_n(&lock, 1, __ATOMIC_SEQ_CST))
			;
		uint64_t now = rdtsc();
		if (now < last_tsc)
			wrong = BAD_TSC;
		last_tsc = now;
		__atomic_store_n(&lock, 0, __ATOMIC_SEQ_CST);
	}
	return wrong;
}

static void processor(uint64_t cpu)
{
	uint64_t regs[REGS], wrong = 0;

	irq_init();
	for (unsigned i = 0; i < REGS; i++)
		regs[i] = pattern(cpu, i);
	set_state(cpu);
	uint64_t before = rdtsc();
	hold_registers(regs);
	for (unsigned i = 0; i < REGS - 1; i++)
		if (regs[i] != pattern(cpu, i))
			wrong |= BAD_REGS;
	if (!(regs[REGS - 1] & 1u << 10)) /* DF */
		wrong |= BAD_REGS;
	if (rdtsc() < before)
		wrong |= BAD_TSC;
	wrong |= check_state(cpu) | check_tsc();
	__asm__ volatile("mov %0, %%cr8" : : "r"(UINT64_C(0)));
	irq_wait(TIMER_PIN + (unsigned)cpu, 0); /* or the test hangs */
	__atomic_fetch_or(&bad, wrong << (8 * cpu), __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

__attribute__((noreturn)) static void other_processor(uint64_t cpu)
{
	processor(cpu);
	for (;;)
		__asm__ volatile("hlt");
}

void guest_main(const void *zero_page)
{
	uint64_t cpus = guest_option(zero_page, "cpus=");

	delay = guest_option(zero_page, "delay=");
	put_hex((uint64_t)other_processor);
	put_char(' ');
	put_hex((uint64_t)&go);
	put_char(' ');
	put_hex((uint64_t)&ready);
	put_char('\n');
	processor(0);
	while (done != cpus)
		;
	if (bad)
		put_hex(bad);
	else
		put_text("good");
	put_char('\n');
}
