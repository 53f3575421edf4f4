/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is loaded into vCPUs, without KVM: the bytes of tests/golden/cpu-v1.bin (GOLDEN_WRITE=1 writes them), each
 * field's lies, and hosts on which a state may not go on.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/unit/cpu_fixture.h"
#include "vmm/cpuid.h"

#define GOLDEN "tests/golden/cpu-v1.bin"

struct fix {
	struct fix_host host;
	struct snap_out out;
	struct snap_machine *machine; /* in out, before it is finished */
	struct snap_vcpu *vcpu;
	uint8_t *xsave;
	struct snap_list *cpuid, *msrs;
	struct snap_cpuid *leaf;
	struct snap_msr *msr;
	struct errmsg why;
};

static void fix_init(struct fix *f)
{
	uint32_t at_machine = sizeof(struct snap_state_head);

	fix_host_init(&f->host);
	assert_int_equal(snap_out_init(&f->out), 0);
	fix_put_machine(&f->out);
	uint8_t *vcpu = f->out.buf + f->out.len;
	fix_put_vcpu(&f->out);
	f->machine = (void *)(f->out.buf + at_machine);
	f->vcpu = (void *)vcpu;
	f->xsave = vcpu + sizeof(*f->vcpu);
	f->cpuid = (void *)(f->xsave + FIX_XSAVE);
	f->leaf = (void *)(f->cpuid + 1);
	f->msrs = (void *)(f->leaf + ARRAY_LEN(fix_cpuid));
	f->msr = (void *)(f->msrs + 1);
}

static void fix_free(struct fix *f)
{
	snap_out_free(&f->out);
	fix_host_free(&f->host);
}

/* The whole check, as a loader makes it. */
static int check_in(struct fix *f, const struct snap_in *in, struct vm_load *load)
{
	const struct vm_shape shape = fix_shape();

	int err = machine_check_vm(&f->host.vm, &f->host.vcpu, &shape, VM_CLOCK_STOOD, in, load,
				   &f->why);
	return err ? err : vcpu_check(&f->host.vm, &f->host.vcpu, load, in, &f->why);
}

static int check(struct fix *f)
{
	struct snap_in in;
	struct vm_load load;

	assert_int_equal(snap_out_finish(&f->out, &f->why), 0);
	assert_int_equal(snap_in_open(&in, f->out.buf, f->out.len, &f->why), 0);
	return check_in(f, &in, &load);
}

static void cpu_state__version_1__bytes_are_the_golden_ones(void **state)
{
	(void)state;
	static _Alignas(8) uint8_t golden[65536];
	struct fix f;
	struct snap_in in;
	struct vm_load load;

	fix_init(&f);
	assert_int_equal(check(&f), 0);
	if (getenv("GOLDEN_WRITE")) {
		FILE *out = fopen(GOLDEN, "we");
		assert_non_null(out);
		assert_int_equal(fwrite(f.out.buf, 1, f.out.len, out), f.out.len);
		fclose(out);
	}
	FILE *file = fopen(GOLDEN, "re");
	assert_non_null(file);
	size_t len = fread(golden, 1, sizeof(golden), file);
	fclose(file);
	assert_int_equal(len, f.out.len);
	assert_memory_equal(golden, f.out.buf, len);
	assert_int_equal(snap_in_open(&in, golden, len, &f.why), 0);
	assert_int_equal(check_in(&f, &in, &load), 0);
	assert_int_equal(load.saved.clock_ns, 1234567890);
	assert_int_equal(load.saved.cpus, 1);
	fix_free(&f);
}

