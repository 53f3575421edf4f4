/* SPDX-License-Identifier: Apache-2.0 */
/*
 * home.h - a second KVM VM for the same machine, built ahead, into which it can move
 *
 * A KVM VM sees memory at the addresses that its slots were given.  So that the memory of a running machine can
 * become immutable within a pause that does not grow with it, a spare VM stands ready: the same vCPUs, slots over a
 * private mapping of the same file at other addresses, the same ioeventfds, interrupt lines of its own.  To move is
 * to load the vCPUs' state there and to exchange the two: no page is touched, copied or unmapped.
 *
 * Built before the sandbox closes (KVM objects cannot be made after it), used once: from then on memory is private
 * (ram.h, generation 1) and a capture copies what was written.
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_HOME_H
#define SPORE_VMM_HOME_H

#include "base/err.h"
#include "vmm/machine.h"

struct home {
	struct kvm_vm kvm;
	struct kvm_vcpu *vcpu; /* m->cpus of them */
	struct irq irq;
	void *map; /* NULL: not ours to unmap */
	uint64_t size;
};

/* After devices_create(): the spare has what the machine has.  Return: 0 or -errno. */
int home_create(struct home **out, struct vmm *m, const struct vmm_config *cfg, struct errmsg *why);

/* Exchanges the machine's VM with the spare.  All parked and quiesced; the vCPUs' state stands in the spare. */
void home_swap(struct vmm *m, struct home *home);

/*
 * Takes down the VM that is not used (milliseconds: KVM waits for its readers), and its mapping.  NULL is fine.
 */
void home_destroy(struct home *home, unsigned cpus);

#endif
