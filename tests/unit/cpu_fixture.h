/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_fixture.h - a host and a machine's state made by hand: what vcpu_check() needs, without KVM. */
#ifndef SPORE_TESTS_CPU_FIXTURE_H
#define SPORE_TESTS_CPU_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fnv.h"
#include "snapshot/codec.h"
#include "vmm/msr.h"
#include "vmm/vcpu_state.h"
#include "vmm/vm_state.h"
#include "wire/snap_cpu.h"

#define FIX_KHZ   2100000u
#define FIX_XSAVE 4096u
#define FIX_MEM   (UINT64_C(128) << 20)

static const struct kvm_cpuid_entry2 fix_cpuid[] = {
	{.function = 0, .eax = 0xd, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
	{.function = 1, .eax = 0xc06f2, .ecx = 0x81202000, .edx = 0xf8bfbff},
	{.function = 7, .flags = 1, .ebx = 0x1802042, .ecx = 0x1a010104},
	{.function = 0xd, .index = 0, .flags = 1, .eax = 7, .ebx = 0x340, .ecx = 0x340},
	{.function = 0xd, .index = 2, .flags = 1, .eax = 0x100, .ebx = 0x240},
	{.function = 0x80000008, .eax = 0x392e},
};
static const uint32_t fix_msr[] = {0x174, 0x277, 0xc0000082, MSR_TSC_DEADLINE};

/* A host: KVM's answers, and a vCPU that has its CPUID. */
struct fix_host {
	struct kvm_vm vm;
	struct kvm_vcpu vcpu;
};

static inline struct vm_shape fix_shape(void)
{
	return (struct vm_shape){.cpus = 1, .mem_bytes = FIX_MEM, .flags = SNAP_MACHINE_CONSOLE};
}

static inline void fix_host_init(struct fix_host *h)
{
	*h = (struct fix_host){.vm = {.fd = -1}, .vcpu = {.fd = -1}};
	h->vm.state = (struct kvm_state_caps){
		.sregs2 = true,
		.xsave2 = true,
		.tsc_offset = true,
		.xsave_size = FIX_XSAVE,
		.tsc_khz = FIX_KHZ,
		.msr_count = ARRAY_LEN(fix_msr),
	};
	memcpy(h->vm.state.msr, fix_msr, sizeof(fix_msr));
	h->vcpu.cpuid = malloc(sizeof(*h->vcpu.cpuid) + sizeof(fix_cpuid));
	VERIFY(h->vcpu.cpuid);
	h->vcpu.cpuid->nent = ARRAY_LEN(fix_cpuid);
	memcpy(h->vcpu.cpuid->entry, fix_cpuid, sizeof(fix_cpuid));
	h->vcpu.cpuid->hash = fnv1a(fix_cpuid, sizeof(fix_cpuid));
}

static inline void fix_host_free(struct fix_host *h)
{
	free(h->vcpu.cpuid);
}

static inline void fix_put_machine(struct snap_out *out)
{
	struct snap_machine *m = snap_put(out, SNAP_MACHINE, SNAP_MACHINE_VERSION, 0, sizeof(*m));

	*m = (struct snap_machine){
		.cpus = 1,
		.layout = SNAP_LAYOUT_VERSION,
		.mem_bytes = FIX_MEM,
		.flags = SNAP_MACHINE_CONSOLE,
		.host_tsc_khz = FIX_KHZ,
		.cpu_signature = 0xc06f2,
		.cpuid_hash = fnv1a(fix_cpuid, sizeof(fix_cpuid)),
		.clock_ns = 1234567890,
		.realtime_ns = UINT64_C(1700000000000000000),
		.host_tsc = UINT64_C(5000000000000),
	};
	memcpy(m->cpu_vendor, "GenuineIntel", sizeof(m->cpu_vendor));
}

static inline void fix_fill_head(struct snap_vcpu *v)
{
	*v = (struct snap_vcpu){
		.mp_state = SNAP_MP_HALTED,
		.tsc_khz = FIX_KHZ,
		.tsc = UINT64_C(777777777777),
		.xcr0 = 7,
		.dr = {1, 2, 3, 4},
		.dr6 = 0xffff0ff0,
		.dr7 = 0x400,
		.regs = {.rax = 0xa, .rsp = 0x1000, .rip = 0x100000, .rflags = 0x202},
		.xsave_len = FIX_XSAVE,
	};
	v->sregs.cs =
		(struct snap_segment){.selector = 0x10, .type = 11, .present = 1, .s = 1, .l = 1};
	v->sregs.cr0 = 0x80000011;
	v->sregs.efer = 0x500;
	v->sregs.apic_base = 0xfee00900;
	v->events = (struct snap_events){.nmi_pending = 1, .flags = SNAP_EVENTS_NMI_PENDING};
	for (unsigned i = 0; i < SNAP_LAPIC_SIZE; i++)
		v->lapic[i] = (uint8_t)i;
}

static inline void fix_put_vcpu(struct snap_out *out)
{
	size_t len = sizeof(struct snap_vcpu) + FIX_XSAVE + 2 * sizeof(struct snap_list) +
		     sizeof(fix_cpuid) + ARRAY_LEN(fix_msr) * sizeof(struct snap_msr);
	struct snap_vcpu *v = snap_put(out, SNAP_VCPU, SNAP_VCPU_VERSION, 0, len);
	uint8_t *xsave = (uint8_t *)(v + 1);
	struct snap_list *cpuid = (void *)(xsave + FIX_XSAVE);
	struct snap_list *msrs = (void *)((uint8_t *)(cpuid + 1) + sizeof(fix_cpuid));
	struct snap_msr *msr = (void *)(msrs + 1);

	fix_fill_head(v);
	xsave[24] = 0x80; /* MXCSR: 0x1f80 */
	xsave[25] = 0x1f;
	xsave[512] = 3;
	cpuid->count = ARRAY_LEN(fix_cpuid);
	memcpy(cpuid + 1, fix_cpuid, sizeof(fix_cpuid));
	msrs->count = ARRAY_LEN(fix_msr);
	for (unsigned i = 0; i < ARRAY_LEN(fix_msr); i++)
		msr[i] = (struct snap_msr){.index = fix_msr[i], .value = i * 3};
}

#endif
