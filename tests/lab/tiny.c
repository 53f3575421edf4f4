/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiny: the smallest proof that KVM works: a real-mode guest that computes 6 * 7, writes the
 * digits to a port, and halts.  Prints "tiny: the guest says 42".
 *
 * With a count it does so that many times with a VM made and closed each time, which is the load
 * that flips KVM's static keys in the kernel (tests/lab/soak, kernel of the lab).
 *
 * Thread: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_AT   0x1000
#define MEM_BYTES 0x2000
#define EXITS_MAX 16

/* mov $6,%al; mov $7,%bl; mul %bl; aam; or $0x3030,%ax; xchg %al,%ah; out %al,$0x42;
 * xchg %al,%ah; out %al,$0x42; hlt */
static const uint8_t code[] = {0xb0, 0x06, 0xb3, 0x07, 0xf6, 0xe3, 0xd4, 0x0a, 0x0d, 0x30,
			       0x30, 0x86, 0xe0, 0xe6, 0x42, 0x86, 0xe0, 0xe6, 0x42, 0xf4};

static void die(const char *what)
{
	fprintf(stderr, "tiny: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int ask(int fd, unsigned long request, unsigned long arg, const char *what)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		die(what);
	return r;
}

static void set_registers(int vcpu)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = CODE_AT, .rflags = 2};

	ask(vcpu, KVM_GET_SREGS, (unsigned long)&s, "KVM_GET_SREGS");
	s.cs.base = 0;
	s.cs.selector = 0;
	ask(vcpu, KVM_SET_SREGS, (unsigned long)&s, "KVM_SET_SREGS");
	ask(vcpu, KVM_SET_REGS, (unsigned long)&r, "KVM_SET_REGS");
}

/* Run until HLT; out: what the guest wrote to the port. */
static void run_guest(int vcpu, struct kvm_run *run, char text[EXITS_MAX])
{
	for (int n = 0; n < EXITS_MAX - 1;) {
		ask(vcpu, KVM_RUN, 0, "KVM_RUN");
		if (run->exit_reason == KVM_EXIT_HLT) {
			text[n] = 0;
			return;
		}
		if (run->exit_reason != KVM_EXIT_IO) {
			fprintf(stderr, "tiny: exit reason %u\n", run->exit_reason);
			exit(1);
		}
		text[n++] = *((char *)run + run->io.data_offset);
	}
	fprintf(stderr, "tiny: the guest does not halt\n");
	exit(1);
}

static void one_vm(int kvm, char text[EXITS_MAX])
{
	int vm = ask(kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
	void *mem =
		mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {.memory_size = MEM_BYTES,
						   .userspace_addr = (unsigned long)mem};
	size_t run_bytes = (size_t)ask(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");

	if (mem == MAP_FAILED)
		die("memory");
	memcpy((char *)mem + CODE_AT, code, sizeof(code));
	ask(vm, KVM_SET_USER_MEMORY_REGION, (unsigned long)&slot, "KVM_SET_USER_MEMORY_REGION");
	int vcpu = ask(vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU");
	struct kvm_run *run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("run page");
	set_registers(vcpu);
	run_guest(vcpu, run, text);
	munmap(run, run_bytes);
	munmap(mem, MEM_BYTES);
	close(vcpu);
	close(vm);
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	char text[EXITS_MAX] = "";

	if (kvm < 0)
		die("/dev/kvm");
	for (long i = 0; i < count; i++)
		one_vm(kvm, text);
	printf("tiny: the guest says %s\n", text);
	return strcmp(text, "42") != 0;
}
