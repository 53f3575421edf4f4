/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vCPU's state costs: vcpu_save() and vcpu_load() beside the bare ioctls that they cannot do without,
 * and beside KVM_SYNC_REGS, which lets one KVM_RUN stand for three of them.  Needs /dev/kvm; runs no guest.
 *
 *     cpu_state [ROUNDS]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "snapshot/codec.h"
#include "vmm/cpuid.h"
#include "vmm/kvm_state.h"
#include "vmm/vcpu_state.h"
#include "wire/snap_cpu.h"

#define ROUNDS_MAX 100000u

struct bench {
	struct kvm_vm vm;
	struct kvm_vcpu vcpu;
	struct vm_instant at;
	struct vm_load load;
	struct snap_out out;
	struct snap_in in;
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_device_attr attr;
	uint64_t offset;
	uint8_t xsave[SNAP_XSAVE_MAX];
	struct {
		struct snap_list head;
		struct snap_msr msr[SNAP_MSR_MAX];
	} msrs;
};

static void must(int err, const struct errmsg *why)
{
	if (!err)
		return;
	fprintf(stderr, "cpu_state: %s\n", why->text);
	exit(1);
}

static void bench_init(struct bench *b)
{
	static struct cpuid_table host, cpuid;
	struct errmsg why;
	const struct vm_shape shape = {.cpus = 1};
	int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	must(kvm_vm_create(&b->vm, dev, &why), &why);
	must(kvm_supported_cpuid(dev, &host, &why), &why);
	must(kvm_vcpu_create(&b->vcpu, &b->vm, 0, &why), &why);
	cpuid_for_vcpu(&cpuid, &host, 0, 1, b->vm.tsc_deadline);
	must(kvm_vcpu_set_cpuid(&b->vcpu, &cpuid, &why), &why);
	uint64_t begin = clock_now();
	must(kvm_state_probe(&b->vm, &b->vcpu, &why), &why);
	printf("%-28s %8.1f us, %u MSRs, XSAVE area of %u bytes\n", "kvm_state_probe, once",
	       (double)(clock_now() - begin) / 1e3, b->vm.state.msr_count, b->vm.state.xsave_size);
	b->attr = (struct kvm_device_attr){.group = KVM_VCPU_TSC_CTRL,
					   .attr = KVM_VCPU_TSC_OFFSET,
					   .addr = (uintptr_t)&b->offset};
	b->msrs.head.count = b->vm.state.msr_count;
	for (unsigned i = 0; i < b->msrs.head.count; i++)
		b->msrs.msr[i].index = b->vm.state.msr[i];
	must(snap_out_init(&b->out), &why);
	must(machine_save_vm(&b->vm, &b->vcpu, &shape, &b->at, &b->out, &why), &why);
	must(vcpu_save(&b->vm, &b->vcpu, &b->at, &b->out, &why), &why);
	must(snap_out_finish(&b->out, &why), &why);
	static _Alignas(8) uint8_t blob[SNAP_STATE_MAX];
	memcpy(blob, b->out.buf, b->out.len);
	must(snap_in_open(&b->in, blob, b->out.len, &why), &why);
	must(machine_check_vm(&b->vm, &b->vcpu, &shape, VM_CLOCK_RUNNING, &b->in, &b->load, &why),
	     &why);
	machine_load_begin(&b->load);
}

/* --- what is timed -------------------------------------------------------------------------------- */

static void save(struct bench *b)
{
	snap_out_reset(&b->out);
	VERIFY(vcpu_save(&b->vm, &b->vcpu, &b->at, &b->out, NULL) == 0);
}

static void check(struct bench *b)
{
	VERIFY(vcpu_check(&b->vm, &b->vcpu, &b->load, &b->in, NULL) == 0);
}

static void load(struct bench *b)
{
	VERIFY(vcpu_load(&b->vm, &b->vcpu, &b->load, &b->in, NULL) == 0);
}

static void call(struct bench *b, unsigned long request, void *arg)
{
	VERIFY(ioctl(b->vcpu.fd, request, arg) >= 0);
}

