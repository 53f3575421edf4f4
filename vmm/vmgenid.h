/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmgenid.h - how a guest learns that it is a copy: VM generation id and VMClock
 *
 * Two pages of guest memory and one interrupt.  The first page begins with 16 random bytes that are different in every
 * copy of a VM: Linux reseeds its random numbers from them (drivers/virt/vmgenid.c).  The second is a VMClock: a counter
 * of generations and a marker of disruptions under a sequence lock, which programs of the guest can map and look at; it
 * offers no time (Linux 6.12 has no driver for it, 6.13 has).  The interrupt is a generic event device's in the DSDT,
 * which notifies both.
 *
 * The interrupt is an edge: one that comes while the guest has its pin masked is raised again when it is unmasked.
 *
 * Thread: ctl while no vCPU runs, unless it says otherwise.
 * Source: "Virtual Machine Generation ID", Microsoft, 2012; Linux, include/uapi/linux/vmclock-abi.h;
 * UAPI.13 VMClock; ACPI 6.5, 5.6.9.2 (generic event device).
 */
#ifndef SPORE_VMM_VMGENID_H
#define SPORE_VMM_VMGENID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshot/codec.h"

#define VMGENID_SIZE 16

struct vmm;

struct vmgenid {
	uint8_t id[VMGENID_SIZE];
	uint32_t seq;                    /* of the VMClock; even */
	uint64_t disruption, generation; /* of the VMClock */
	bool unheard;                    /* atomic: an interrupt met a masked pin */
};

/* Makes the interrupt line.  Before irq_bind(). */
int vmgenid_line(struct vmm *m, struct errmsg *why);

/* A machine that boots: writes both pages, with an id of its own. */
int vmgenid_init(struct vmm *m, struct errmsg *why);

/*
 * vmgenid_bump() - the guest is another one from here on: new id, generation and disruption counted, interrupt
 * After vmgenid_load() and after memory and the IOAPIC are as they were; no vCPU runs before it returns.
 * Return: 0; -EFAULT the pages are not in memory; -EIO the host has no random numbers.
 */
int vmgenid_bump(struct vmm *m, struct errmsg *why) __attribute__((warn_unused_result));

/* vCPU thread: the pin was unmasked. */
void vmgenid_unmasked(struct vmm *m);

void vmgenid_save(const struct vmm *m, struct snap_out *out);
/* Return: 0; -EBADMSG absent, another version, other addresses than this machine's, an odd sequence count. */
int vmgenid_load(struct vmm *m, const struct snap_in *in, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
