/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_state.h - the state of KVM's objects, one ioctl a function: no policy, no order (vcpu_state.h has those)
 *
 * Errors: 0 or -errno with a text that names the ioctl.  Nothing allocates; nothing formats but on failure.
 * Thread: the vCPU's own, or ctl while it is parked.
 */
#ifndef SPORE_VMM_KVM_STATE_H
#define SPORE_VMM_KVM_STATE_H

#include "vmm/kvm.h"

#define KVM_TSC_TOLERANCE_PPM \
	250u /* within it KVM takes a frequency without scaling (kvm.ko, x86.c) */

/*
 * kvm_state_probe() - fill vm->state: what of a vCPU this KVM can tell and take
 * @first: a vCPU that has its CPUID (from Linux 6.13 on no MSR can be read before).  About 30 us.
 * A second VM of the process on the same host may have a copy of another's.
 */
int kvm_state_probe(struct kvm_vm *vm, struct kvm_vcpu *first, struct errmsg *why);

int kvm_vcpu_get_mp_state(struct kvm_vcpu *vcpu, uint32_t *state, struct errmsg *why);
int kvm_vcpu_set_mp_state(struct kvm_vcpu *vcpu, uint32_t state, struct errmsg *why);

/* Where KVM has no SREGS2, SREGS serves: it lacks the PDPTRs, which are then read from memory again. */
int kvm_vcpu_get_sregs2(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, struct kvm_sregs2 *to,
			struct errmsg *why);
int kvm_vcpu_set_sregs2(const struct kvm_vm *vm, struct kvm_vcpu *vcpu,
			const struct kvm_sregs2 *from, struct errmsg *why);

/* @area: vm->state.xsave_size bytes */
int kvm_vcpu_get_xsave(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, void *area,
		       struct errmsg *why);
int kvm_vcpu_set_xsave(struct kvm_vcpu *vcpu, const void *area, struct errmsg *why);
/* 0: the processor has none. */
int kvm_vcpu_get_xcr0(struct kvm_vcpu *vcpu, uint64_t *xcr0, struct errmsg *why);
int kvm_vcpu_set_xcr0(struct kvm_vcpu *vcpu, uint64_t xcr0, struct errmsg *why);
int kvm_vcpu_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *to, struct errmsg *why);
int kvm_vcpu_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *from,
			   struct errmsg *why);
/* @area: 1 KiB */
int kvm_vcpu_get_lapic(struct kvm_vcpu *vcpu, void *area, struct errmsg *why);
int kvm_vcpu_set_lapic(struct kvm_vcpu *vcpu, const void *area, struct errmsg *why);
int kvm_vcpu_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *to, struct errmsg *why);
int kvm_vcpu_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *from,
			struct errmsg *why);

/*
 * @list: begins as struct kvm_msrs does: count and 0, then as many entries, at most 256
 * KVM stops at the first MSR that it cannot serve: -EINVAL, and the text names that one.
 */
int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu, void *list, struct errmsg *why);
int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const void *list, struct errmsg *why);

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz, struct errmsg *why);
/* guest TSC = host TSC (scaled, if they differ) + offset */
int kvm_vcpu_get_tsc_offset(struct kvm_vcpu *vcpu, uint64_t *offset, struct errmsg *why);
int kvm_vcpu_set_tsc_offset(struct kvm_vcpu *vcpu, uint64_t offset, struct errmsg *why);
/* Tells the guest that it was stopped, for its watchdogs.  Nothing happens where it has no kvmclock. */
int kvm_vcpu_was_stopped(struct kvm_vcpu *vcpu, struct errmsg *why);

/* One instant: kvmclock, CLOCK_REALTIME, host TSC. */
int kvm_vm_get_clock(const struct kvm_vm *vm, struct kvm_clock_data *to, struct errmsg *why);
/* kvmclock is `clock_ns` now; or was it when CLOCK_REALTIME was `realtime_ns`. */
int kvm_vm_set_clock(const struct kvm_vm *vm, uint64_t clock_ns, struct errmsg *why);
int kvm_vm_set_clock_at(const struct kvm_vm *vm, uint64_t clock_ns, uint64_t realtime_ns,
			struct errmsg *why);

#endif
