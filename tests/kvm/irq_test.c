/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts from a device's eventfd through the guest's own IOAPIC programming to its handler. */
#include "tests/kvm/vm.h"

static void irq__device_and_serial__reach_the_handler(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "irq");

	cfg.has_entropy = true;
	enum vmm_exit reason = vm_run(&vm, &cfg, &text);
	if (reason != VMM_EXIT_RESET)
		printf("%s\n", text.text);
	assert_string_equal(vm.text, ".good\n");
	assert_int_equal(reason, VMM_EXIT_RESET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(irq__device_and_serial__reach_the_handler),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
