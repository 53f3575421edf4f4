/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's thread: enter the guest, answer its exit, look whether something else is wanted.
 *
 * A kick is a real-time signal that stays blocked in the thread and is let in by KVM only while the
 * guest runs (KVM_SET_SIGNAL_MASK): it ends KVM_RUN, needs no handler, and cannot be missed, because one
 * that came before KVM_RUN is still pending when the guest is entered.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/cpuid.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"

#define VCPU_SIGNAL SIGRTMIN

int vcpu_make(struct kvm_vcpu *vcpu, const struct kvm_vm *vm, unsigned id, unsigned cpus,
	      const struct cpuid_table *host, struct errmsg *why)
{
	cleanup_free struct cpuid_table *cpuid = malloc(sizeof(*cpuid));

	if (!cpuid)
		return err_set(why, ENOMEM, "vCPU %u: CPUID", id);
	int err = kvm_vcpu_create(vcpu, vm, id, why);
	if (err)
		return err;
	cpuid_for_vcpu(cpuid, host, id, cpus, vm->tsc_deadline);
	err = kvm_vcpu_set_cpuid(vcpu, cpuid, why);
	return err ? err : kvm_vcpu_set_signal(vcpu, VCPU_SIGNAL, why);
}

int vcpu_create(struct vcpu *vcpu, struct vmm *m, unsigned id, const struct cpuid_table *host,
		struct errmsg *why)
{
	vcpu->m = m;
	vcpu->id = id;
	return vcpu_make(&vcpu->kvm, &m->kvm, id, m->cpus, host, why);
}

static void count(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED); /* one writer */
}

static void exit_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->kvm.run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	count(&vcpu->exits_io);
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(&vcpu->m->port_bus, run->io.port, data, run->io.size);
		else
			bus_read(&vcpu->m->port_bus, run->io.port, data, run->io.size);
	}
	vcpu->unfinished = true;
}

