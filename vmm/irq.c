/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irq.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

void irq_init(struct irq *irq, struct kvm_vm *vm)
{
	*irq = (struct irq){.vm = vm};
	for (unsigned gsi = 0; gsi < KVM_GSI_COUNT; gsi++)
		irq->fd[gsi] = -1;
}

void irq_deinit(struct irq *irq)
{
	for (unsigned gsi = 0; gsi < KVM_GSI_COUNT; gsi++) {
		if (irq->fd[gsi] >= 0)
			close(irq->fd[gsi]);
		irq->fd[gsi] = -1;
	}
}

int irq_line(struct irq *irq, unsigned gsi, struct errmsg *why)
{
	assert(gsi < KVM_GSI_COUNT);
	assert(irq->fd[gsi] < 0);
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return err_set(why, errno, "interrupt line %u: eventfd", gsi);
	irq->fd[gsi] = fd;
	return fd;
}

int irq_bind(struct irq *irq, struct errmsg *why)
{
	for (unsigned gsi = 0; gsi < KVM_GSI_COUNT; gsi++) {
		if (irq->fd[gsi] < 0)
			continue;
		int err = kvm_vm_irqfd(irq->vm, gsi, irq->fd[gsi], why);
		if (err)
			return err;
	}
	return 0;
}

static bool irq_same(const struct kvm_route *a, const struct kvm_route *b)
{
	return a->on == b->on && (!a->on || (a->address == b->address && a->data == b->data));
}

int irq_route(struct irq *irq, unsigned gsi, const struct kvm_route *route)
{
	assert(gsi < KVM_GSI_COUNT);
	if (irq_same(&irq->route[gsi], route))
		return 0;
	irq->route[gsi] = *route;
	/* Only lines that exist can be raised: the others need no routing table of KVM's. */
	if (irq->fd[gsi] < 0)
		return 0;
	if (!irq->held)
		return irq_reroute(irq);
	irq->stale = true;
	return 0;
}

int irq_reroute(const struct irq *irq)
{
	int err = kvm_vm_set_routes(irq->vm, irq->route);
	return err || !irq->spare ? err : kvm_vm_set_routes(irq->spare, irq->route);
}

void irq_hold(struct irq *irq)
{
	irq->held = true;
	irq->stale = false;
}

int irq_release(struct irq *irq)
{
	irq->held = false;
	return irq->stale ? irq_reroute(irq) : 0;
}