static void get_middle(struct bench *b)
{
	call(b, KVM_GET_XSAVE2, b->xsave);
	call(b, KVM_GET_XCRS, &b->xcrs);
	call(b, KVM_GET_DEBUGREGS, &b->debug);
	if (!b->vm.state.tsc_fixed)
		call(b, KVM_GET_DEVICE_ATTR, &b->attr);
	call(b, KVM_GET_MSRS, &b->msrs);
	call(b, KVM_GET_LAPIC, &b->lapic);
}

static void bare_get(struct bench *b)
{
	call(b, KVM_GET_MP_STATE, &b->mp);
	call(b, KVM_GET_REGS, &b->regs);
	call(b, KVM_GET_SREGS2, &b->sregs);
	get_middle(b);
	call(b, KVM_GET_VCPU_EVENTS, &b->events);
}

/* REGS, SREGS and events by one entry that KVM leaves at once. */
static void synced_get(struct bench *b)
{
	struct kvm_run *run = b->vcpu.run;

	call(b, KVM_GET_MP_STATE, &b->mp);
	get_middle(b);
	run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	run->immediate_exit = 1;
	VERIFY(ioctl(b->vcpu.fd, KVM_RUN, 0) < 0);
	run->immediate_exit = 0;
	run->kvm_valid_regs = 0;
}

/* What every load needs of a vCPU that has its CPUID. */
static void bare_set(struct bench *b)
{
	call(b, KVM_SET_REGS, &b->regs);
	call(b, KVM_SET_SREGS2, &b->sregs);
	call(b, KVM_SET_XSAVE, b->xsave);
	call(b, KVM_SET_LAPIC, &b->lapic);
	if (!b->vm.state.tsc_fixed)
		call(b, KVM_SET_DEVICE_ATTR, &b->attr);
	call(b, KVM_SET_MSRS, &b->msrs);
}

static void get_regs(struct bench *b)
{
	call(b, KVM_GET_REGS, &b->regs);
}

static void get_msrs(struct bench *b)
{
	call(b, KVM_GET_MSRS, &b->msrs);
}

static void set_msrs(struct bench *b)
{
	call(b, KVM_SET_MSRS, &b->msrs);
}

static void get_clock(struct bench *b)
{
	struct kvm_clock_data clock;

	VERIFY(kvm_vm_get_clock(&b->vm, &clock, NULL) == 0);
}

static void set_clock(struct bench *b)
{
	VERIFY(machine_load_vm(&b->vm, &b->load, NULL) == 0);
}

/* --- timing --------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(struct bench *b);
} steps[] = {
	{"vcpu_save", save},
	{"bare ioctls, the same", bare_get},
	{"with KVM_SYNC_REGS", synced_get},
	{"vcpu_check", check},
	{"vcpu_load", load},
	{"bare ioctls, the same", bare_set},
	{"KVM_GET_REGS", get_regs},
	{"KVM_GET_MSRS", get_msrs},
	{"KVM_SET_MSRS", set_msrs},
	{"kvm_vm_get_clock", get_clock},
	{"machine_load_vm", set_clock},
};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static struct bench b;
	static uint64_t ns[ARRAY_LEN(steps)][ROUNDS_MAX];
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000;

	if (rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "cpu_state: 1 to %u rounds\n", ROUNDS_MAX);
		return 1;
	}
	bench_init(&b);
	for (unsigned long r = 0; r < rounds; r++) { /* interleaved */
		for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
			uint64_t begin = clock_now();
			steps[i].run(&b);
			ns[i][r] = clock_now() - begin;
		}
	}
	printf("%-28s %8s %8s us, %lu rounds\n", "", "p50", "p99", rounds);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		qsort(ns[i], rounds, sizeof(ns[i][0]), by_value);
		printf("%-28s %8.1f %8.1f\n", steps[i].name, (double)ns[i][rounds / 2] / 1e3,
		       (double)ns[i][rounds * 99 / 100] / 1e3);
	}
	return 0;
}
