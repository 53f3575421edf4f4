/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap.h - the state of a paused machine as bytes: everything but its memory and its disks, version 1
 *
 *   0        40                      table_off
 *   | head   | payload | payload ... | section | section | ... |
 *
 * A state is a list of sections, each with a tag, a version and an instance (vCPU number, place on the virtio
 * bus).  A section's payload is one of the structs of wire/snap_*.h, which say their versions.  Payloads start
 * at multiples of 8.  Sections that a loader does not know are an error: nothing of a machine may be left out.
 * All numbers little-endian; `rsvd` is zero and checked.  A state names no path of the host.
 */
#ifndef SPORE_WIRE_SNAP_H
#define SPORE_WIRE_SNAP_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_STATE_MAGIC   "SPORSTAT"
#define SNAP_STATE_VERSION 1u
#define SNAP_STATE_MAX     (8u << 20) /* bytes: 32 vCPUs with the largest XSAVE area, and room */
#define SNAP_SECTION_MAX   512u

struct snap_state_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t count;     /* sections */
	uint64_t table_off; /* multiple of 8 */
	uint64_t len;       /* of all: table_off + count * 32 */
	uint32_t crc;       /* CRC-32C of all bytes with this field zero */
	uint32_t rsvd;
};
static_assert(sizeof(struct snap_state_head) == 40, "struct snap_state_head");
static_assert(offsetof(struct snap_state_head, table_off) == 16, "snap_state_head.table_off");
static_assert(offsetof(struct snap_state_head, crc) == 32, "snap_state_head.crc");

struct snap_section {
	uint32_t tag;
	uint32_t version;
	uint32_t instance;
	uint32_t rsvd;
	uint64_t off; /* multiple of 8, behind the head, before the table */
	uint64_t len; /* bytes */
};
static_assert(sizeof(struct snap_section) == 32, "struct snap_section");
static_assert(offsetof(struct snap_section, off) == 16, "snap_section.off");

/* Tags: four letters, never used again for something else.  Devices: the snap_tag of their table. */
#define SNAP_TAG(a, b, c, d) \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

#define SNAP_MACHINE  SNAP_TAG('M', 'A', 'C', 'H') /* snap_machine.h: shape, layout, clock */
#define SNAP_VCPU     SNAP_TAG('V', 'C', 'P', 'U') /* snap_cpu.h: one each */
#define SNAP_IOAPIC   SNAP_TAG('I', 'O', 'A', 'P') /* snap_irq.h */
#define SNAP_SERIAL   SNAP_TAG('U', 'A', 'R', 'T')
#define SNAP_I8042    SNAP_TAG('I', '8', '0', '4')
#define SNAP_MMIO     SNAP_TAG('M', 'M', 'I', 'O') /* transport registers; instance: place on the bus */
#define SNAP_VBLK     SNAP_TAG('V', 'B', 'L', 'K')
#define SNAP_VRNG     SNAP_TAG('V', 'R', 'N', 'G')
#define SNAP_VSOCK    SNAP_TAG('V', 'S', 'C', 'K')
#define SNAP_VNET     SNAP_TAG('V', 'N', 'E', 'T')
#define SNAP_VBALLOON SNAP_TAG('V', 'B', 'A', 'L')
#define SNAP_VMGENID  SNAP_TAG('V', 'M', 'G', 'I')
#define SNAP_VMCLOCK  SNAP_TAG('V', 'M', 'C', 'K')

#endif
