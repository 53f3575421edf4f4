/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captures of running machines, and machines made from them: memory of one instant, under guests that write as fast
 * as they can.  State stands for itself: a guest whose registers were lost would not go on writing.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/kvm/pattern_vm.h"

static const struct pattern_cfg shapes[] = {
	{.cpus = 1, .mem_mib = 64, .pages = 6000},
	{.cpus = 2, .mem_mib = 64, .pages = 6000},
	{.cpus = 4, .mem_mib = 96, .pages = 12000},
};

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* The first capture moves the machine, the later ones copy: each is of one instant, later than the one before. */
static void capture__of_a_running_machine__is_of_one_instant(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct pattern_cfg *cfg = &shapes[i];
		struct vm vm;
		uint64_t before = 0;

		pattern_start(&vm, cfg);
		for (unsigned round = 0; round < 6; round++) {
			struct vmm_captured got = pattern_capture(&vm, 0);
			assert_int_equal(vmm_state(vm.vmm), VMM_RUNNING);
			assert_int_equal(got.rehomed, round == 0);
			assert_int_equal(got.diff_source == VMM_NO_SOURCE, round == 0);
			assert_true(got.pause_ns > 0);
			uint64_t now = pattern_judge(&got, cfg);
			assert_true(now >= before);
			before = now;
		}
		pattern_beyond(&vm, cfg, 0, before);
		pattern_end(&vm);
	}
}

/* What went out does not change any more, whatever the machine writes. */
static void capture__then_the_parent_writes__nothing_leaks(void **state)
{
	(void)state;
	const struct pattern_cfg *cfg = &shapes[1];
	struct vm vm;

	pattern_start(&vm, cfg);
	for (unsigned round = 0; round < 3; round++) {
		struct vmm_captured got = pattern_capture(&vm, 0);
		uint64_t first = pattern_judge(&got, cfg);
		poll(NULL, 0, 20);
		assert_int_equal(pattern_judge(&got, cfg), first);
	}
	pattern_end(&vm);
}

/* A child goes on from the parent's instant, alone; so does its child. */
static void load__of_a_capture__goes_on_from_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct pattern_cfg *cfg = &shapes[i];
		struct vm vm[4];
		uint64_t sum[4];

		pattern_start(&vm[0], cfg);
		for (unsigned n = 0; n < 3; n++) {
			pattern_shell(&vm[n + 1], cfg);
			struct vmm_captured got = pattern_capture(&vm[n], 0);
			sum[n] = pattern_judge(&got, cfg);
			pattern_load(&vm[n + 1], &got);
			assert_int_equal(vmm_resume(vm[n + 1].vmm, NULL), 0);
		}
		for (unsigned n = 0; n < 4; n++) {
			pattern_beyond(&vm[n], cfg, VMM_CAPTURE_STAY, sum[n ? n - 1 : 0]);
			assert_int_equal(vmm_state(vm[n].vmm), VMM_PAUSED);
		}
		for (unsigned n = 0; n < 4; n++)
			pattern_end(&vm[n]);
	}
}

/* A paused machine can be captured, twice the same, and goes on. */
static void capture__of_a_paused_machine__changes_nothing(void **state)
{
	(void)state;
	const struct pattern_cfg *cfg = &shapes[0];
	struct vm vm;

	pattern_start(&vm, cfg);
	assert_int_equal(vmm_pause(vm.vmm, NULL), 0);
	struct vmm_captured got = pattern_capture(&vm, 0);
	uint64_t sum = pattern_judge(&got, cfg);
	assert_int_equal(got.pause_ns, 0);
	assert_int_equal(vmm_state(vm.vmm), VMM_PAUSED);
	got = pattern_capture(&vm, 0);
	assert_int_equal(pattern_judge(&got, cfg), sum);
	assert_int_equal(vmm_resume(vm.vmm, NULL), 0);
	pattern_beyond(&vm, cfg, 0, sum);
	pattern_end(&vm);
}

