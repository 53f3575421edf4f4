/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk from the guest's ring to the bytes of a file: raw, and as a layer over an image. */
#include "tests/kvm/disk.h"

static void run_guest(const char *cmdline, int fd, int overlay, int fixed)
{
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "blk");

	cfg.cmdline = cmdline;
	cfg.drive[0] = (struct vmm_drive){
		.id = "disk", .fd = fd, .overlay_fd = overlay, .writeback = true};
	cfg.drive[1] =
		(struct vmm_drive){.id = "fixed", .fd = fixed, .overlay_fd = -1, .read_only = true};
	cfg.drive_count = 2;
	enum vmm_exit reason = vm_run(&vm, &cfg, &text);
	assert_string_equal(vm.text, "good\n");
	assert_int_equal(reason, VMM_EXIT_RESET);
}

/* What the guest wrote, and around it nothing else.  Discarded sectors may hold anything. */
static void blk__raw_file__holds_what_the_guest_wrote(void **state)
{
	(void)state;
	int fd = disk_create(), fixed = disk_create();

	run_guest("write", fd, -1, fixed);
	uint64_t *want = disk_words(), *got = disk_content(fd);
	disk_fill(want + 16 * 64, 16, 8, 2);
	disk_fill(want + 41 * 64, 41, 2, 3);
	memset(want + 64 * 64, 0, 8 * 512);
	for (unsigned i = 0; i < 16; i++)
		disk_fill(want + (200 + i) * 64, 200 + i, 1, 10 + i);
	memcpy(want + 128 * 64, got + 128 * 64, 8 * 512);
	assert_memory_equal(got, want, DISK_BYTES);
	disk_unchanged(fixed);
	free(want);
	free(got);
	run_guest("verify=1", fd, -1, fixed);
	close(fd);
	close(fixed);
}

static void blk__overlay__keeps_the_writes_and_leaves_the_image(void **state)
{
	(void)state;
	int base = disk_create(), overlay = disk_empty(), fixed = disk_create();

	run_guest("write", base, overlay, fixed);
	disk_unchanged(base);
	assert_true(lseek(overlay, 0, SEEK_END) > 0);
	run_guest("verify=1", base, overlay, fixed); /* another VM finds them in the layer */
	disk_unchanged(base);
	close(base);
	close(overlay);
	close(fixed);
}

static void rng__asked_twice__gives_different_bytes(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "rng");

	cfg.has_entropy = true;
	enum vmm_exit reason = vm_run(&vm, &cfg, &text);
	assert_string_equal(vm.text, "good\n");
	assert_int_equal(reason, VMM_EXIT_RESET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blk__raw_file__holds_what_the_guest_wrote),
		cmocka_unit_test(blk__overlay__keeps_the_writes_and_leaves_the_image),
		cmocka_unit_test(rng__asked_twice__gives_different_bytes),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
