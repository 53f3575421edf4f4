/* SPDX-License-Identifier: Apache-2.0 */
/* devices.h - the devices of a machine: made from its configuration, put on its buses.  Thread: ctl. */
#ifndef SPORE_VMM_DEVICES_H
#define SPORE_VMM_DEVICES_H

#include "base/err.h"
#include "vmm/machine.h"

/* After memory slots and vCPUs: it ends with the ioeventfds. */
int devices_create(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why);
/* Binds every queue's notification to `kvm`, the machine's VM or its spare. */
int devices_bind_kicks(struct vmm *m, struct kvm_vm *kvm, struct errmsg *why);
/* The interrupt lines of m->irq have changed.  Quiesced, no vCPU runs. */
void devices_set_lines(struct vmm *m);
/* After the loop is gone; half-built is fine. */
void devices_destroy(struct vmm *m);

#endif
