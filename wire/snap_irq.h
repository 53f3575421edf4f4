/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_irq.h - interrupt state as it stands in a snapshot
 *
 * Little-endian, fixed size; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_IRQ_H
#define SPORE_WIRE_SNAP_IRQ_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SNAP_IOAPIC_PINS 24

struct snap_ioapic {
	uint32_t id;                    /* register 0: bits 27..24 */
	uint32_t select;                /* IOREGSEL: 0..255 */
	uint64_t rte[SNAP_IOAPIC_PINS]; /* redirection table entries, with remote IRR */
	uint32_t lines;                 /* bit n: input n is high */
	uint32_t rsvd;
};

static_assert(sizeof(struct snap_ioapic) == 208, "struct snap_ioapic");
static_assert(offsetof(struct snap_ioapic, rte) == 8, "snap_ioapic.rte");
static_assert(offsetof(struct snap_ioapic, lines) == 200, "snap_ioapic.lines");
static_assert(offsetof(struct snap_ioapic, rsvd) == 204, "snap_ioapic.rsvd");

#endif
