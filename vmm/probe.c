/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is this KVM one that runs Linux?  Opening the device does not tell: some modules interpret CPL 0 and
 * leave SYSCALL at CPL 3.  So tiny guests decide, in long mode, with 2 MiB of memory each:
 *
 *   loop     a counted loop at CPL 0, then OUT of its counter
 *   syscall  starts at CPL 3, executes SYSCALL; the handler sends its CPL out of a port.  Where SYSCALL
 *            does not raise the privilege, the OUT faults and the guest ends in a triple fault.
 *
 * Each run is bounded by a timer of its own thread's clock: KVM_RUN of the probe cannot hang the caller.
 */
#include "vmm/libvmm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/kvm.h"

#define PROBE_MEM         0x200000u
#define PROBE_PML4        0x1000u
#define PROBE_PDPT        0x2000u
#define PROBE_PD          0x3000u
#define PROBE_GDT         0x4000u
#define PROBE_TSS         0x5000u
#define PROBE_HANDLER     0x8000u
#define PROBE_CODE        0x9000u
#define PROBE_STACK       0xb000u
#define PROBE_PORT        0xf4u
#define PROBE_LOOP_ROUNDS 500000u /* two instructions each */
#define PROBE_LIMIT_NS    (10 * NS_PER_SEC)
#define PROBE_SIGNAL      (SIGRTMIN + 1)

#define MSR_STAR   0xc0000081u
#define MSR_LSTAR  0xc0000082u
#define MSR_SFMASK 0xc0000084u

/* mov $rounds, %ecx; 1: dec %ecx; jnz 1b; mov $0x5a, %al; out %al, $0xf4; hlt */
static const uint8_t loop_code[] = {
	0xb9,
	PROBE_LOOP_ROUNDS & 0xff,
	PROBE_LOOP_ROUNDS >> 8 & 0xff,
	PROBE_LOOP_ROUNDS >> 16,
	0,
	0xff,
	0xc9,
	0x75,
	0xfc,
	0xb0,
	0x5a,
	0xe6,
	PROBE_PORT,
	0xf4,
};
#define LOOP_ANSWER 0x5au
/* syscall; hlt */
static const uint8_t user_code[] = {0x0f, 0x05, 0xf4};
/* mov %cs, %eax; out %al, $0xf4; hlt: %al is the selector, its low two bits the CPL */
static const uint8_t handler_code[] = {0x8c, 0xc8, 0xe6, PROBE_PORT, 0xf4};

/* Selectors: 0x08 kernel code, 0x10 kernel data, 0x18 (base for SYSRET), 0x20 user data, 0x28 user code. */
#define SEL_KERNEL_CODE 0x08u
#define SEL_KERNEL_DATA 0x10u
#define SEL_USER_DATA   0x23u
#define SEL_USER_CODE   0x2bu
static const uint64_t gdt[] = {
	0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0x00cff3000000ffff, 0x00affb000000ffff,
};

struct probe_vm {
	struct kvm_vm vm;
	struct kvm_vcpu vcpu;
	uint8_t *mem;
};

enum probe_guest { PROBE_GUEST_LOOP, PROBE_GUEST_SYSCALL };

static void probe_load(uint8_t *mem)
{
	le64_store(mem + PROBE_PML4, PROBE_PDPT | 7);
	le64_store(mem + PROBE_PDPT, PROBE_PD | 7);
	le64_store(mem + PROBE_PD, 0x87); /* one 2 MiB page: present, writable, user */
	memcpy(mem + PROBE_GDT, gdt, sizeof(gdt));
	memcpy(mem + PROBE_CODE, loop_code, sizeof(loop_code));
	memcpy(mem + PROBE_CODE + 0x100, user_code, sizeof(user_code));
	memcpy(mem + PROBE_HANDLER, handler_code, sizeof(handler_code));
}

static struct kvm_segment probe_segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.dpl = selector & 3,
		.db = !code,
		.s = 1,
		.l = code,
		.g = 1,
	};
}

static int probe_set_state(struct probe_vm *p, enum probe_guest guest, struct errmsg *why)
{
	struct kvm_sregs sregs;
	bool user = guest == PROBE_GUEST_SYSCALL;
	struct kvm_regs regs = {
		.rip = user ? PROBE_CODE + 0x100 : PROBE_CODE, .rsp = PROBE_STACK, .rflags = 2};

	int err = kvm_vcpu_get_sregs(&p->vcpu, &sregs, why);
	if (err)
		return err;
	sregs.cs = probe_segment(user ? SEL_USER_CODE : SEL_KERNEL_CODE, 11, true);
	sregs.ds = probe_segment(user ? SEL_USER_DATA : SEL_KERNEL_DATA, 3, false);
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.tr = (struct kvm_segment){
		.base = PROBE_TSS, .limit = 0x67, .selector = 0x30, .type = 11, .present = 1};
	sregs.gdt.base = PROBE_GDT;
	sregs.gdt.limit = sizeof(gdt) - 1;
	sregs.cr3 = PROBE_PML4;
	sregs.cr4 = 1u << 5;                  /* PAE */
	sregs.cr0 = 0x80000001u | 1u << 16;   /* PG, PE, WP */
	sregs.efer = 1u | 1u << 8 | 1u << 10; /* SCE, LME, LMA */
	err = kvm_vcpu_set_sregs(&p->vcpu, &sregs, why);
	if (!err)
		err = kvm_vcpu_set_regs(&p->vcpu, &regs, why);
	if (!err)
		err = kvm_vcpu_set_msr(&p->vcpu, MSR_STAR,
				       (uint64_t)SEL_KERNEL_CODE << 32 | UINT64_C(0x1b) << 48,
				       false, why);
	if (!err)
		err = kvm_vcpu_set_msr(&p->vcpu, MSR_LSTAR, PROBE_HANDLER, false, why);
	return err ? err : kvm_vcpu_set_msr(&p->vcpu, MSR_SFMASK, 0, false, why);
}

