/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole VM under the whole sandbox, seen from outside: each thread has its filter, the process has
 * nothing left, and yet it runs, pauses, resumes and is taken down by the calls of libvmm.h.
 */
#include "tests/kvm/vm.h"

#include <dirent.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CPUS 2

/* In the child, which answers with one byte when it runs, and ends the VM when it is sent one. */
static int sealed_life(int peer)
{
	struct vm vm;
	struct vmm_error text = {.text = ""};
	struct vmm_config cfg = vm_config(&vm, "spin");
	char byte = 'r';

	cfg.cpus = CPUS;
	cfg.has_entropy = true;
	if (vmm_create(&vm.vmm, &cfg, &text) || vmm_seal(vm.vmm, &text) ||
	    vmm_start(vm.vmm, &text)) {
		dprintf(STDERR_FILENO, "%s\n", text.text);
		return 1;
	}
	vm_collect(&vm, 100);
	if (vmm_pause(vm.vmm, &text) || vmm_resume(vm.vmm, &text))
		return 2;
	if (write(peer, &byte, 1) != 1 || read(peer, &byte, 1) != 1)
		return 3;
	return vm_finish(&vm, &text) == VMM_EXIT_STOPPED ? 0 : 4;
}

/* The line of /proc/PID/task/TID/status that begins with `name`, without it. */
static void status_line(pid_t pid, const char *tid, const char *name, char *out, size_t size)
{
	char path[320], line[256];

	snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, tid);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	*out = '\0';
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			snprintf(out, size, "%s", line + strlen(name));
	fclose(file);
	out[strcspn(out, "\n")] = '\0';
}

static void expect_line(pid_t pid, const char *tid, const char *name, const char *want)
{
	char got[128];

	status_line(pid, tid, name, got, sizeof(got));
	if (strcmp(got, want))
		fail_msg("thread %s: %s%s, not %s", tid, name, got, want);
}

static unsigned check_threads(pid_t pid)
{
	char path[64];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		char name[64];
		if (e->d_name[0] == '.')
			continue;
		status_line(pid, e->d_name, "Name:\t", name, sizeof(name));
		if (!strncmp(name, "iou-", 4) || !strncmp(name, "kvm-", 4))
			continue; /* the kernel's own */
		expect_line(pid, e->d_name, "Seccomp:\t", "2");
		expect_line(pid, e->d_name, "Seccomp_filters:\t", "1");
		expect_line(pid, e->d_name, "NoNewPrivs:\t", "1");
		expect_line(pid, e->d_name, "CapEff:\t", "0000000000000000");
		expect_line(pid, e->d_name, "CapPrm:\t", "0000000000000000");
		if (geteuid() == 0)
			expect_line(pid, e->d_name, "Uid:\t", "65534\t65534\t65534\t65534");
		count++;
	}
	closedir(dir);
	return count;
}

static void seal__running_vm__every_thread_confined_and_alive(void **state)
{
	(void)state;
	int pair[2], status;
	char byte = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(VM_LIMIT_MS / 1000);
		_exit(sealed_life(pair[1]));
	}
	close(pair[1]);
	if (read(pair[0], &byte, 1) == 1) {
		assert_int_equal(check_threads(pid), 2 + CPUS);
		assert_int_equal(write(pair[0], &byte, 1), 1);
	}
	close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Once sealed is sealed: not twice, and not after the start. */
static void seal__twice_or_late__refused(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "spin");

	vm_start(&vm, &cfg);
	assert_int_equal(vmm_seal(vm.vmm, &text), -EINVAL);
	assert_string_equal(text.text, "a VM is sealed once, before it starts: Invalid argument");
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_STOPPED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seal__running_vm__every_thread_confined_and_alive),
		cmocka_unit_test(seal__twice_or_late__refused),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
