/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One socket, one thread a core, `count` cores.  Leaves: Intel SDM vol. 2A "CPUID", AMD APM vol. 3
 * appendix E, Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
#include "vmm/cpuid.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

#define LEAF_FEATURES     0x1u
#define LEAF_CACHE        0x4u
#define LEAF_VENDOR       0x0u
#define LEAF_EXTENDED     0x7u
#define LEAF_PMU          0xau
#define LEAF_TOPOLOGY     0xbu
#define LEAF_XSAVE        0xdu
#define LEAF_TRACE        0x14u
#define LEAF_LBR          0x1cu
#define LEAF_TOPOLOGY_V2  0x1fu
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_AMD_FEATURES 0x80000001u
#define LEAF_AMD_SIZES    0x80000008u
#define LEAF_AMD_CACHE    0x8000001du
#define LEAF_AMD_TOPOLOGY 0x8000001eu
#define LEAF_AMD_PMU      0x80000022u

#define FEATURES_ECX_TSC_DEADLINE (1u << 24)
#define FEATURES_ECX_HYPERVISOR   (1u << 31)
#define FEATURES_EDX_HTT          (1u << 28)
#define KVM_ASYNC_PF_BITS         (1u << 4 | 1u << 10 | 1u << 14)

/*
 * What a guest must not count on, because its state would not be in a snapshot: performance counters, debug
 * store, nested virtualization, shadow stacks (GUEST_SSP has no MSR), processor trace, last-branch records.
 */
static const struct cpuid_mask {
	uint32_t function, index;
	uint32_t ebx, ecx, edx;
} stateless[] = {
	{.function = LEAF_FEATURES,
	 .ecx = 1u << 2 | 1u << 4 | 1u << 5 | 1u << 15, /* DTES64, DS_CPL, VMX, PDCM */
	 .edx = 1u << 21 /* DS */},
	{.function = LEAF_EXTENDED,
	 .ebx = 1u << 25, /* processor trace */
	 .ecx = 1u << 7,  /* shadow stacks */
	 .edx = 1u << 19 | 1u << 20 /* last-branch records, indirect branch tracking */},
	{.function = LEAF_AMD_FEATURES, .ecx = 1u << 2 | 1u << 23 /* SVM, six counters */},
};
static const uint32_t stateless_leaf[] = {LEAF_PMU, LEAF_TRACE, LEAF_LBR, LEAF_AMD_PMU};

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

static void mask_stateless(struct kvm_cpuid_entry2 *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(stateless); i++) {
		const struct cpuid_mask *m = &stateless[i];
		if (e->function != m->function || e->index != m->index)
			continue;
		e->ebx &= ~m->ebx;
		e->ecx &= ~m->ecx;
		e->edx &= ~m->edx;
	}
	for (unsigned i = 0; i < ARRAY_LEN(stateless_leaf); i++)
		if (e->function == stateless_leaf[i])
			e->eax = e->ebx = e->ecx = e->edx = 0;
}

