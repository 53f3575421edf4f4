/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.h - what a vCPU says about itself
 *
 * The host's supported leaves, with the topology of this VM written in and what we do not want removed:
 * features whose state is not in a snapshot (asynchronous page faults, performance counters, nested
 * virtualization and others: cpuid.c).
 */
#ifndef SPORE_VMM_CPUID_H
#define SPORE_VMM_CPUID_H

#include "vmm/kvm.h"

/* Makes `host` the leaves of vCPU `id` of `count`: APIC id, topology, hypervisor bits.  Any thread. */
void cpuid_for_vcpu(struct cpuid_table *out, const struct cpuid_table *host, unsigned id,
		    unsigned count, bool tsc_deadline);

/* A table in place, not ours. */
struct cpuid_view {
	uint32_t nent;
	const struct kvm_cpuid_entry2 *entry;
};

struct cpuid_identity {
	char vendor[12];    /* no terminator */
	uint32_t signature; /* leaf 1: family, model, stepping */
};
struct cpuid_identity cpuid_identity(const struct cpuid_view *table);

/* -EXDEV with a sentence: another vendor, family or model.  Steppings may differ. */
int cpuid_same_processor(const struct cpuid_identity *saved, const struct cpuid_identity *here,
			 struct errmsg *why);

/*
 * cpuid_check() - may a guest that saw `saved` go on where vCPUs can have `here`?
 * The same vendor and model, no feature that this host lacks, the same layout of XSAVE areas and width of
 * addresses.  Any bytes may be given.  Return: 0 or -EXDEV with a sentence that names the leaf.  Any thread.
 */
int cpuid_check(const struct cpuid_view *saved, const struct cpuid_view *here, struct errmsg *why);

#endif
