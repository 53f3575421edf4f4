/* SPDX-License-Identifier: Apache-2.0 */
/* A paused VM becomes another generation; the guest looks at the pages and counts the interrupts. */
#include "tests/kvm/vm.h"

static void another_generation(struct vm *vm)
{
	struct vmm_error why;

	if (vmm_pause(vm->vmm, &why) || vmm_new_generation(vm->vmm, &why) ||
	    vmm_resume(vm->vmm, &why))
		fail_msg("%s", why.text);
}

static void vmgenid__new_generation__seen_and_heard_by_the_guest(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "vmgenid");

	vm_start(&vm, &cfg);
	vm_collect(&vm, 1);
	another_generation(&vm);
	vm_collect(&vm, 2);
	another_generation(&vm);
	vm_collect(&vm, 0);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_RESET);
	assert_string_equal(vm.text, "12good\n");
}

static void vmgenid__running__refused(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "spin");

	vm_start(&vm, &cfg);
	assert_int_equal(vmm_new_generation(vm.vmm, &text), -EINVAL);
	assert_string_equal(text.text,
			    "only a paused VM becomes another generation: Invalid argument");
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_STOPPED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vmgenid__new_generation__seen_and_heard_by_the_guest),
		cmocka_unit_test(vmgenid__running__refused),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
