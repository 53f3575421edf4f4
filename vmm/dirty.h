/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty.h - which pages were written since the last capture that is safe
 *
 * Two witnesses: KVM's dirty log sees what the guest writes, the bitmap of base/gmem.h what we write for it and what
 * the kernel writes on our behalf.  KVM's log makes it map 4 KiB pages and takes a fault for the first write to
 * each, so it is not on before somebody keeps a capture: a machine that is never captured twice pays nothing.
 *
 *   harvest: bits move from both witnesses to `pending`                       (the log is armed again)
 *   taken:   pending moves to `taken`, the capture in the caller's hands
 *   kept:    taken is forgotten          lost: taken goes back to pending     (no bit is ever lost)
 *
 * With manual protection and all bits set at first (KVM_DIRTY_LOG_INITIALLY_SET) switching it on touches no page, and
 * arming costs what was written (Documentation/virt/kvm/api.rst, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 7.18).
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_DIRTY_H
#define SPORE_VMM_DIRTY_H

#include "base/err.h"
#include "snapshot/anon.h"
#include "vmm/machine.h"

struct dirty_region {
	uint64_t pages;
	uint64_t *log, *own, *pending, *taken; /* one bit a page; `own` is in gmem */
};

struct dirty {
	bool on;
	unsigned count;
	struct dirty_region region[GM_REGION_MAX];
};

/* Bitmaps, and our own witness at once.  0 or -ENOMEM. */
int dirty_create(struct dirty *dirty, struct vmm *m);
void dirty_destroy(struct dirty *dirty);

/* Switches KVM's log on.  The machine may run.  Return: 0 or -errno: then all pages count as written. */
int dirty_start(struct dirty *dirty, struct vmm *m, struct errmsg *why);

/* Return: 0 or -errno.  The machine may run: what it writes meanwhile is found the next time. */
int dirty_harvest(struct dirty *dirty, struct vmm *m, struct errmsg *why);

void dirty_take(struct dirty *dirty);
void dirty_kept(struct dirty *dirty);
void dirty_lost(struct dirty *dirty);

/* Every pending page, in rising order; counted over all regions.  Return: 0, or what `each` returned first. */
int dirty_each(const struct dirty *dirty, int (*each)(void *arg, uint64_t page), void *arg);

/* Leaves in `written` what is also pending.  Return: 0 or -ENOMEM. */
int dirty_narrow(const struct dirty *dirty, struct anon *written);

#endif
