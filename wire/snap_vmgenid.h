/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_vmgenid.h - the generation of a VM as it stands in a snapshot (SNAP_VMGENID, SNAP_VMCLOCK, version 1)
 *
 * Where the guest was told to look, and what it saw there last: a loader goes on from it and shows it something else.
 * Little-endian, fixed size; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_VMGENID_H
#define SPORE_WIRE_SNAP_VMGENID_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_VMGENID_VERSION 1u
struct snap_vmgenid {
	uint64_t addr; /* guest-physical, of the 16 bytes */
	uint8_t id[16];
};
static_assert(sizeof(struct snap_vmgenid) == 24, "struct snap_vmgenid");
static_assert(offsetof(struct snap_vmgenid, id) == 8, "snap_vmgenid.id");

#define SNAP_VMCLOCK_VERSION 1u
struct snap_vmclock {
	uint64_t addr;       /* guest-physical, of the page */
	uint64_t disruption; /* marker */
	uint64_t generation; /* counter */
	uint32_t seq;        /* even */
	uint32_t rsvd;
};
static_assert(sizeof(struct snap_vmclock) == 32, "struct snap_vmclock");
static_assert(offsetof(struct snap_vmclock, generation) == 16, "snap_vmclock.generation");
static_assert(offsetof(struct snap_vmclock, seq) == 24, "snap_vmclock.seq");
static_assert(offsetof(struct snap_vmclock, rsvd) == 28, "snap_vmclock.rsvd");

#endif
