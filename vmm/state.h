/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - all of a machine's state in the order in which it is saved and loaded
 *
 * Thread: ctl; the machine is paused, or empty.
 */
#ifndef SPORE_VMM_STATE_H
#define SPORE_VMM_STATE_H

#include "snapshot/codec.h"
#include "vmm/machine.h"
#include "vmm/vm_state.h"

/* Everything of a paused machine but its memory and disks. */
int state_save(struct vmm *m, struct snap_out *out, struct errmsg *why);

/* A machine's vCPUs, wherever they are. */
struct state_cpus {
	struct kvm_vcpu *at[VMM_CPUS_MAX];
};

/*
 * state_load_cpus() - the KVM half of a state into `kvm` and its vCPUs: the machine's own, or those of its spare
 * Checked whole before any of it is put in place.  Return: 0; -EBADMSG, -EINVAL, -EXDEV; -errno of KVM.
 */
int state_load_cpus(struct kvm_vm *kvm, const struct state_cpus *cpus, const struct vmm *m,
		    enum vm_clock clock, const struct snap_in *in, struct errmsg *why);

#endif
