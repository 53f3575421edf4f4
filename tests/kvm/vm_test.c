/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a VM through libvmm.h, with tiny guests. */
#include "tests/kvm/vm.h"

#include <dirent.h>

static void vm__hello__speaks_and_resets(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "hello");

	assert_int_equal(vm_run(&vm, &cfg, &text), VMM_EXIT_RESET);
	assert_string_equal(vm.text, "hello\n");
}

static void vm__triple_fault__says_so(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "triple");

	assert_int_equal(vm_run(&vm, &cfg, &text), VMM_EXIT_TRIPLE_FAULT);
	assert_string_equal(text.text, "vCPU 0: triple fault");
	assert_string_equal(vm.text, "about to fault\n");
}

static void vm__nobody_there__reads_ones(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "ports");

	assert_int_equal(vm_run(&vm, &cfg, &text), VMM_EXIT_RESET);
	assert_string_equal(vm.text, "string io\n");
}

/* What the guest had written before the pause arrives; after that, nothing does until it is resumed. */
static void vm_pause__busy_guest__stands_still_then_goes_on(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "spin");

	vm_start(&vm, &cfg);
	for (int round = 0; round < 20; round++) {
		struct vmm_counters before, after;

		vm_collect(&vm, vm.len + 1);
		assert_int_equal(vmm_pause(vm.vmm, &text), 0);
		assert_int_equal(vmm_pause(vm.vmm, &text), 0); /* idempotent */
		assert_int_equal(vmm_state(vm.vmm), VMM_PAUSED);
		vmm_counters(vm.vmm, &before);
		usleep(2000);
		vmm_counters(vm.vmm, &after);
		assert_int_equal(before.exits_io, after.exits_io);
		assert_int_equal(vmm_resume(vm.vmm, &text), 0);
		vm.len = 0;
	}
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_STOPPED);
}

/* A reader that never reads: the guest is not held up, what does not fit is counted. */
static void vm_console__reader_sleeps__guest_runs_on(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_counters c = {0};
	struct vmm_config cfg = vm_config(&vm, "spin");

	vm_start(&vm, &cfg);
	for (int i = 0; i < VM_LIMIT_MS && c.serial_dropped < 1000; i++) {
		usleep(1000);
		vmm_counters(vm.vmm, &c);
	}
	assert_true(c.serial_dropped >= 1000);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_STOPPED);
}

static unsigned open_fds(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void vm__hundred_in_a_row__leave_no_fd(void **state)
{
	(void)state;
	unsigned before = open_fds();

	for (int i = 0; i < 100; i++)
		vm__hello__speaks_and_resets(NULL);
	assert_int_equal(open_fds(), before);
}

static void vm_create__bad_config__refused_and_nothing_left(void **state)
{
	(void)state;
	static const struct {
		uint32_t cpus;
		uint64_t mib;
		const char *text;
	} row[] = {
		{0, 16, "0 vCPUs: between 1 and 32 are possible"},
		{33, 16, "33 vCPUs: between 1 and 32 are possible"},
		{1, 0, "guest memory of 0 MiB: at least 1 MiB is needed"},
	};
	struct vmm_error text;
	unsigned before = open_fds();

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct vm vm;
		struct vmm_config cfg = vm_config(&vm, "hello");
		cfg.cpus = row[i].cpus;
		cfg.mem_mib = row[i].mib;
		assert_int_not_equal(vmm_create(&vm.vmm, &cfg, &text), 0);
		assert_string_equal(text.text, row[i].text);
		close(cfg.kernel_fd);
		close(cfg.kvm_fd);
		close(vm.out[0]);
		close(vm.out[1]);
	}
	assert_int_equal(open_fds(), before);
}

static void vmm_probe__no_device__says_why(void **state)
{
	(void)state;
	struct vmm_probe probe;

	vmm_probe("/nonexistent/kvm", VMM_PROBE_QUICK, &probe);
	assert_false(probe.opens);
	assert_false(probe.usable);
	assert_string_equal(probe.text, "cannot open /nonexistent/kvm: No such file or directory");
	vmm_probe("/dev/null", VMM_PROBE_QUICK, &probe);
	assert_false(probe.usable);
	assert_non_null(strstr(probe.text, "KVM_GET_API_VERSION"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vm__hello__speaks_and_resets),
		cmocka_unit_test(vm__triple_fault__says_so),
		cmocka_unit_test(vm__nobody_there__reads_ones),
		cmocka_unit_test(vm_pause__busy_guest__stands_still_then_goes_on),
		cmocka_unit_test(vm_console__reader_sleeps__guest_runs_on),
		cmocka_unit_test(vm__hundred_in_a_row__leave_no_fd),
		cmocka_unit_test(vm_create__bad_config__refused_and_nothing_left),
		cmocka_unit_test(vmm_probe__no_device__says_why),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