static void exit_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->kvm.run;

	count(&vcpu->exits_mmio);
	if (run->mmio.is_write)
		bus_write(&vcpu->m->mmio_bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		bus_read(&vcpu->m->mmio_bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	vcpu->unfinished = true;
}

static void exit_system_event(struct vcpu *vcpu)
{
	uint32_t type = vcpu->kvm.run->system_event.type;

	if (type == KVM_SYSTEM_EVENT_CRASH)
		machine_end(vcpu->m, VMM_EXIT_GUEST_FAULT, "the guest reported a crash");
	else
		machine_end(vcpu->m, VMM_EXIT_RESET, "the guest asked for a system event %u", type);
}

/* The instruction at which KVM gave up, as far as it says. */
static void exit_internal_error(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->kvm.run;
	struct kvm_regs regs = {0};

	kvm_vcpu_get_regs(&vcpu->kvm, &regs, NULL);
	machine_end(vcpu->m, VMM_EXIT_GUEST_FAULT,
		    "vCPU %u: KVM could not carry out the instruction at 0x%llx (internal error, "
		    "suberror %u)%s",
		    vcpu->id, (unsigned long long)regs.rip, run->internal.suberror,
		    run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
			    ? "; see `spore doctor`: an interpreting KVM runs tiny guests only"
			    : "");
}

static void exit_other(struct vcpu *vcpu)
{
	struct vmm *m = vcpu->m;
	const struct kvm_run *run = vcpu->kvm.run;

	count(&vcpu->exits_other);
	switch (run->exit_reason) {
	case KVM_EXIT_IOAPIC_EOI: ioapic_eoi(m->ioapic, run->eoi.vector); break;
	case KVM_EXIT_SYSTEM_EVENT: exit_system_event(vcpu); break;
	case KVM_EXIT_INTERNAL_ERROR: exit_internal_error(vcpu); break;
	case KVM_EXIT_SHUTDOWN:
		machine_end(m, VMM_EXIT_TRIPLE_FAULT, "vCPU %u: triple fault", vcpu->id);
		break;
	case KVM_EXIT_HLT: /* not with the APIC in the kernel; harmless */
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_INTR: break;
	case KVM_EXIT_FAIL_ENTRY:
		machine_end(m, VMM_EXIT_ERROR,
			    "vCPU %u: KVM cannot enter the guest (reason 0x%llx)", vcpu->id,
			    (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		machine_end(m, VMM_EXIT_ERROR, "vCPU %u: KVM exit %u is not known", vcpu->id,
			    run->exit_reason);
		break;
	}
}

static void vcpu_answer(struct vcpu *vcpu)
{
	switch (vcpu->kvm.run->exit_reason) {
	case KVM_EXIT_IO: exit_io(vcpu); break;
	case KVM_EXIT_MMIO: exit_mmio(vcpu); break;
	default: exit_other(vcpu); break;
	}
}

/*
 * The answer to a port or MMIO read reaches the guest's registers at the next KVM_RUN: before the state
 * is looked at, one entry with immediate_exit lets KVM finish the instruction without running the guest.
 */
static void vcpu_finish(struct vcpu *vcpu)
{
	if (!vcpu->unfinished)
		return;
	vcpu->kvm.run->immediate_exit = 1;
	int err = kvm_vcpu_run(&vcpu->kvm);
	vcpu->kvm.run->immediate_exit = 0;
	vcpu->unfinished = false;
	if (err == 0) /* a string instruction goes on with another exit: answer that one too */
		vcpu_answer(vcpu);
}

static void vcpu_take_kicks(void)
{
	const struct timespec now = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, VCPU_SIGNAL);
	while (sigtimedwait(&set, NULL, &now) > 0)
		;
}

/* Return: false when KVM_RUN failed for good. */
static bool vcpu_enter(struct vcpu *vcpu)
{
	int err = kvm_vcpu_run(&vcpu->kvm);

	vcpu->unfinished = false;
	if (err == 0) {
		vcpu_answer(vcpu);
		return true;
	}
	if (err == -EINTR) {
		vcpu_take_kicks();
		return true;
	}
	if (err == -EAGAIN)
		return true;
	machine_end(vcpu->m, VMM_EXIT_ERROR, "vCPU %u: KVM_RUN: %s", vcpu->id, strerror(-err));
	return false;
}

static void vcpu_loop(struct vcpu *vcpu)
{
	struct vmm *m = vcpu->m;

	for (;;) {
		if (machine_want(m) != WANT_RUNNING) {
			while (vcpu->unfinished)
				vcpu_finish(vcpu);
			if (!machine_park(m))
				return;
			continue;
		}
		if (!vcpu_enter(vcpu))
			return;
	}
}

/* The boot CPU's first entry is stamped on both sides. */
static void vcpu_first_run(struct vcpu *vcpu)
{
	struct vmm *m = vcpu->m;

	if (vcpu->id != 0 || !machine_park(m))
		return;
	machine_stamp(m, &m->timings.first_run);
	vcpu_enter(vcpu);
	machine_stamp(m, &m->timings.first_exit);
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	struct errmsg why;
	char name[16];

	snprintf(name, sizeof(name), "fc_vcpu %u", vcpu->id % VMM_CPUS_MAX);
	pthread_setname_np(pthread_self(), name);
	if (machine_confine(vcpu->m, SANDBOX_VCPU, &why))
		machine_end(vcpu->m, VMM_EXIT_ERROR, "vCPU %u: %s", vcpu->id, why.text);
	vcpu_first_run(vcpu);
	vcpu_loop(vcpu);
	machine_gone(vcpu->m);
	return NULL;
}

int vcpu_start(struct vcpu *vcpu, struct errmsg *why)
{
	sigset_t all, old;

	/* The thread inherits this mask: no signal of the caller's is ever taken by a vCPU. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&vcpu->thread, NULL, vcpu_main, vcpu);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return err_set(why, err, "vCPU %u: thread", vcpu->id);
	__atomic_store_n(&vcpu->started, true, __ATOMIC_RELEASE); /* thread is set before */
	return 0;
}

void vcpu_kick(struct vcpu *vcpu)
{
	if (__atomic_load_n(&vcpu->started, __ATOMIC_ACQUIRE))
		pthread_kill(vcpu->thread, VCPU_SIGNAL);
}
