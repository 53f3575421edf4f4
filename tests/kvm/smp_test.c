/* SPDX-License-Identifier: Apache-2.0 */
/* Several vCPUs, started by the guest itself: counting, paused, resumed, ended while all run. */
#include "tests/kvm/vm.h"

/* A KVM that interprets may know no real mode, in which every processor but the first begins. */
static bool no_real_mode(struct vm *vm, const struct vmm_error *text)
{
	if (!strstr(text->text, "could not carry out") || strstr(vm->text, "up\n"))
		return false;
	printf("skip smp: %s\n", text->text);
	return true;
}

static void start_count_pause_end(unsigned cpus)
{
	struct vm vm;
	struct vmm_error text;
	char cmdline[32];
	struct vmm_config cfg = vm_config(&vm, "smp");

	snprintf(cmdline, sizeof(cmdline), "cpus=%u", cpus);
	cfg.cpus = cpus;
	cfg.cmdline = cmdline;
	vm_start(&vm, &cfg);
	vm_collect(&vm, sizeof("starting\nup\n.") - 1);
	for (int round = 0; round < 20 && vmm_state(vm.vmm) != VMM_ENDED; round++) {
		struct vmm_counters before, after;

		assert_int_equal(vmm_pause(vm.vmm, &text), 0);
		vmm_counters(vm.vmm, &before);
		usleep(1000);
		vmm_counters(vm.vmm, &after);
		assert_int_equal(before.exits_io, after.exits_io);
		assert_int_equal(vmm_resume(vm.vmm, &text), 0);
		if (vm.len > sizeof(vm.text) / 2)
			vm.len = sizeof("starting\nup\n.") - 1;
		vm_collect(&vm, vm.len + 1);
	}
	enum vmm_exit reason = vm_finish(&vm, &text);
	if (reason == VMM_EXIT_GUEST_FAULT && no_real_mode(&vm, &text))
		skip();
	assert_memory_equal(vm.text, "starting\nup\n.", sizeof("starting\nup\n.") - 1);
	assert_int_equal(reason, VMM_EXIT_STOPPED);
}

static void smp__two__count_and_pause(void **state)
{
	(void)state;
	start_count_pause_end(2);
}

static void smp__four__count_and_pause(void **state)
{
	(void)state;
	start_count_pause_end(4);
}

static void smp__thirty_two__count_and_pause(void **state)
{
	(void)state;
	start_count_pause_end(32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(smp__two__count_and_pause),
		cmocka_unit_test(smp__four__count_and_pause),
		cmocka_unit_test(smp__thirty_two__count_and_pause),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
