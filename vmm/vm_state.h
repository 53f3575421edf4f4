/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_state.h - the machine section of a state (wire/snap_machine.h), and time between save and load
 *
 * Save: machine_save_vm() takes the instant of the state, then vcpu_save() each vCPU at that instant.
 * Load: first everything is checked and nothing touched: machine_check_vm(), vcpu_check() each; then
 * machine_load_begin(), vcpu_load() each, devices, and machine_load_vm() just before the first run.
 *
 * Nothing here reaches for a `struct vmm`: the state of one KVM VM can go into another of the same process.
 * Thread: ctl; the vCPUs are parked.
 */
#ifndef SPORE_VMM_VM_STATE_H
#define SPORE_VMM_VM_STATE_H

#include "snapshot/codec.h"
#include "vmm/kvm.h"
#include "wire/snap_machine.h"

/* What a machine is, apart from its state: both sides of a load must agree. */
struct vm_shape {
	uint32_t cpus;
	uint64_t mem_bytes;
	uint32_t flags; /* SNAP_MACHINE_* */
};

/* One instant on the host. */
struct vm_instant {
	uint64_t clock_ns; /* the guest's kvmclock */
	uint64_t realtime_ns;
	uint64_t host_tsc;
};

/* What the guest's monotonic time (kvmclock and TSCs) did between save and load. */
enum vm_clock {
	VM_CLOCK_STOOD,  /* nothing: it goes on where it stood */
	VM_CLOCK_PASSED, /* it passed, by the hosts' wall clocks; never backwards */
	VM_CLOCK_RUNNING, /* it passed, by this host's TSC: saved in this boot of this host, a moment ago */
};

/* A load on its way; between machine_check_vm() and machine_load_vm(). */
struct vm_load {
	struct snap_machine saved;
	enum vm_clock clock;
	uint64_t host_tsc; /* machine_load_begin()'s instant */
	uint64_t realtime_ns;
};

/* @first: vCPU 0.  Appends the section, takes the instant. */
int machine_save_vm(const struct kvm_vm *vm, const struct kvm_vcpu *first,
		    const struct vm_shape *shape, struct vm_instant *at, struct snap_out *out,
		    struct errmsg *why);

/*
 * machine_check_vm() - take the machine section and compare it with what is there
 * Return: 0; -EBADMSG not well-formed; -EINVAL another shape; -EXDEV another processor or TSC frequency.
 */
int machine_check_vm(const struct kvm_vm *vm, const struct kvm_vcpu *first,
		     const struct vm_shape *shape, enum vm_clock clock, const struct snap_in *in,
		     struct vm_load *load, struct errmsg *why);

/* The instant at which the guest's time goes on; all vCPUs of a load share it, however long they take. */
void machine_load_begin(struct vm_load *load);

/* Sets kvmclock.  After all vCPUs, just before the first run: KVM looks then whether TSCs are in step. */
int machine_load_vm(const struct kvm_vm *vm, const struct vm_load *load, struct errmsg *why);

/* --- for vcpu_state.c --------------------------------------------------------------------------- */

/* A host TSC as a guest at `khz` sees it, without offset: KVM's own arithmetic. */
uint64_t tsc_scaled(const struct kvm_vm *vm, const struct kvm_vcpu *vcpu, uint32_t khz,
		    uint64_t host_tsc);
/* Does `khz` need the processor's TSC scaling? */
bool tsc_needs_scaling(const struct kvm_vm *vm, uint32_t khz);
/* Cycles at `khz` by which a guest's TSC at load is ahead of what was saved. */
uint64_t tsc_passed(const struct kvm_vm *vm, const struct kvm_vcpu *vcpu,
		    const struct vm_load *load, uint32_t khz);

#endif
