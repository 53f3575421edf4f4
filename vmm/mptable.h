/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mptable.h - CPUs and interrupts for guests that boot with acpi=off
 *
 * The floating pointer and the configuration table of the MultiProcessor Specification 1.4, in the last
 * KiB of base memory.  CPU n has APIC id n; the I/O APIC comes next; pins 0..23 carry ISA interrupts
 * 0..23 one to one (edge, active high), so that virtio_mmio.device=...:GSI finds its interrupt.
 *
 * Thread: ctl, before any vCPU runs.
 */
#ifndef SPORE_VMM_MPTABLE_H
#define SPORE_VMM_MPTABLE_H

#include "base/err.h"
#include "base/gmem.h"

/* Return: 0; -EINVAL cpus not in 1..VMM_CPUS_MAX; -EFAULT guest memory smaller than 1 MiB. */
int mptable_write(const struct gmem *gm, unsigned cpus, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
