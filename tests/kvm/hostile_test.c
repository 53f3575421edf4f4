/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that drives every device without manners, then with: the VMM must be there for the second
 * part.  HOSTILE_SEED=N runs one seed; the seed of a failure is printed.
 */
#include "tests/kvm/disk.h"

#define SEEDS 50
#define STEPS 400
#define GROWTH_KIB \
	(24 * 1024) /* of the process over all seeds but the first: more would be a leak */

/* Serial output of the first part is noise: only the end counts. */
static void take_noise(struct vm *vm)
{
	for (;;) {
		struct pollfd fd[2] = {{.fd = vm->out[0], .events = POLLIN},
				       {.fd = vmm_exit_fd(vm->vmm), .events = POLLIN}};
		if (poll(fd, 2, VM_LIMIT_MS) <= 0)
			fail_msg("no output and no end for %d ms", VM_LIMIT_MS);
		if (fd[1].revents && !fd[0].revents)
			return;
		if (vm->len > sizeof(vm->text) / 2) {
			memmove(vm->text, vm->text + vm->len - 256, 256);
			vm->len = 256;
		}
		ssize_t n = read(vm->out[0], vm->text + vm->len, 4096);
		assert_true(n > 0);
		vm->len += (size_t)n;
		vm->text[vm->len] = '\0';
	}
}

static uint64_t run_seed(unsigned seed)
{
	static struct vm vm;
	struct vmm_error text;
	struct vmm_counters counters;
	char cmdline[64];
	int disk = disk_create(), fixed = disk_create();
	struct vmm_config cfg = vm_config(&vm, "hostile");

	snprintf(cmdline, sizeof(cmdline), "seed=%u count=%u", seed, STEPS);
	cfg.cmdline = cmdline;
	cfg.drive[0] = (struct vmm_drive){.id = "disk", .fd = disk, .overlay_fd = -1};
	cfg.drive[1] =
		(struct vmm_drive){.id = "fixed", .fd = fixed, .overlay_fd = -1, .read_only = true};
	cfg.drive_count = 2;
	cfg.has_vsock = cfg.has_entropy = true;
	cfg.vsock.guest_cid = 3;
	vm_start(&vm, &cfg);
	take_noise(&vm);
	vmm_counters(vm.vmm, &counters);
	enum vmm_exit reason = vm_finish(&vm, &text);
	if (reason != VMM_EXIT_RESET || !strstr(vm.text, "\nhonest\ngood\n"))
		fail_msg("seed %u: exit %d (%s), last output: %s", seed, reason, text.text,
			 vm.len > 200 ? vm.text + vm.len - 200 : vm.text);
	disk_unchanged(fixed);
	close(disk);
	close(fixed);
	return counters.device_breaks;
}

static long peak_kib(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmHWM:", 6))
			kib = atol(line + 6);
	if (f)
		fclose(f);
	return kib;
}

static void hostile__fifty_seeds__vmm_serves_an_honest_driver_after(void **state)
{
	(void)state;
	const char *one = getenv("HOSTILE_SEED");
	uint64_t breaks = run_seed(one ? (unsigned)atoi(one) : 1);
	long before = peak_kib();

	for (unsigned seed = 2; !one && seed <= SEEDS; seed++)
		breaks += run_seed(seed);
	long grown = peak_kib() - before;
	printf("%llu times a device was broken, memory grew by %ld KiB\n",
	       (unsigned long long)breaks, grown);
	assert_true(one || breaks > 0); /* else the guest had been too polite */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
	assert_true(grown < GROWTH_KIB);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile__fifty_seeds__vmm_serves_an_honest_driver_after),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