/* One change, and what it must come to. */
#define REFUSED(errno_, change)                            \
	do {                                               \
		struct fix f;                              \
		fix_init(&f);                              \
		change;                                    \
		int err_ = check(&f);                      \
		if (err_ != -(errno_))                     \
			fail_msg("%s: %d", #change, err_); \
		assert_true(f.why.text[0]);                \
		fix_free(&f);                              \
	} while (0)

static void cpu_state__lies_about_the_machine__refused(void **state)
{
	(void)state;
	REFUSED(EBADMSG, f.machine->layout = 2);
	REFUSED(EBADMSG, f.machine->flags |= 4);
	REFUSED(EBADMSG, f.machine->rsvd[3] = 1);
	REFUSED(EBADMSG, f.machine->clock_ns = UINT64_MAX);
	REFUSED(EBADMSG, f.machine->realtime_ns = UINT64_MAX);
	REFUSED(EBADMSG, f.machine->host_tsc_khz = 0);
	REFUSED(EBADMSG, f.machine->cpuid_hash ^= 1);
	REFUSED(EINVAL, f.machine->cpus = 2);
	REFUSED(EINVAL, f.machine->mem_bytes += 4096);
	REFUSED(EINVAL, f.machine->flags |= SNAP_MACHINE_BOOT_TIMER);
	REFUSED(EXDEV, f.machine->cpu_vendor[0] = '\033');
	REFUSED(EXDEV, f.machine->cpu_signature ^= 0x10);
}

static void cpu_state__lies_about_registers__refused(void **state)
{
	(void)state;
	REFUSED(EBADMSG, f.vcpu->mp_state = 5);
	REFUSED(EBADMSG, f.vcpu->tsc_khz = 0);
	REFUSED(EBADMSG, f.vcpu->tsc_khz = UINT32_MAX);
	REFUSED(EBADMSG, f.vcpu->xcr0 = 6);
	REFUSED(EBADMSG, f.vcpu->dr6 |= UINT64_C(1) << 32);
	REFUSED(EBADMSG, f.vcpu->dr7 |= UINT64_C(1) << 63);
	REFUSED(EBADMSG, f.vcpu->sregs.flags = 2);
	REFUSED(EBADMSG, f.vcpu->sregs.tr.rsvd = 1);
	REFUSED(EBADMSG, f.vcpu->sregs.ldt.type = 16);
	REFUSED(EBADMSG, f.vcpu->sregs.cs.dpl = 4);
	REFUSED(EBADMSG, f.vcpu->sregs.ss.unusable = 2);
	REFUSED(EBADMSG, f.vcpu->sregs.idt.rsvd[2] = 1);
	REFUSED(EBADMSG, f.vcpu->events.flags = 0x40);
	REFUSED(EBADMSG, f.vcpu->events.exception_nr = 32);
	REFUSED(EBADMSG, f.vcpu->events.nmi_masked = 2);
	REFUSED(EBADMSG, f.vcpu->events.interrupt_shadow = 4);
	REFUSED(EBADMSG, f.vcpu->events.smi_smm = 1);
	REFUSED(EBADMSG, f.vcpu->events.sipi_vector = 256);
	REFUSED(EBADMSG, f.vcpu->events.rsvd1[25] = 1);
	REFUSED(EBADMSG, f.vcpu->rsvd = 1);
	REFUSED(EBADMSG, f.vcpu->xsave_len = FIX_XSAVE + 8);
	REFUSED(EBADMSG, f.vcpu->xsave_len = UINT32_MAX);
	REFUSED(EBADMSG, f.xsave[26] = 1);
	REFUSED(EBADMSG, f.xsave[527] = 0x80);
	REFUSED(EBADMSG, f.xsave[575] = 1);
}

static void cpu_state__lies_about_lists__refused(void **state)
{
	(void)state;
	REFUSED(EBADMSG, f.cpuid->count = SNAP_CPUID_MAX + 1);
	REFUSED(EBADMSG, f.cpuid->count--);
	REFUSED(EBADMSG, f.cpuid->rsvd = 1);
	REFUSED(EBADMSG, f.msrs->count = UINT32_MAX);
	REFUSED(EBADMSG, f.msrs->count--);
	REFUSED(EBADMSG, f.msr[0].rsvd = 1);
	REFUSED(EBADMSG, f.msr[0].index = MSR_TSC);
	REFUSED(EBADMSG, f.msr[0].index = 0x9e);           /* SMBASE: not a guest's state */
	REFUSED(EBADMSG, f.msr[1].index = f.msr[0].index); /* twice */
	REFUSED(EBADMSG, f.msr[2].index = f.msr[0].index);
	REFUSED(EBADMSG, f.msr[2].index = MSR_TSC_DEADLINE);
	REFUSED(EXDEV, f.msr[1].index = 0x2ff); /* this host's KVM has it not */
}

/* A saved table that differs from the host's, with its own hash. */
static void sign_cpuid(struct fix *f)
{
	f->machine->cpuid_hash = fnv1a(f->leaf, f->cpuid->count * sizeof(*f->leaf));
}

static void cpu_state__foreign_processor__refused_by_name(void **state)
{
	(void)state;
	REFUSED(EXDEV, (f.leaf[0].ebx ^= 1, sign_cpuid(&f)));
	REFUSED(EXDEV, (f.leaf[1].eax ^= 0x100, sign_cpuid(&f)));
	REFUSED(EXDEV, (f.leaf[2].ebx |= 1u << 16, sign_cpuid(&f)));
	REFUSED(EXDEV, (f.leaf[4].ebx += 64, sign_cpuid(&f)));
	REFUSED(EXDEV, (f.leaf[5].eax += 1, sign_cpuid(&f)));
	REFUSED(EBADMSG, (f.leaf[5].rsvd[1] = 1, sign_cpuid(&f)));
	REFUSED(EXDEV, f.host.vm.state.xsave_size += 64);
	REFUSED(EXDEV, f.vcpu->tsc_khz += FIX_KHZ / 100);
	struct fix f;
	fix_init(&f);
	f.leaf[2].ebx |= 1u << 16;
	sign_cpuid(&f);
	assert_int_equal(check(&f), -EXDEV);
	assert_string_equal(f.why.text,
			    "vCPU 0: the guest uses processor features that this host lacks: CPUID "
			    "leaf 0x7.0, ebx, bits 0x10000: Invalid cross-device link");
	fix_free(&f);
}

static void cpu_state__lesser_processor_and_near_tsc__accepted(void **state)
{
	(void)state;
	struct fix f;

	fix_init(&f);
	f.leaf[2].ebx &= ~2u;                 /* the host has more */
	f.leaf[1].eax ^= 1;                   /* another stepping */
	f.vcpu->tsc_khz += FIX_KHZ / 1000000; /* a ppm away */
	sign_cpuid(&f);
	assert_int_equal(check(&f), 0);
	fix_free(&f);
	fix_init(&f);
	f.host.vm.state.tsc_control = true;
	f.vcpu->tsc_khz *= 2;
	assert_int_equal(check(&f), 0);
	fix_free(&f);
}

/* On a KVM that shows guests the host's TSC, a guest's may not go back. */
static void cpu_state__fixed_tsc__only_forward(void **state)
{
	(void)state;
	REFUSED(EXDEV, (f.host.vm.state.tsc_fixed = true, f.vcpu->tsc = UINT64_MAX));
	struct fix f;
	fix_init(&f);
	f.host.vm.state.tsc_fixed = true;
	f.vcpu->tsc = 1;
	assert_int_equal(check(&f), 0);
	fix_free(&f);
}

/* Every byte of both sections, in two ways: refused or taken, nothing else. */
static void cpu_state__every_byte_changed__refused_or_harmless(void **state)
{
	(void)state;
	struct fix f;
	unsigned refused = 0;

	fix_init(&f);
	uint8_t *from = f.out.buf + sizeof(struct snap_state_head), *to = f.out.buf + f.out.len;
	assert_int_equal(snap_out_finish(&f.out, &f.why), 0);
	const struct snap_in in = {.blob = f.out.buf, .table = (const void *)to, .count = 2};
	for (uint8_t *p = from; p < to; p++) {
		const uint8_t old = *p;
		for (unsigned bit = 0; bit < 8; bit += 7) {
			struct vm_load load;
			*p = old ^ (uint8_t)(1u << bit);
			int err = check_in(&f, &in, &load);
			assert_true(err == 0 || err == -EBADMSG || err == -EXDEV || err == -EINVAL);
			refused += err != 0;
		}
		*p = old;
	}
	assert_true(refused > 500);
	fix_free(&f);
}

static void cpu_state__every_length__refused(void **state)
{
	(void)state;
	struct fix f;

	fix_init(&f);
	size_t len = f.out.section[1].len;
	uint8_t *end = f.out.buf + f.out.len;
	assert_int_equal(snap_out_finish(&f.out, &f.why), 0);
	struct snap_section table[2];
	memcpy(table, end, sizeof(table));
	const struct snap_in in = {.blob = f.out.buf, .table = table, .count = 2};
	for (table[1].len = 0; table[1].len < len; table[1].len++) {
		struct vm_load load;
		assert_int_equal(check_in(&f, &in, &load), -EBADMSG);
	}
	table[1].version++;
	struct vm_load load;
	assert_int_equal(check_in(&f, &in, &load), -EBADMSG);
	table[1].tag = SNAP_SERIAL;
	assert_int_equal(check_in(&f, &in, &load), -EBADMSG);
	fix_free(&f);
}

/* KVM's arithmetic: the ratio of the frequencies in 16.48 on Intel, 8.32 on AMD, cut, then multiplied. */
static void tsc__arithmetic__as_kvm_does(void **state)
{
	(void)state;
	struct fix_host h;
	const uint64_t host = UINT64_C(123456789012345);

	fix_host_init(&h);
	struct vm_load load = {.saved = {.host_tsc = 1000, .realtime_ns = 5000000},
			       .host_tsc = 1000 + 4 * UINT64_C(2100000),
			       .realtime_ns = 5000000 + 3000000};
	assert_int_equal(tsc_scaled(&h.vm, &h.vcpu, FIX_KHZ, host), host);
	assert_int_equal(tsc_scaled(&h.vm, &h.vcpu, FIX_KHZ + 100, host), host); /* 48 ppm */
	assert_true(tsc_needs_scaling(&h.vm, FIX_KHZ + 526));
	assert_false(tsc_needs_scaling(&h.vm, FIX_KHZ - 525));
	assert_int_equal(tsc_scaled(&h.vm, &h.vcpu, FIX_KHZ * 2, host), host * 2);
	/* 3/2.1 cut at 48 bits: 0x16db6db6db6db */
	__extension__ typedef unsigned __int128 wide;
	assert_int_equal(tsc_scaled(&h.vm, &h.vcpu, 3000000, host),
			 (uint64_t)((wide)host * UINT64_C(0x16db6db6db6db) >> 48));
	h.vcpu.cpuid->entry[0].ebx ^= 1; /* not Intel */
	assert_int_equal(tsc_scaled(&h.vm, &h.vcpu, 3000000, host),
			 (uint64_t)((wide)host * UINT64_C(0x16db6db6d) >> 32));
	load.clock = VM_CLOCK_STOOD;
	assert_int_equal(tsc_passed(&h.vm, &h.vcpu, &load, FIX_KHZ), 0);
	load.clock = VM_CLOCK_PASSED;
	assert_int_equal(tsc_passed(&h.vm, &h.vcpu, &load, FIX_KHZ), 3 * 2100000);
	load.clock = VM_CLOCK_RUNNING;
	assert_int_equal(tsc_passed(&h.vm, &h.vcpu, &load, FIX_KHZ), 4 * 2100000);
	load.clock = VM_CLOCK_PASSED;
	load.realtime_ns = 1; /* the wall clock was put back */
	assert_int_equal(tsc_passed(&h.vm, &h.vcpu, &load, FIX_KHZ), 0);
	fix_host_free(&h);
}

/* No feature whose state is not saved is offered. */
static void cpuid__stateless_features__masked(void **state)
{
	(void)state;
	static struct cpuid_table host = {
		.nent = 5,
		.entry = {{.function = 1, .ecx = UINT32_MAX, .edx = UINT32_MAX},
			  {.function = 7, .ebx = UINT32_MAX, .ecx = UINT32_MAX, .edx = UINT32_MAX},
			  {.function = 0xa, .eax = 0x07300802, .edx = 0x603},
			  {.function = 0x40000001, .eax = UINT32_MAX},
			  {.function = 0x80000001, .ecx = UINT32_MAX}},
	};
	static struct cpuid_table guest;

	cpuid_for_vcpu(&guest, &host, 0, 1, true);
	assert_int_equal(guest.entry[0].ecx & (1u << 5 | 1u << 15), 0); /* VMX, PDCM */
	assert_int_equal(guest.entry[0].ecx & 1u << 26, 1u << 26);      /* XSAVE stays */
	assert_int_equal(guest.entry[1].ecx & 1u << 7, 0);              /* shadow stacks */
	assert_int_equal(guest.entry[1].edx & 1u << 20, 0);             /* IBT */
	assert_int_equal(guest.entry[2].eax | guest.entry[2].edx, 0);   /* counters */
	assert_int_equal(guest.entry[3].eax & (1u << 4 | 1u << 10 | 1u << 14), 0);
	assert_int_equal(guest.entry[4].ecx & 1u << 2, 0); /* SVM */
}

static void msr__order_and_membership(void **state)
{
	(void)state;
	assert_true(msr_order(0x10, 0x174) < 0);
	assert_true(msr_order(MSR_TSC_DEADLINE, 0xc0000102) > 0);
	assert_int_equal(msr_order(MSR_TSC_DEADLINE, MSR_TSC_DEADLINE), 0);
	assert_false(msr_is_state(MSR_TSC));
	assert_false(msr_is_state(0x8b)); /* microcode */
	for (unsigned i = 0; msr_unlisted(i); i++)
		assert_true(msr_is_state(msr_unlisted(i)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cpu_state__version_1__bytes_are_the_golden_ones),
		cmocka_unit_test(cpu_state__lies_about_the_machine__refused),
		cmocka_unit_test(cpu_state__lies_about_registers__refused),
		cmocka_unit_test(cpu_state__lies_about_lists__refused),
		cmocka_unit_test(cpu_state__foreign_processor__refused_by_name),
		cmocka_unit_test(cpu_state__lesser_processor_and_near_tsc__accepted),
		cmocka_unit_test(cpu_state__fixed_tsc__only_forward),
		cmocka_unit_test(cpu_state__every_byte_changed__refused_or_harmless),
		cmocka_unit_test(cpu_state__every_length__refused),
		cmocka_unit_test(tsc__arithmetic__as_kvm_does),
		cmocka_unit_test(cpuid__stateless_features__masked),
		cmocka_unit_test(msr__order_and_membership),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