static void set_entry(struct kvm_cpuid_entry2 *e, unsigned id, unsigned count, bool tsc_deadline)
{
	mask_stateless(e);
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

/* --- another host's table ------------------------------------------------------------------------- */

enum cpuid_reg { EAX, EBX, ECX, EDX };

/* Registers whose bits each promise something: the guest may have seen no bit that is not here. */
static const struct cpuid_feature {
	uint32_t function, index;
	enum cpuid_reg reg;
} features[] = {
	{LEAF_FEATURES, 0, ECX},     {LEAF_FEATURES, 0, EDX},     {LEAF_EXTENDED, 0, EBX},
	{LEAF_EXTENDED, 0, ECX},     {LEAF_EXTENDED, 0, EDX},     {LEAF_EXTENDED, 1, EAX},
	{LEAF_EXTENDED, 1, EBX},     {LEAF_EXTENDED, 1, ECX},     {LEAF_EXTENDED, 1, EDX},
	{LEAF_EXTENDED, 2, EDX},     {LEAF_XSAVE, 0, EAX},        {LEAF_XSAVE, 0, EDX},
	{LEAF_XSAVE, 1, EAX},        {LEAF_XSAVE, 1, ECX},        {LEAF_AMD_FEATURES, 0, ECX},
	{LEAF_AMD_FEATURES, 0, EDX}, {0x80000007, 0, EDX},        {LEAF_AMD_SIZES, 0, EBX},
	{0x80000021, 0, EAX},        {LEAF_KVM_FEATURES, 0, EAX}, {LEAF_KVM_FEATURES, 0, EDX},
};

static uint32_t reg_of(const struct kvm_cpuid_entry2 *e, enum cpuid_reg reg)
{
	const uint32_t value[] = {[EAX] = e->eax, [EBX] = e->ebx, [ECX] = e->ecx, [EDX] = e->edx};

	return value[reg];
}

/* A leaf that is not there reads as zeroes. */
static struct kvm_cpuid_entry2 leaf_of(const struct cpuid_view *table, uint32_t function,
				       uint32_t index)
{
	for (uint32_t i = 0; i < table->nent; i++)
		if (table->entry[i].function == function && table->entry[i].index == index)
			return table->entry[i];
	return (struct kvm_cpuid_entry2){.function = function};
}

struct cpuid_identity cpuid_identity(const struct cpuid_view *table)
{
	const struct kvm_cpuid_entry2 vendor = leaf_of(table, LEAF_VENDOR, 0);
	struct cpuid_identity id = {.signature = leaf_of(table, LEAF_FEATURES, 0).eax};

	memcpy(&id.vendor[0], &vendor.ebx, sizeof(vendor.ebx));
	memcpy(&id.vendor[4], &vendor.edx, sizeof(vendor.edx));
	memcpy(&id.vendor[8], &vendor.ecx, sizeof(vendor.ecx));
	return id;
}

/* Family and model: bits 27..16, 11..4 and 3..0 are extended family and model, family and model, stepping. */
#define SIGNATURE_MODEL 0x0fff0ff0u

/* The saved one comes from a file: no byte of it reaches a terminal as anything but text. */
struct vendor_text {
	char text[13];
};

static struct vendor_text vendor_text(const struct cpuid_identity *id)
{
	struct vendor_text out = {""};

	for (unsigned i = 0; i < sizeof(id->vendor); i++)
		out.text[i] = id->vendor[i] >= ' ' && id->vendor[i] <= '~' ? id->vendor[i] : '.';
	return out;
}

int cpuid_same_processor(const struct cpuid_identity *saved, const struct cpuid_identity *here,
			 struct errmsg *why)
{
	if (memcmp(saved->vendor, here->vendor, sizeof(saved->vendor)) != 0)
		return err_set(why, EXDEV,
			       "the machine was saved on a processor of %s, this host's is of %s",
			       vendor_text(saved).text, vendor_text(here).text);
	if ((saved->signature ^ here->signature) & SIGNATURE_MODEL)
		return err_set(why, EXDEV,
			       "the machine was saved on another model of processor: CPUID leaf 1 "
			       "is 0x%x there, 0x%x here",
			       saved->signature, here->signature);
	return 0;
}

static int check_features(const struct cpuid_view *saved, const struct cpuid_view *here,
			  struct errmsg *why)
{
	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		const struct cpuid_feature *f = &features[i];
		const struct kvm_cpuid_entry2 a = leaf_of(saved, f->function, f->index);
		const struct kvm_cpuid_entry2 b = leaf_of(here, f->function, f->index);
		uint32_t lacks = reg_of(&a, f->reg) & ~reg_of(&b, f->reg);
		if (lacks)
			return err_set(why, EXDEV,
				       "the guest uses processor features that this host lacks: "
				       "CPUID leaf 0x%x.%u, e%cx, bits 0x%x",
				       f->function, f->index, "abcd"[f->reg], lacks);
	}
	return 0;
}

/* Where each component lies in an XSAVE area, and how many address bits there are, must be the same. */
static int check_sizes(const struct cpuid_view *saved, const struct cpuid_view *here,
		       struct errmsg *why)
{
	enum { FIRST_COMPONENT = 2, COMPONENTS = 63 };
	const struct kvm_cpuid_entry2 sizes = leaf_of(saved, LEAF_AMD_SIZES, 0);

	if ((sizes.eax ^ leaf_of(here, LEAF_AMD_SIZES, 0).eax) & 0xffff)
		return err_set(why, EXDEV, "the processor's address sizes differ (CPUID leaf 0x%x)",
			       LEAF_AMD_SIZES);
	for (uint32_t i = FIRST_COMPONENT; i < COMPONENTS; i++) {
		const struct kvm_cpuid_entry2 a = leaf_of(saved, LEAF_XSAVE, i);
		const struct kvm_cpuid_entry2 b = leaf_of(here, LEAF_XSAVE, i);
		if (a.eax && (a.eax != b.eax || a.ebx != b.ebx))
			return err_set(why, EXDEV,
				       "the processor's XSAVE areas differ (CPUID leaf 0xd.%u)", i);
	}
	return 0;
}

int cpuid_check(const struct cpuid_view *saved, const struct cpuid_view *here, struct errmsg *why)
{
	const struct cpuid_identity there = cpuid_identity(saved), host = cpuid_identity(here);

	int err = cpuid_same_processor(&there, &host, why);
	if (!err)
		err = check_features(saved, here, why);
	return err ? err : check_sizes(saved, here, why);
}
