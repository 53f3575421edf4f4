/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One socket, one thread a core, `count` cores.  Leaves: Intel SDM vol. 2A "CPUID", AMD APM vol. 3
 * appendix E, Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
#include "vmm/cpuid.h"

#define LEAF_FEATURES     0x1u
#define LEAF_CACHE        0x4u
#define LEAF_TOPOLOGY     0xbu
#define LEAF_TOPOLOGY_V2  0x1fu
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_AMD_SIZES    0x80000008u
#define LEAF_AMD_CACHE    0x8000001du
#define LEAF_AMD_TOPOLOGY 0x8000001eu

#define FEATURES_ECX_TSC_DEADLINE (1u << 24)
#define FEATURES_ECX_HYPERVISOR   (1u << 31)
#define FEATURES_EDX_HTT          (1u << 28)
#define KVM_ASYNC_PF_BITS         (1u << 4 | 1u << 10 | 1u << 14)

/* Bits of an APIC id that number the cores of a socket. */
static unsigned core_bits(unsigned count)
{
	unsigned bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

static void set_features(struct kvm_cpuid_entry2 *e, unsigned id, unsigned count, bool tsc_deadline)
{
	e->ebx = (e->ebx & 0xffffu) | id << 24 | count << 16;
	e->ecx |= FEATURES_ECX_HYPERVISOR | (tsc_deadline ? FEATURES_ECX_TSC_DEADLINE : 0);
	e->edx = count > 1 ? e->edx | FEATURES_EDX_HTT : e->edx & ~FEATURES_EDX_HTT;
}

/* Cores in the package, and threads that share this cache: L1 and L2 are a core's own. */
static void set_cache(struct kvm_cpuid_entry2 *e, unsigned count)
{
	unsigned level = e->eax >> 5 & 7;
	unsigned sharing = level >= 3 ? (1u << core_bits(count)) - 1 : 0;

	e->eax = (e->eax & 0x3fffu) | sharing << 14 | ((1u << core_bits(count)) - 1) << 26;
}

static void set_topology(struct kvm_cpuid_entry2 *e, unsigned id, unsigned count)
{
	enum { LEVEL_NONE, LEVEL_THREAD, LEVEL_CORE };
	unsigned level = e->index == 0 ? LEVEL_THREAD : e->index == 1 ? LEVEL_CORE : LEVEL_NONE;

	e->eax = level == LEVEL_CORE ? core_bits(count) : 0;
	e->ebx = level == LEVEL_CORE ? count : level == LEVEL_THREAD ? 1 : 0;
	e->ecx = (e->index & 0xffu) | level << 8;
	e->edx = id;
}

static void set_amd_cache(struct kvm_cpuid_entry2 *e, unsigned count)
{
	unsigned level = e->eax >> 5 & 7;

	e->eax = (e->eax & 0x3fffu) | (level >= 3 ? count - 1 : 0) << 14;
}

static void set_entry(struct kvm_cpuid_entry2 *e, unsigned id, unsigned count, bool tsc_deadline)
{
	switch (e->function) {
	case LEAF_FEATURES: set_features(e, id, count, tsc_deadline); break;
	case LEAF_CACHE: set_cache(e, count); break;
	case LEAF_TOPOLOGY:
	case LEAF_TOPOLOGY_V2: set_topology(e, id, count); break;
	case LEAF_KVM_FEATURES: e->eax &= ~KVM_ASYNC_PF_BITS; break;
	case LEAF_AMD_SIZES:
		e->ecx = (e->ecx & ~0xf0ffu) | core_bits(count) << 12 | (count - 1);
		break;
	case LEAF_AMD_CACHE: set_amd_cache(e, count); break;
	case LEAF_AMD_TOPOLOGY:
		e->eax = id;
		e->ebx = id & 0xff; /* core id; one thread a core */
		e->ecx = 0;
		break;
	default: break;
	}
}

void cpuid_for_vcpu(struct cpuid_table *out, const struct cpuid_table *host, unsigned id,
		    unsigned count, bool tsc_deadline)
{
	*out = *host;
	for (unsigned i = 0; i < out->nent; i++)
		set_entry(&out->entry[i], id, count, tsc_deadline);
}
