/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu_state.h - one vCPU's state to and from a section (wire/snap_cpu.h): the order of things
 *
 * Save, each step with its reason in vcpu_state.c:
 *   MP_STATE, REGS, SREGS2, XSAVE, XCR0, debug registers, TSC, MSRs, LAPIC, events
 * Load, into a vCPU that has never run:
 *   CPUID, TSC_KHZ, MP_STATE, REGS, SREGS2, XSAVE, XCR0, debug registers, LAPIC, TSC, MSRs, events
 * What a vCPU has anyway when it is new (CPUID given at creation, XCR0 of 1, no events, ...) is not set again.
 *
 * Thread: ctl; the vCPU is parked, and has no exit that is answered but not taken by KVM (vcpu.c, unfinished).
 */
#ifndef SPORE_VMM_VCPU_STATE_H
#define SPORE_VMM_VCPU_STATE_H

#include "snapshot/codec.h"
#include "vmm/kvm.h"
#include "vmm/vm_state.h"

/*
 * vcpu_save() - append the section of `vcpu`
 * @at: the instant of machine_save_vm(), to which its TSC is reckoned
 * Return: 0 or -errno: of KVM, -ENOMEM, -E2BIG.  Nothing of the vCPU changes.
 */
int vcpu_save(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct vm_instant *at,
	      struct snap_out *out, struct errmsg *why);

/*
 * vcpu_check() - may the section of `vcpu` be loaded into it?  Touches no KVM object.
 * @vcpu: has the CPUID that it was built with
 * Return: 0; -EBADMSG not well-formed; -EXDEV made on a host whose CPU, TSC or KVM differs, with what does.
 */
int vcpu_check(const struct kvm_vm *vm, const struct kvm_vcpu *vcpu, const struct vm_load *load,
	       const struct snap_in *in, struct errmsg *why);

/*
 * vcpu_load() - put the section into `vcpu`
 * After vcpu_check() of all vCPUs and machine_load_begin(); once for each vCPU.
 * Return: 0 or -errno: KVM refused a value; the VM is to be thrown away.
 */
int vcpu_load(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct vm_load *load,
	      const struct snap_in *in, struct errmsg *why);

#endif
