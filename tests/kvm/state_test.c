/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's vCPUs go on in another VM of the same process: saved while paused, loaded into a VM that has never
 * run, whose memory is a copy.  The first goes on too.  The guest (guest/state.c) looks at itself.
 */
#include "tests/kvm/vm.h"

#include "base/cleanup.h"
#include "snapshot/codec.h"
#include "vmm/kvm_state.h"
#include "vmm/machine.h"
#include "vmm/vcpu_state.h"
#include "vmm/vm_state.h"
#include "wire/snap_cpu.h"

#define MEM_MIB     16u
#define LINE        51u /* bytes of the guest's first line: three numbers */
#define STACKS      0x800000u
#define STACK_BYTES 0x10000u

struct machine {
	struct vm vm;
	char cmdline[64];
	unsigned long long other, go, ready; /* addresses in the guest */
};

static struct vm_shape shape_of(const struct vmm *m)
{
	return (struct vm_shape){.cpus = m->cpus, .mem_bytes = m->ram.size};
}

static void must(int err, const char *what, const struct errmsg *why)
{
	if (err)
		fail_msg("%s: %s", what, why->text);
}

/* Made, not started. */
static void machine_make(struct machine *t, unsigned cpus, unsigned long long delay)
{
	struct vmm_config cfg = vm_config(&t->vm, "state");
	struct vmm_error why;

	snprintf(t->cmdline, sizeof(t->cmdline), "cpus=%u delay=%llu", cpus, delay);
	cfg.cpus = cpus;
	cfg.mem_mib = MEM_MIB;
	cfg.cmdline = t->cmdline;
	if (vmm_create(&t->vm.vmm, &cfg, &why))
		fail_msg("vmm_create: %s", why.text);
	close(cfg.kernel_fd);
	close(cfg.kvm_fd);
}

static uint64_t guest_word(struct machine *t, unsigned long long at)
{
	uint64_t v = 0;

	assert_int_equal(gm_read(&t->vm.vmm->gm, gpa(at), &v, sizeof(v)), 0);
	return v;
}

static void guest_goes(struct machine *t)
{
	const uint32_t one = 1;

	assert_int_equal(gm_write(&t->vm.vmm->gm, gpa(t->go), &one, sizeof(one)), 0);
}

/* As the guest would start them by INIT and SIPI: an interpreting KVM may know no real mode. */
static void start_others(struct machine *t)
{
	struct vmm *m = t->vm.vmm;
	struct kvm_sregs boot, sregs;
	struct errmsg why;

	must(kvm_vcpu_get_sregs(&m->vcpu[0].kvm, &boot, &why), "sregs", &why);
	for (unsigned i = 1; i < m->cpus; i++) {
		const struct kvm_regs regs = {.rip = t->other,
					      .rdi = i,
					      .rsp = STACKS + (i + 1) * STACK_BYTES - 8,
					      .rflags = 2};
		must(kvm_vcpu_get_sregs(&m->vcpu[i].kvm, &sregs, &why), "sregs", &why);
		uint64_t apic_base = sregs.apic_base;
		sregs = boot;
		sregs.apic_base = apic_base;
		must(kvm_vcpu_set_sregs(&m->vcpu[i].kvm, &sregs, &why), "sregs", &why);
		must(kvm_vcpu_set_regs(&m->vcpu[i].kvm, &regs, &why), "regs", &why);
		must(kvm_vcpu_set_mp_state(&m->vcpu[i].kvm, SNAP_MP_RUNNABLE, &why), "mp state",
		     &why);
	}
}

/* Runs until every processor spins with its patterns, then pauses. */
static void machine_spin(struct machine *t)
{
	struct vmm_error why;

	if (vmm_start(t->vm.vmm, &why))
		fail_msg("vmm_start: %s", why.text);
	vm_collect(&t->vm, LINE);
	assert_int_equal(sscanf(t->vm.text, "%llx %llx %llx", &t->other, &t->go, &t->ready), 3);
	assert_int_equal(vmm_pause(t->vm.vmm, &why), 0);
	start_others(t);
	assert_int_equal(vmm_resume(t->vm.vmm, &why), 0);
	while (guest_word(t, t->ready) != t->vm.vmm->cpus) {
		if (vmm_state(t->vm.vmm) == VMM_ENDED) {
			enum vmm_exit reason = vmm_exit_reason(t->vm.vmm, &why);
			fail_msg("ended with %d: %s", reason, why.text);
		}
		usleep(1000);
	}
	assert_int_equal(vmm_pause(t->vm.vmm, &why), 0);
}

