/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.h - what a vCPU says about itself
 *
 * The host's supported leaves, with the topology of this VM written in and what we do not want removed:
 * asynchronous page faults (their tokens do not survive a snapshot).
 */
#ifndef SPORE_VMM_CPUID_H
#define SPORE_VMM_CPUID_H

#include "vmm/kvm.h"

/* Makes `host` the leaves of vCPU `id` of `count`: APIC id, topology, hypervisor bits.  Any thread. */
void cpuid_for_vcpu(struct cpuid_table *out, const struct cpuid_table *host, unsigned id,
		    unsigned count, bool tsc_deadline);

#endif
