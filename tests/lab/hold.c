/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold: keeps the lab's kernel from patching its own code while two CPUs run.
 *
 * Why.  A static key is a branch that the kernel patches when a counter leaves or reaches zero.
 * QEMU's TCG with a thread a CPU can show the other CPU the int3 of a patch that is long done,
 * and the lab dies ("Oops: int3").  The kernel cannot be told to stop patching, but a counter that
 * is held above zero from before the second CPU comes online is never patched again.
 *
 * What is held, each by an open fd, for the lab's whole life:
 *   a VM with a local APIC in the kernel  preempt notifiers, "some APIC is software-disabled"
 *   a vCPU whose APIC base is disabled    "some APIC is hardware-disabled"
 *   a VM without a local APIC             "some vCPU has no APIC"
 *   a socket with SO_TIMESTAMP            packet time stamps
 *   a network namespace                   keys of the network stack
 * Prints "held" and sleeps for ever.  A thing that this kernel lacks is reported and left out.
 *
 * Thread: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define IOAPIC_PINS 24

static void note(const char *what)
{
	fprintf(stderr, "hold: %s: %s\n", what, strerror(errno));
}

static int hold_vm_with_apic(int kvm)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IOAPIC_PINS}};
	struct kvm_sregs s;
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_ENABLE_CAP, &split) < 0)
		return -1;
	int enabled = ioctl(vm, KVM_CREATE_VCPU, 0), disabled = ioctl(vm, KVM_CREATE_VCPU, 1);
	if (enabled < 0 || disabled < 0 || ioctl(disabled, KVM_GET_SREGS, &s) < 0)
		return -1;
	s.apic_base &= ~(1ull << 11);
	return ioctl(disabled, KVM_SET_SREGS, &s);
}

static int hold_vm_without_apic(int kvm)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	return vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
}

static int hold_time_stamps(void)
{
	int one = 1, sock = socket(AF_INET, SOCK_DGRAM, 0);

	return setsockopt(sock, SOL_SOCKET, SO_TIMESTAMP, &one, sizeof(one));
}

static int hold_netns(void)
{
	int home = open("/proc/self/ns/net", O_RDONLY);

	if (home < 0 || unshare(CLONE_NEWNET) < 0 || open("/proc/self/ns/net", O_RDONLY) < 0)
		return -1;
	return setns(home, CLONE_NEWNET);
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);

	if (kvm < 0)
		note("/dev/kvm");
	if (hold_vm_with_apic(kvm) < 0)
		note("a VM with an APIC");
	if (hold_vm_without_apic(kvm) < 0)
		note("a VM without an APIC");
	if (hold_time_stamps() < 0)
		note("packet time stamps");
	if (hold_netns() < 0)
		note("a network namespace");
	puts("held");
	fflush(stdout);
	for (;;)
		pause();
}
