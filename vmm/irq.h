/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.h - interrupt lines: an eventfd a GSI, and the message our IOAPIC turns it into
 *
 * A device raises its line by writing to an eventfd.  KVM takes it from there without an exit (irqfd) and
 * sends the message that the guest programmed into the IOAPIC's pin: a pin that changes is a new routing
 * table for KVM.  A masked pin leads nowhere, so its edges are lost as on real hardware's edge pins;
 * who has one pending raises it again when the pin is unmasked (see ioapic.h).
 */
#ifndef SPORE_VMM_IRQ_H
#define SPORE_VMM_IRQ_H

#include "base/err.h"
#include "vmm/kvm.h"

struct irq {
	struct kvm_vm *vm;
	struct kvm_vm *
		spare; /* gets the same routes, so that moving there takes no time; or NULL.  parked */
	int fd[KVM_GSI_COUNT];                 /* -1: no line; const after start */
	struct kvm_route route[KVM_GSI_COUNT]; /* lock: the IOAPIC's */
	bool stale; /* lock: the IOAPIC's; KVM does not know `route` yet */
	bool held;  /* ctl, while no vCPU runs */
};

void irq_init(struct irq *irq, struct kvm_vm *vm);
void irq_deinit(struct irq *irq);
/* Makes the eventfd of `gsi`.  ctl thread, before the VM runs.  Return: the fd, or -errno. */
int irq_line(struct irq *irq, unsigned gsi, struct errmsg *why);
/* Binds every line to KVM.  After the memory slots. */
int irq_bind(struct irq *irq, struct errmsg *why);
/* vCPU thread, IOAPIC lock held: the pin now sends this message, or (on false) nothing.  0 or -errno. */
int irq_route(struct irq *irq, unsigned gsi, const struct kvm_route *route);
/*
 * ctl thread, vCPUs parked: gives all routes to `irq->vm` again, for when another KVM VM has been put in its
 * place.  0 or -errno.
 */
int irq_reroute(const struct irq *irq);
/* ctl thread, no vCPU runs: routes are only noted from here on, until irq_release() tells KVM of all at once. */
void irq_hold(struct irq *irq);
int irq_release(struct irq *irq); /* 0 or -errno */

#endif
