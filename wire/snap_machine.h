/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_machine.h - the machine around its vCPUs and devices, as it stands in a snapshot: section "MACH"
 *
 * Little-endian, fixed size; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_MACHINE_H
#define SPORE_WIRE_SNAP_MACHINE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_MACHINE_VERSION 1u
#define SNAP_LAYOUT_VERSION  1u /* the address map of vmm/layout.h, and what firmware puts there */

/* flags */
#define SNAP_MACHINE_BOOT_TIMER 1u /* has the page that stamps guest_boot */
#define SNAP_MACHINE_CONSOLE    2u /* its serial port leads somewhere */
#define SNAP_MACHINE_FLAGS      3u

struct snap_machine {
	uint32_t cpus;
	uint32_t layout; /* SNAP_LAYOUT_VERSION */
	uint64_t mem_bytes;
	uint32_t flags;
	uint32_t host_tsc_khz;
	uint8_t cpu_vendor[12]; /* CPUID leaf 0: ebx, edx, ecx */
	uint32_t cpu_signature; /* CPUID leaf 1: eax: family, model, stepping */
	uint64_t cpuid_hash;    /* FNV-1a of vCPU 0's snap_cpuid entries */
	/* One instant, of which the vCPUs' TSCs are too: */
	uint64_t clock_ns;    /* kvmclock */
	uint64_t realtime_ns; /* CLOCK_REALTIME of the host */
	uint64_t host_tsc;
	uint64_t rsvd[4];
};
static_assert(sizeof(struct snap_machine) == 104, "struct snap_machine");
static_assert(offsetof(struct snap_machine, cpu_vendor) == 24, "snap_machine.cpu_vendor");
static_assert(offsetof(struct snap_machine, cpuid_hash) == 40, "snap_machine.cpuid_hash");
static_assert(offsetof(struct snap_machine, clock_ns) == 48, "snap_machine.clock_ns");

#endif