static void save(struct vmm *m, struct snap_out *out)
{
	struct vm_instant at;
	struct errmsg why;
	const struct vm_shape shape = shape_of(m);

	assert_int_equal(snap_out_init(out), 0);
	must(machine_save_vm(&m->kvm, &m->vcpu[0].kvm, &shape, &at, out, &why), "save", &why);
	for (unsigned i = 0; i < m->cpus; i++)
		must(vcpu_save(&m->kvm, &m->vcpu[i].kvm, &at, out, &why), "save", &why);
	must(snap_out_finish(out, &why), "finish", &why);
}

static void open_state(struct snap_in *in, const struct snap_out *out)
{
	struct errmsg why;

	must(snap_in_open(in, out->buf, out->len, &why), "open", &why);
}

/* `between_s`: how long one vCPU is loaded after another. */
static struct vm_load load(struct vmm *m, const struct snap_in *in, enum vm_clock clock,
			   unsigned between_s)
{
	struct vm_load l;
	struct errmsg why;
	const struct vm_shape shape = shape_of(m);

	must(machine_check_vm(&m->kvm, &m->vcpu[0].kvm, &shape, clock, in, &l, &why), "check",
	     &why);
	for (unsigned i = 0; i < m->cpus; i++)
		must(vcpu_check(&m->kvm, &m->vcpu[i].kvm, &l, in, &why), "check", &why);
	machine_load_begin(&l);
	for (unsigned i = 0; i < m->cpus; i++) {
		must(vcpu_load(&m->kvm, &m->vcpu[i].kvm, &l, in, &why), "load", &why);
		sleep(i + 1 < m->cpus ? between_s : 0);
	}
	must(machine_load_vm(&m->kvm, &l, &why), "load", &why);
	return l;
}

static void copy_memory(struct vmm *to, const struct vmm *from)
{
	assert_int_equal(to->ram.size, from->ram.size);
	memcpy(to->ram.map, from->ram.map, from->ram.size);
}

static void vcpu_head(const struct snap_in *in, unsigned id, struct snap_vcpu *head, size_t *len)
{
	uint32_t version;
	const void *p = snap_find(in, SNAP_VCPU, id, &version, len);

	assert_non_null(p);
	memcpy(head, p, sizeof(*head));
}

/* What was loaded, saved again: every byte but the TSC. */
static void same_vcpus(const struct snap_in *a, const struct snap_in *b, unsigned cpus)
{
	for (unsigned i = 0; i < cpus; i++) {
		struct snap_vcpu x, y;
		size_t x_len, y_len;
		uint32_t version;
		vcpu_head(a, i, &x, &x_len);
		vcpu_head(b, i, &y, &y_len);
		x.tsc = y.tsc = 0;
		assert_int_equal(x_len, y_len);
		assert_memory_equal(&x, &y, sizeof(x));
		const uint8_t *p = snap_find(a, SNAP_VCPU, i, &version, &x_len);
		const uint8_t *q = snap_find(b, SNAP_VCPU, i, &version, &y_len);
		assert_memory_equal(p + sizeof(x), q + sizeof(y), x_len - sizeof(x));
	}
}

static uint64_t cycles_ns(uint64_t cycles, uint32_t khz)
{
	return (uint64_t)((double)cycles * 1e6 / khz);
}

#define CLOCK_SLACK_NS \
	UINT64_C(1000000) /* kvmclock and TSC need not agree on the length of a second */

/* kvmclock passed no more than it may, and no less where that does not depend on how long our calls took. */
static void clock_as_wanted(const struct vm_load *l, enum vm_clock clock, const struct snap_in *b)
{
	struct snap_machine now;
	struct errmsg why;

	must(snap_take(b, SNAP_MACHINE, 1, 0, &now, sizeof(now), &why), "take", &why);
	uint64_t since = clock == VM_CLOCK_STOOD ? l->host_tsc : l->saved.host_tsc;
	uint64_t passed = now.clock_ns - l->saved.clock_ns;
	assert_true(now.clock_ns >= l->saved.clock_ns);
	assert_true(clock == VM_CLOCK_PASSED ||
		    passed <= cycles_ns(now.host_tsc - since, now.host_tsc_khz) + CLOCK_SLACK_NS);
	uint64_t before = cycles_ns(l->host_tsc - l->saved.host_tsc, now.host_tsc_khz);
	assert_true(clock != VM_CLOCK_RUNNING || passed + CLOCK_SLACK_NS >= before);
}

