/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_cpu.h - a virtual processor as it stands in a snapshot: section "VCPU", version 1, one a vCPU
 *
 *   | snap_vcpu | XSAVE area, xsave_len bytes | cpuid_count * snap_cpuid | msr_count * snap_msr |
 *
 * with snap_list in front of each of the last two.  All lie at multiples of 8.  Registers have the layout of
 * Linux's KVM interface (asm/kvm.h), which vmm/vcpu_state.c asserts: they go to and from KVM in place.
 * Little-endian; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_CPU_H
#define SPORE_WIRE_SNAP_CPU_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_VCPU_VERSION 1u
#define SNAP_CPUID_MAX    256u
#define SNAP_MSR_MAX      256u
#define SNAP_XSAVE_MIN    4096u  /* bytes */
#define SNAP_XSAVE_MAX    65536u /* bytes; the largest known area, with AMX, has 11 KiB */
#define SNAP_LAPIC_SIZE   1024u

enum snap_mp_state { /* as KVM_MP_STATE_* */
		     SNAP_MP_RUNNABLE = 0,
		     SNAP_MP_UNINITIALIZED = 1, /* waits for INIT and SIPI */
		     SNAP_MP_INIT_RECEIVED = 2,
		     SNAP_MP_HALTED = 3,
		     SNAP_MP_SIPI_RECEIVED = 4,
};

struct snap_regs {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
};
static_assert(sizeof(struct snap_regs) == 144, "struct snap_regs");
static_assert(offsetof(struct snap_regs, rip) == 128, "snap_regs.rip");

struct snap_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint8_t type;
	uint8_t present, dpl, db, s, l, g, avl, unusable;
	uint8_t rsvd;
};
static_assert(sizeof(struct snap_segment) == 24, "struct snap_segment");

struct snap_dtable {
	uint64_t base;
	uint16_t limit;
	uint16_t rsvd[3];
};
static_assert(sizeof(struct snap_dtable) == 16, "struct snap_dtable");

#define SNAP_SREGS_PDPTRS 1u /* flags: pdptr holds what a PAE guest has loaded */

struct snap_sregs {
	struct snap_segment cs, ds, es, fs, gs, ss, tr, ldt;
	struct snap_dtable gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer;
	uint64_t apic_base;
	uint64_t flags;
	uint64_t pdptr[4];
};
static_assert(sizeof(struct snap_sregs) == 320, "struct snap_sregs");
static_assert(offsetof(struct snap_sregs, cr0) == 224, "snap_sregs.cr0");
static_assert(offsetof(struct snap_sregs, pdptr) == 288, "snap_sregs.pdptr");

/* flags: which of the fields below mean something */
#define SNAP_EVENTS_NMI_PENDING  0x01u
#define SNAP_EVENTS_SIPI_VECTOR  0x02u
#define SNAP_EVENTS_SHADOW       0x04u
#define SNAP_EVENTS_SMM          0x08u
#define SNAP_EVENTS_PAYLOAD      0x10u
#define SNAP_EVENTS_TRIPLE_FAULT 0x20u
#define SNAP_EVENTS_ALL          0x3fu

struct snap_events {
	uint8_t exception_injected, exception_nr, exception_has_code, exception_pending;
	uint32_t exception_code;
	uint8_t interrupt_injected, interrupt_nr, interrupt_soft, interrupt_shadow;
	uint8_t nmi_injected, nmi_pending, nmi_masked, rsvd0;
	uint32_t sipi_vector;
	uint32_t flags;
	uint8_t smi_smm, smi_pending, smi_inside_nmi, smi_latched_init;
	uint8_t triple_fault;
	uint8_t rsvd1[26];
	uint8_t exception_has_payload;
	uint64_t exception_payload;
};
static_assert(sizeof(struct snap_events) == 64, "struct snap_events");
static_assert(offsetof(struct snap_events, flags) == 20, "snap_events.flags");
static_assert(offsetof(struct snap_events, exception_payload) == 56, "snap_events.payload");

struct snap_vcpu {
	uint32_t mp_state; /* enum snap_mp_state */
	uint32_t tsc_khz;  /* at which the guest sees its TSC run */
	uint64_t tsc;      /* the guest's, at the instant of the machine section */
	uint64_t xcr0;     /* 0: the processor has no XSAVE */
	uint64_t dr[4], dr6, dr7;
	struct snap_regs regs;
	struct snap_sregs sregs;
	struct snap_events events;
	uint8_t lapic[SNAP_LAPIC_SIZE]; /* registers at multiples of 16, as in the APIC's page */
	uint32_t xsave_len;             /* multiple of 8; SNAP_XSAVE_MIN..SNAP_XSAVE_MAX */
	uint32_t rsvd;
};
static_assert(sizeof(struct snap_vcpu) == 1632, "struct snap_vcpu");
static_assert(offsetof(struct snap_vcpu, regs) == 72, "snap_vcpu.regs");
static_assert(offsetof(struct snap_vcpu, lapic) == 600, "snap_vcpu.lapic");
static_assert(offsetof(struct snap_vcpu, xsave_len) == 1624, "snap_vcpu.xsave_len");

/* In front of the CPUID entries (at most SNAP_CPUID_MAX) and of the MSRs (at most SNAP_MSR_MAX). */
struct snap_list {
	uint32_t count;
	uint32_t rsvd;
};
static_assert(sizeof(struct snap_list) == 8, "struct snap_list");

struct snap_cpuid {
	uint32_t function, index;
	uint32_t flags; /* 1: the index counts */
	uint32_t eax, ebx, ecx, edx;
	uint32_t rsvd[3];
};
static_assert(sizeof(struct snap_cpuid) == 40, "struct snap_cpuid");

/* Indices ascend, but for IA32_TSC_DEADLINE, which comes last.  The TSC is not among them. */
struct snap_msr {
	uint32_t index;
	uint32_t rsvd;
	uint64_t value;
};
static_assert(sizeof(struct snap_msr) == 16, "struct snap_msr");

#endif
