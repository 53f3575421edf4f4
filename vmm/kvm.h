/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm.h - the KVM objects of one VM; kvm.c and kvm_state.c are the only files of the product that call KVM
 *
 * Order matters: on Linux 6.18 a memory slot set after the first device on the I/O bus (PIC, IOAPIC,
 * PIT, ioeventfd) waits 7 ms for an SRCU grace period.  So: VM, split irqchip, memory slots, vCPUs, and
 * ioeventfds last (docs/DESIGN.md, "Interrupts").
 *
 * Errors: 0 or -errno with a text that names the ioctl.
 */
#ifndef SPORE_VMM_KVM_H
#define SPORE_VMM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"

#define KVM_CPUID_MAX 256 /* entries of KVM_GET_SUPPORTED_CPUID that we take */
#define KVM_GSI_COUNT 24  /* pins of our IOAPIC */

struct cpuid_table {
	uint32_t nent, padding; /* head of struct kvm_cpuid2 */
	struct kvm_cpuid_entry2 entry[KVM_CPUID_MAX];
};

/* A table as a vCPU was given it. */
struct cpuid_kept {
	uint64_t hash; /* FNV-1a of the entries */
	uint32_t nent;
	struct kvm_cpuid_entry2 entry[];
};

#define KVM_MSR_MAX 256 /* that KVM takes in one call, and more than a vCPU's state has */

/* What of a vCPU's state this host's KVM knows: kvm_state.h.  Const once a vCPU has been made. */
struct kvm_state_caps {
	bool sregs2, xsave2, tsc_control, clock_realtime, tsc_offset;
	bool tsc_fixed;      /* guests see the host's TSC: whatever is set is taken and ignored */
	uint32_t xsave_size; /* bytes */
	uint32_t tsc_khz;    /* the host's */
	uint32_t msr_count;
	uint32_t msr[KVM_MSR_MAX]; /* in the order of msr.h */
};

struct kvm_vm {
	int dev_fd;      /* /dev/kvm, borrowed */
	int fd;          /* the VM */
	size_t run_size; /* bytes of a vCPU's run page area */
	bool tsc_deadline;
	struct kvm_state_caps state;
};

struct kvm_vcpu {
	int fd;
	unsigned id;
	size_t run_size;
	struct kvm_run *run;
	struct cpuid_kept *cpuid; /* NULL: none yet */
	uint32_t tsc_khz;         /* 0: the host's */
};

/* One MSI that a GSI stands for; `on` false: the pin leads nowhere. */
struct kvm_route {
	bool on;
	uint64_t address;
	uint32_t data;
};

/* VM with a split irqchip: local APICs in the kernel, the IOAPIC is ours. */
int kvm_vm_create(struct kvm_vm *vm, int dev_fd, struct errmsg *why);
void kvm_vm_destroy(struct kvm_vm *vm);
int kvm_vm_set_slot(struct kvm_vm *vm, unsigned slot, gpa_t start, void *host, uint64_t size,
		    bool log_dirty, struct errmsg *why);
/*
 * The dirty log of a slot that has one, a bit a page; nothing is armed again by reading.  kvm_vm_clear_log() arms the
 * pages whose bits are set in `bitmap`: `first` a multiple of 64, `pages` too but at the slot's end.
 */
int kvm_vm_get_log(struct kvm_vm *vm, unsigned slot, uint64_t *bitmap, struct errmsg *why);
int kvm_vm_clear_log(struct kvm_vm *vm, unsigned slot, uint64_t first, uint64_t pages,
		     const uint64_t *bitmap, struct errmsg *why);
int kvm_vm_irqfd(struct kvm_vm *vm, unsigned gsi, int fd, struct errmsg *why);
/* A 4-byte write of `value` to `at` signals `fd` without an exit. */
int kvm_vm_ioeventfd(struct kvm_vm *vm, gpa_t at, uint32_t value, int fd, struct errmsg *why);
/* Any thread. */
int kvm_vm_set_routes(struct kvm_vm *vm, const struct kvm_route route[KVM_GSI_COUNT]);

/* Any thread: one message now. */
int kvm_vm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data);

int kvm_supported_cpuid(int dev_fd, struct cpuid_table *out, struct errmsg *why);

int kvm_vcpu_create(struct kvm_vcpu *vcpu, const struct kvm_vm *vm, unsigned id,
		    struct errmsg *why);
void kvm_vcpu_destroy(struct kvm_vcpu *vcpu);
/* Keeps a copy too, for the vCPU's state: allocates. */
int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct cpuid_table *cpuid, struct errmsg *why);
int kvm_vcpu_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs, struct errmsg *why);
int kvm_vcpu_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs, struct errmsg *why);
int kvm_vcpu_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs, struct errmsg *why);
int kvm_vcpu_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs, struct errmsg *why);
/* An MSR that this host does not have is skipped when `optional`. */
int kvm_vcpu_set_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool optional,
		     struct errmsg *why);
/* `signal` is blocked in the thread, but ends KVM_RUN with -EINTR: no handler is needed. */
int kvm_vcpu_set_signal(struct kvm_vcpu *vcpu, int signal, struct errmsg *why);
/* Return: 0 an exit is described in vcpu->run; -EINTR a signal or immediate_exit; -errno. */
int kvm_vcpu_run(struct kvm_vcpu *vcpu);

#endif