static void probe_close(struct probe_vm *p)
{
	kvm_vcpu_destroy(&p->vcpu);
	kvm_vm_destroy(&p->vm);
	if (p->mem)
		munmap(p->mem, PROBE_MEM);
}

static int probe_open(struct probe_vm *p, int dev_fd, struct errmsg *why)
{
	*p = (struct probe_vm){.vm.fd = -1, .vcpu.fd = -1};
	void *mem =
		mmap(NULL, PROBE_MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return err_set(why, errno, "probe: memory");
	p->mem = mem;
	probe_load(p->mem);
	int err = kvm_vm_create(&p->vm, dev_fd, why);
	if (!err)
		err = kvm_vm_set_slot(&p->vm, 0, gpa(0), p->mem, PROBE_MEM, false, why);
	if (!err)
		err = kvm_vcpu_create(&p->vcpu, &p->vm, 0, why);
	struct cpuid_table *cpuid = err ? NULL : malloc(sizeof(*cpuid));
	if (!err && !cpuid)
		err = err_set(why, ENOMEM, "probe: CPUID");
	if (!err)
		err = kvm_supported_cpuid(dev_fd, cpuid, why);
	if (!err)
		err = kvm_vcpu_set_cpuid(&p->vcpu, cpuid, why);
	free(cpuid);
	return err;
}

/* A timer that signals this thread while KVM_RUN has the signal unblocked: -EINTR when time is up. */
static int probe_arm(timer_t *timer, const sigset_t *set, sigset_t *old, struct errmsg *why)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = PROBE_SIGNAL};
	struct itimerspec limit = {.it_value.tv_sec = PROBE_LIMIT_NS / NS_PER_SEC};

	event._sigev_un._tid = gettid();
	pthread_sigmask(SIG_BLOCK, set, old);
	if (timer_create(CLOCK_MONOTONIC, &event, timer)) {
		int err = err_set(why, errno, "probe: timer");
		pthread_sigmask(SIG_SETMASK, old, NULL);
		return err;
	}
	timer_settime(*timer, 0, &limit, NULL);
	return 0;
}

static void probe_disarm(timer_t timer, const sigset_t *set, const sigset_t *old)
{
	const struct timespec now = {0};

	timer_delete(timer);
	while (sigtimedwait(set, NULL, &now) > 0)
		;
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

/* Return: the byte the guest sent out of the port; -1 it did something else, or ran out of time. */
static int probe_answer(struct probe_vm *p)
{
	const struct kvm_run *run = p->vcpu.run;

	if (kvm_vcpu_run(&p->vcpu) || run->exit_reason != KVM_EXIT_IO)
		return -1;
	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.port != PROBE_PORT || run->io.size != 1)
		return -1;
	return *((const uint8_t *)run + run->io.data_offset);
}

/* Return: the answer, -1 none, or -errno below -1 with a text. */
static int probe_run(int dev_fd, enum probe_guest guest, uint64_t *ns, struct errmsg *why)
{
	struct probe_vm p;
	sigset_t set, old;
	timer_t timer;
	int answer = -EIO;

	sigemptyset(&set);
	sigaddset(&set, PROBE_SIGNAL);
	int err = probe_open(&p, dev_fd, why);
	if (!err)
		err = probe_set_state(&p, guest, why);
	if (!err)
		err = kvm_vcpu_set_signal(&p.vcpu, PROBE_SIGNAL, why);
	if (!err)
		err = probe_arm(&timer, &set, &old, why);
	if (!err) {
		uint64_t begin = clock_now();
		answer = probe_answer(&p);
		*ns = clock_now() - begin;
		probe_disarm(timer, &set, &old);
	}
	probe_close(&p);
	return err ? err : answer;
}

static void probe_guests(int fd, enum vmm_probe_depth depth, struct vmm_probe *out)
{
	struct errmsg why = {.text = ""};
	uint64_t ns;

	int answer = probe_run(fd, PROBE_GUEST_SYSCALL, &ns, &why);
	out->syscall_works = answer == SEL_KERNEL_CODE;
	out->runs_guest = out->syscall_works;
	if (answer < -1) {
		snprintf(out->text, sizeof(out->text), "%s", why.text);
		return;
	}
	if (depth == VMM_PROBE_FULL || !out->syscall_works) {
		answer = probe_run(fd, PROBE_GUEST_LOOP, &out->cpl0_ns, &why);
		out->runs_guest = answer == LOOP_ANSWER;
		out->cpl0_instructions = 2 * PROBE_LOOP_ROUNDS;
	}
	out->usable = out->syscall_works && out->runs_guest;
	snprintf(out->text, sizeof(out->text), "%s",
		 out->usable       ? "runs Linux guests"
		 : out->runs_guest ? "runs tiny guests only: SYSCALL does not enter CPL 0, so no "
				     "Linux guest can run"
				   : "a tiny guest of a few instructions did not finish");
}

void vmm_probe(const char *path, enum vmm_probe_depth depth, struct vmm_probe *out)
{
	*out = (struct vmm_probe){.api_version = -1};
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);

	out->permission_denied = fd < 0 && (errno == EACCES || errno == EPERM);
	if (fd < 0) {
		snprintf(out->text, sizeof(out->text), "cannot open %s: %s", path, strerror(errno));
		return;
	}
	out->opens = true;
	probe_guests(fd, depth, out);
}