/* Memory that others may map can be written by nobody. */
static void capture__memory_that_goes_out__is_immutable(void **state)
{
	(void)state;
	const struct pattern_cfg *cfg = &shapes[0];
	struct vm vm;

	pattern_start(&vm, cfg);
	for (unsigned round = 0; round < 4; round++) {
		struct vmm_captured got = pattern_capture(&vm, 0);
		bool tidy = round % 2; /* the last seal comes with it */
		if (tidy)
			assert_int_equal(vmm_tidy(vm.vmm, NULL), 0);
		for (uint32_t i = 0; i < got.memory.fd_count; i++) {
			int fd = got.memory.fd[i];
			struct stat st;
			assert_int_equal(fstat(fd, &st), 0);
			assert_int_equal(pwrite(fd, "x", 1, 0), -1);
			assert_int_equal(ftruncate(fd, st.st_size + 4096), -1);
			assert_true(st.st_size == 0 || ftruncate(fd, 0) == -1);
			assert_ptr_equal(
				mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
				MAP_FAILED);
			int seals = fcntl(fd, F_GET_SEALS), all = F_SEAL_SHRINK | F_SEAL_GROW;
			all |= round || tidy ? F_SEAL_WRITE : F_SEAL_FUTURE_WRITE;
			bool read_only = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
			assert_true((seals >= 0 && (seals & all) == all) || read_only);
		}
	}
	pattern_end(&vm);
}

static void capture__of_what_cannot_be__refused(void **state)
{
	(void)state;
	const struct vmm_capture_cfg cap = {.size = sizeof(cap)};
	const struct vmm_capture_cfg odd = {.size = sizeof(odd), .flags = 1u << 31};
	struct vmm_load_cfg load = {.size = sizeof(load), .vsock_listen_fd = -1};
	struct vmm_captured got;
	struct vmm_error why;
	struct vm vm, shell;

	struct vmm_config cfg = vm_config(&vm, "spin");
	vm_start(&vm, &cfg);
	assert_int_equal(vmm_capture(vm.vmm, &cap, &got, &why), -ENOTSUP);
	assert_string_equal(why.text,
			    "this VM was not made to be captured: Operation not supported");
	vm_finish(&vm, NULL);
	pattern_start(&vm, &shapes[0]);
	assert_int_equal(vmm_capture(vm.vmm, &odd, &got, &why), -EINVAL);
	assert_int_equal(vmm_load(vm.vmm, &load, &why), -EINVAL);
	assert_string_equal(why.text, "only an empty VM can be loaded: Invalid argument");
	assert_int_equal(vmm_state(vm.vmm), VMM_RUNNING);
	pattern_shell(&shell, &shapes[0]);
	assert_int_equal(vmm_resume(shell.vmm, &why), -EINVAL);
	assert_int_equal(vmm_capture(shell.vmm, &cap, &got, &why), -EINVAL);
	assert_int_equal(vmm_load(shell.vmm, &load, &why), -EBADMSG);
	assert_int_equal(vmm_state(shell.vmm), VMM_ENDED);
	pattern_end(&shell);
	pattern_end(&vm);
}

/* A machine of another shape refuses the state with a sentence. */
static void load__into_another_shape__refused(void **state)
{
	(void)state;
	struct vmm_load_cfg load = {.size = sizeof(load), .vsock_listen_fd = -1};
	struct pattern_cfg other[] = {shapes[0], shapes[0]};
	struct vmm_error why;
	struct vm vm, shell;

	other[0].cpus = 2;
	other[1].mem_mib = 65;
	pattern_start(&vm, &shapes[0]);
	struct vmm_captured got = pattern_capture(&vm, 0);
	load.state = got.state;
	load.state_len = got.state_len;
	load.memory = got.memory;
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		pattern_shell(&shell, &other[i]);
		assert_true(vmm_load(shell.vmm, &load, &why) < 0);
		assert_true(strlen(why.text) > 0);
		assert_int_equal(vmm_state(shell.vmm), VMM_ENDED);
		pattern_end(&shell);
	}
	pattern_end(&vm);
}

