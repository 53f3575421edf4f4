/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest gives up leaves host memory, counted from outside, and comes back as zeroes. */
#include "tests/kvm/vm.h"

#define MIB       (UINT64_C(1) << 20)
#define SLACK_MIB 1 /* rings, and what the loader left */

/* Guest memory that the host holds, in KiB: Rss of the mappings named so in smaps. */
static uint64_t guest_rss_kib(void)
{
	char line[512];
	bool ours = false;
	uint64_t sum = 0;
	unsigned long long kib;
	FILE *smaps = fopen("/proc/self/smaps", "re");

	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (strchr(line, '-') && strstr(line, " rw"))
			ours = strstr(line, "guest-memory") != NULL;
		else if (ours && sscanf(line, "Rss: %llu kB", &kib) == 1)
			sum += kib;
	}
	fclose(smaps);
	return sum;
}

static struct vmm_balloon_stats stats_of(const struct vm *vm)
{
	struct vmm_balloon_stats stats = {.size = sizeof(stats)};
	struct vmm_error why;

	if (vmm_balloon_stats(vm->vmm, &stats, &why))
		fail_msg("%s", why.text);
	return stats;
}

static void set_target(struct vm *vm, uint32_t mib)
{
	struct vmm_error why;

	if (vmm_balloon_set(vm->vmm, mib, &why))
		fail_msg("%s", why.text);
}

static void balloon__given_up__leaves_the_host_and_comes_back_zero(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "balloon");

	cfg.mem_mib = 64;
	cfg.has_balloon = true;
	cfg.balloon = (struct vmm_balloon){.reporting = true, .stats_interval_s = 3600};
	vm_start(&vm, &cfg);
	vm_collect(&vm, 1);
	uint64_t full = guest_rss_kib();
	assert_true(full >= 16 * 1024);

	set_target(&vm, 8);
	vm_collect(&vm, 2);
	uint64_t inflated = guest_rss_kib();
	assert_true(inflated <= full - (8 - SLACK_MIB) * 1024);
	struct vmm_balloon_stats stats = stats_of(&vm);
	assert_int_equal(stats.target_mib, 8);
	assert_int_equal(stats.actual_mib, 8);
	assert_int_equal(stats.inflated_bytes, 8 * MIB);
	assert_int_equal(stats.given_back_bytes, 8 * MIB);
	assert_int_equal(stats.known, 1u << 4);
	assert_int_equal(stats.free_bytes, 0x123456789abc);

	set_target(&vm, 1);
	vm_collect(&vm, 3);
	assert_true(guest_rss_kib() <= full - (16 - SLACK_MIB) * 1024);
	assert_int_equal(stats_of(&vm).reported_bytes, 8 * MIB);
	set_target(&vm, 0);
	vm_collect(&vm, 0);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_RESET);
	assert_string_equal(vm.text, "firgood\n");
}

static void balloon__none_or_too_large__refused(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_balloon_stats stats = {.size = sizeof(stats)};
	struct vmm_config cfg = vm_config(&vm, "spin");

	cfg.has_balloon = true;
	cfg.balloon.amount_mib = 17;
	assert_int_equal(vmm_create(&vm.vmm, &cfg, &text), -EINVAL);
	assert_string_equal(text.text, "a balloon of 17 MiB in a guest of 16 MiB");
	cfg.has_balloon = false;
	vm_start(&vm, &cfg);
	assert_int_equal(vmm_balloon_set(vm.vmm, 1, &text), -ENODEV);
	assert_string_equal(text.text, "the VM has no balloon: No such device");
	assert_int_equal(vmm_balloon_stats(vm.vmm, &stats, &text), -ENODEV);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_STOPPED);
}

static void balloon__target_above_memory__refused(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "spin");

	cfg.has_balloon = true;
	vm_start(&vm, &cfg);
	assert_int_equal(vmm_balloon_set(vm.vmm, 17, &text), -EINVAL);
	assert_string_equal(text.text, "a balloon of 17 MiB in a guest of 16 MiB");
	assert_int_equal(vmm_balloon_set(vm.vmm, 16, &text), 0);
	assert_int_equal(stats_of(&vm).target_mib, 16);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_STOPPED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balloon__given_up__leaves_the_host_and_comes_back_zero),
		cmocka_unit_test(balloon__none_or_too_large__refused),
		cmocka_unit_test(balloon__target_above_memory__refused),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
