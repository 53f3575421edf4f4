/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that starts a guest: VM, split irqchip, one slot, one vCPU, `out` to the serial port, hello.
 * No devices, no threads, no tables, no checks: what KVM itself costs on this machine, measured from outside
 * in the same way as the VMMs (race.c).  The guest runs in real mode at address 0x1000.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY (128ul << 20)
#define ENTRY  0x1000u

/* mov $0x3f8, %dx; mov $'h', %al; out %al, (%dx); hlt */
static const uint8_t code[] = {0xba, 0xf8, 0x03, 0xb0, 'h', 0xee, 0xf4};

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int set_state(int vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = ENTRY, .rflags = 2};

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return -1;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs) ? -1 : 0;
}

static int run(int vcpu, const struct kvm_run *page)
{
	if (ioctl(vcpu, KVM_RUN, 0))
		return fail("KVM_RUN");
	if (page->exit_reason != KVM_EXIT_IO || page->io.port != 0x3f8) {
		fprintf(stderr, "kvm floor: exit %u\n", page->exit_reason);
		return 1;
	}
	return write(STDOUT_FILENO, "hello\n", 6) != 6;
}

int main(void)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int size = ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	int vm = ioctl(dev, KVM_CREATE_VM, 0);

	if (vm < 0 || size < 0 || ioctl(vm, KVM_ENABLE_CAP, &split))
		return fail("KVM_CREATE_VM");
	uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct kvm_userspace_memory_region slot = {.memory_size = MEMORY,
						   .userspace_addr = (uintptr_t)memory};
	if (memory == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return fail("KVM_SET_USER_MEMORY_REGION");
	memcpy(memory + ENTRY, code, sizeof(code));

	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		return fail("KVM_CREATE_VCPU");
	struct kvm_run *page =
		mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (page == MAP_FAILED || set_state(vcpu))
		return fail("KVM_SET_REGS");
	return run(vcpu, page);
}