/* Each TSC to the cycle where the policy wants it. */
static void tscs_as_wanted(const struct vm_load *l, const struct snap_in *a,
			   const struct snap_in *b, unsigned cpus)
{
	struct snap_machine then, now;
	struct errmsg why;

	must(snap_take(a, SNAP_MACHINE, 1, 0, &then, sizeof(then), &why), "take", &why);
	must(snap_take(b, SNAP_MACHINE, 1, 0, &now, sizeof(now), &why), "take", &why);
	for (unsigned i = 0; i < cpus; i++) {
		struct snap_vcpu x, y;
		size_t len;
		vcpu_head(a, i, &x, &len);
		vcpu_head(b, i, &y, &len);
		if (l->clock == VM_CLOCK_RUNNING)
			assert_int_equal(y.tsc - x.tsc, now.host_tsc - then.host_tsc);
		if (l->clock == VM_CLOCK_STOOD)
			assert_int_equal(y.tsc - x.tsc, now.host_tsc - l->host_tsc);
		if (l->clock == VM_CLOCK_PASSED)
			assert_true(y.tsc - x.tsc >= now.host_tsc - l->host_tsc);
	}
}

static void machine_says_good(struct machine *t)
{
	struct vmm_error text;

	vm_collect(&t->vm, 0);
	enum vmm_exit reason = vm_finish(&t->vm, &text);
	if (reason != VMM_EXIT_RESET || !strstr(t->vm.text, "good\n"))
		fail_msg("exit %d (%s), says: %s", reason, text.text, t->vm.text);
}

static void go_on_in_another(unsigned cpus, unsigned long long delay, enum vm_clock clock,
			     unsigned between_s)
{
	struct machine a, b;
	struct snap_out out, again;
	struct snap_in in, in_again;
	struct vmm_error why;

	machine_make(&a, cpus, delay);
	machine_spin(&a);
	save(a.vm.vmm, &out);
	open_state(&in, &out);
	machine_make(&b, cpus, delay);
	copy_memory(b.vm.vmm, a.vm.vmm);
	b.go = a.go;
	struct vm_load l = load(b.vm.vmm, &in, clock, between_s);
	save(b.vm.vmm, &again);
	open_state(&in_again, &again);
	same_vcpus(&in, &in_again, cpus);
	clock_as_wanted(&l, clock, &in_again);
	if (b.vm.vmm->kvm.state.tsc_fixed)
		l.clock = VM_CLOCK_RUNNING; /* there is no other for TSCs */
	if (b.vm.vmm->kvm.state.tsc_offset)
		tscs_as_wanted(&l, &in, &in_again, cpus);
	guest_goes(&b);
	if (vmm_start(b.vm.vmm, &why))
		fail_msg("vmm_start: %s", why.text);
	machine_says_good(&b);
	guest_goes(&a); /* and the first goes on as if nothing had been */
	assert_int_equal(vmm_resume(a.vm.vmm, &why), 0);
	machine_says_good(&a);
	snap_out_free(&again);
	snap_out_free(&out);
}

#define SOON UINT64_C(100000)     /* cycles: has run out when the VM is paused */
#define LATE UINT64_C(1000000000) /* about a third of a second: has not */

static void state__one_vcpu__goes_on(void **state)
{
	(void)state;
	go_on_in_another(1, LATE, VM_CLOCK_STOOD, 0);
}

static void state__two_vcpus__go_on(void **state)
{
	(void)state;
	go_on_in_another(2, LATE, VM_CLOCK_RUNNING, 0);
}

static void state__four_vcpus__go_on(void **state)
{
	(void)state;
	go_on_in_another(4, LATE, VM_CLOCK_PASSED, 0);
}

static void state__timer_that_ran_out__is_not_lost(void **state)
{
	(void)state;
	go_on_in_another(1, SOON, VM_CLOCK_STOOD, 0);
	go_on_in_another(2, SOON, VM_CLOCK_RUNNING, 0);
}

static void state__vcpus_loaded_seconds_apart__tscs_in_step(void **state)
{
	(void)state;
	go_on_in_another(2, LATE, VM_CLOCK_STOOD, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(state__one_vcpu__goes_on),
		cmocka_unit_test(state__two_vcpus__go_on),
		cmocka_unit_test(state__four_vcpus__go_on),
		cmocka_unit_test(state__timer_that_ran_out__is_not_lost),
		cmocka_unit_test(state__vcpus_loaded_seconds_apart__tscs_in_step),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
