/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msr.h - which model-specific registers belong to a guest's state
 *
 * What KVM lists as its own state is a superset (KVM_GET_MSR_INDEX_LIST); some of it is the host's (microcode,
 * capabilities), a second name of another register, or belongs to features that our guests do not have.
 */
#ifndef SPORE_VMM_MSR_H
#define SPORE_VMM_MSR_H

#include <stdbool.h>
#include <stdint.h>

#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u

/* Part of a vCPU's state; never the TSC, which is kept by itself. */
bool msr_is_state(uint32_t index);

/*
 * State that KVM has and does not list: MTRRs, IA32_XSS before Linux 6.18.
 * Return: the index of number `n`, or 0 at the end.
 */
uint32_t msr_unlisted(unsigned n);

/* The order of a snapshot: ascending, IA32_TSC_DEADLINE last.  < 0, 0, > 0 as for qsort(). */
int msr_order(uint32_t a, uint32_t b);

#endif