/*
 * Increments on top of a whole capture: after each one that is kept, what was put together is of one instant.  What
 * is lost is never put there, and the next increment holds it.
 */
static void capture__increments__lose_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct pattern_cfg *cfg = &shapes[i];
		uint8_t *flat = pattern_blank((uint64_t)cfg->mem_mib << 20);
		uint64_t before = 0;
		struct vm vm;

		pattern_start(&vm, cfg);
		for (unsigned round = 0; round < 40; round++) {
			struct vmm_captured got = pattern_capture(&vm, VMM_CAPTURE_SINCE);
			bool lost = round % 3 == 2;
			if (round % 7 !=
			    6) /* else nobody says what became of it, and it is lost too */
				assert_int_equal(vmm_settle(vm.vmm, got.sequence,
							    lost ? VMM_LOST : VMM_KEPT, NULL),
						 0);
			if (lost || round % 7 == 6)
				continue;
			assert_int_equal(got.partial, round > 1);
			pattern_apply(flat, &got.memory);
			uint64_t now = pattern_judge_flat(flat, cfg);
			assert_true(now >= before);
			before = now;
		}
		pattern_beyond(&vm, cfg, 0, before);
		pattern_end(&vm);
		munmap(flat, (uint64_t)cfg->mem_mib << 20);
	}
}

/* A guest that writes nothing has nothing to add. */
static void capture__increment_of_an_idle_guest__is_empty(void **state)
{
	(void)state;
	const struct pattern_cfg cfg = {.cpus = 1, .mem_mib = 64, .pages = 6000, .idle = true};
	struct vmm_captured got;
	struct vm vm;

	pattern_start(&vm, &cfg);
	for (unsigned i = 0; i < 4; i++) {
		got = pattern_capture(&vm, VMM_CAPTURE_SINCE);
		assert_int_equal(vmm_settle(vm.vmm, got.sequence, VMM_KEPT, NULL), 0);
		assert_int_equal(vmm_settle(vm.vmm, got.sequence, VMM_KEPT, NULL), -ESTALE);
	}
	assert_true(got.partial);
	assert_int_equal(got.diff_pages, 0);
	assert_int_equal(got.memory.run_count, 0);
	pattern_end(&vm);
}

static void capture__many_times__leaves_no_descriptor(void **state)
{
	(void)state;
	struct vm vm, shell;
	unsigned before = open_fds();

	for (unsigned i = 0; i < 3; i++) {
		pattern_start(&vm, &shapes[1]);
		for (unsigned k = 0; k < 5; k++) {
			struct vmm_captured got = pattern_capture(&vm, 0);
			pattern_shell(&shell, &shapes[1]);
			pattern_load(&shell, &got);
			assert_int_equal(vmm_resume(shell.vmm, NULL), 0);
			pattern_end(&shell);
		}
		pattern_end(&vm);
		assert_int_equal(open_fds(), before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capture__of_a_running_machine__is_of_one_instant),
		cmocka_unit_test(capture__then_the_parent_writes__nothing_leaks),
		cmocka_unit_test(load__of_a_capture__goes_on_from_it),
		cmocka_unit_test(capture__of_a_paused_machine__changes_nothing),
		cmocka_unit_test(capture__memory_that_goes_out__is_immutable),
		cmocka_unit_test(capture__of_what_cannot_be__refused),
		cmocka_unit_test(load__into_another_shape__refused),
		cmocka_unit_test(capture__increments__lose_nothing),
		cmocka_unit_test(capture__increment_of_an_idle_guest__is_empty),
		cmocka_unit_test(capture__many_times__leaves_no_descriptor),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
