/* SPDX-License-Identifier: Apache-2.0 */
/* A VMM process started, watched and ended.  The VMM is a shell script that looks at what it was given. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "supervisor/lifecycle/files.h"
#include "supervisor/lifecycle/ring.h"
#include "supervisor/lifecycle/vm.h"

#define BOUND_MS 20000

static char folder[64], script[96], image[96];

static void write_text(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* Starts a VMM whose program is the given script. */
static struct life_vm *start(const char *body)
{
	char text[1024];
	struct life_config cfg = {.vmm = script,
				  .kernel = "/k",
				  .initrd = "/i",
				  .image = image,
				  .cpus = 2,
				  .memory_mib = 256,
				  .timings = true,
				  .console_copy_fd = -1};
	struct life_vm *vm = NULL;
	struct errmsg why;

	snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", body);
	write_text(script, text, 0755);
	assert_int_equal(life_vm_start(&vm, &cfg, &why), 0);
	return vm;
}

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/spore-life-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	setenv("TMPDIR", folder, 1);
	setenv("XDG_RUNTIME_DIR", folder, 1);
	snprintf(script, sizeof(script), "%s/vmm", folder);
	snprintf(image, sizeof(image), "%s/image", folder);
	write_text(image, "image", 0444);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(script);
	unlink(image);
	return rmdir(folder); /* fails when anything else was left in it */
}

static void life_vm__descriptors__all_at_their_numbers(void **state)
{
	char text[4096], ending[64];
	struct life_vm *vm =
		start("cat /proc/self/fd/3; cat /proc/self/fd/4; echo; "
		      "echo layer >/proc/self/fd/5 && cat /proc/self/fd/5; "
		      "readlink /proc/self/fd/6 | cut -d: -f1; echo T >/proc/self/fd/8; "
		      "echo \"$@\"; ls /proc/self/fd | tr '\\n' ' '");

	(void)state;
	assert_int_equal(life_vm_wait(vm, BOUND_MS), LIFE_ENDED);
	life_vm_ending(vm, ending, sizeof(ending));
	assert_string_equal(ending, "exit status 0");
	life_vm_console(vm, text, sizeof(text));
	assert_non_null(strstr(text, "image\nlayer\nsocket\n"));
	assert_non_null(strstr(text, "--no-api --config-file /proc/self/fd/3 --vsock-listen-fd 6 "
				     "--ready-fd 7 --ready-port 1025 --timings /proc/self/fd/8\n"));
	assert_non_null(strstr(text, "\n0 1 2 3 4 5 6 7 8 9 "));
	assert_null(strstr(text, " 10 "));
	life_vm_timings(vm, text, sizeof(text));
	assert_string_equal(text, "T\n");
	life_vm_destroy(vm);
}

static void life_vm__config__firecracker_keys(void **state)
{
	static const char *const parts[] = {
		"\"kernel_image_path\": \"/k\"",
		"\"initrd_path\": \"/i\"",
		"root=/dev/vda rw\"",
		"\"vcpu_count\": 2",
		"\"mem_size_mib\": 256",
		"\"guest_cid\": 3",
		"\"overlay_path\": \"/proc/self/fd/5\"",
	};
	char text[4096];
	struct life_vm *vm = start("cat /proc/self/fd/3");

	(void)state;
	assert_int_equal(life_vm_wait(vm, BOUND_MS), LIFE_ENDED);
	life_vm_ending(vm, (char[64]){0}, 64);
	life_vm_console(vm, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		assert_non_null(strstr(text, parts[i]));
	life_vm_destroy(vm);
}

static void life_vm__knock__ready(void **state)
{
	struct life_vm *vm = start("printf '\\1\\0\\0\\0\\0\\0\\0\\0' >&7; exec sleep 60");

	(void)state;
	assert_int_equal(life_vm_wait(vm, BOUND_MS), LIFE_READY);
	life_vm_stop(vm, 1000);
	assert_int_equal(life_vm_wait(vm, 0), LIFE_ENDED);
	life_vm_destroy(vm);
}

static void life_vm__silent_vmm__wait_is_bounded(void **state)
{
	struct life_vm *vm = start("exec sleep 60");

	(void)state;
	assert_int_equal(life_vm_wait(vm, 50), LIFE_TIME);
	life_vm_kill(vm);
	assert_int_equal(life_vm_wait(vm, BOUND_MS), LIFE_ENDED);
	char ending[64];
	life_vm_ending(vm, ending, sizeof(ending));
	assert_string_equal(ending, "killed by signal 9");
	life_vm_destroy(vm);
}

static void life_vm__stubborn_vmm__killed_after_grace(void **state)
{
	char ending[64];
	struct life_vm *vm = start("trap '' TERM; printf '\\1\\0\\0\\0\\0\\0\\0\\0' >&7; "
				   "while :; do sleep 1; done");

	(void)state;
	assert_int_equal(life_vm_wait(vm, BOUND_MS), LIFE_READY);
	life_vm_stop(vm, 200);
	life_vm_ending(vm, ending, sizeof(ending));
	assert_string_equal(ending, "killed by signal 9");
	life_vm_destroy(vm);
}

static void life_vm__socket_without_name__connects(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct life_vm *vm = start("exec sleep 60");
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", life_vm_socket(vm));
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	life_vm_destroy(vm);
}

static void life_vm__console_flood__bounded_tail(void **state)
{
	char text[16384], ending[64];
	struct life_vm *vm = start("seq 1 200000; printf 'bad\\033[31mred\\n'; exit 3");

	(void)state;
	assert_int_equal(life_vm_wait(vm, BOUND_MS), LIFE_ENDED);
	life_vm_ending(vm, ending, sizeof(ending));
	assert_string_equal(ending, "exit status 3");
	life_vm_console(vm, text, sizeof(text));
	assert_non_null(strstr(text, "\n200000\nbad\\x1b[31mred\n"));
	assert_null(strstr(text, "199900\n"));
	life_vm_destroy(vm);
}

static void life_vm__no_such_vmm__says_so(void **state)
{
	struct life_config cfg = {.vmm = "/nonexistent/vmm",
				  .kernel = "/k",
				  .initrd = "/i",
				  .cpus = 1,
				  .memory_mib = 64,
				  .console_copy_fd = -1};
	struct life_vm *vm = NULL;
	struct errmsg why;

	(void)state;
	assert_int_equal(life_vm_start(&vm, &cfg, &why), -ENOENT);
	assert_string_equal(why.text, "start /nonexistent/vmm: No such file or directory");
	assert_null(vm);
}

static void life_vm__image_locked_for_writing__refused(void **state)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct life_config cfg = {.vmm = "/bin/true",
				  .kernel = "/k",
				  .initrd = "/i",
				  .image = image,
				  .cpus = 1,
				  .memory_mib = 64,
				  .console_copy_fd = -1};
	struct life_vm *vm = NULL;
	struct errmsg why;
	char text[160];

	(void)state;
	chmod(image, 0644);
	cleanup_close int fd = open(image, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(life_vm_start(&vm, &cfg, &why), -EBUSY);
	snprintf(text, sizeof(text), "image %s: in use for writing by another VM", image);
	assert_string_equal(why.text, text);
}

/* The parent dies by SIGKILL: the kernel ends the VMM, and no file is left (teardown looks). */
static void life_vm__parent_killed__vmm_gone(void **state)
{
	char pid_path[96];
	int status, pid = 0;

	(void)state;
	snprintf(pid_path, sizeof(pid_path), "%s/pid", folder);
	pid_t parent = fork();
	if (!parent) {
		char body[512];
		snprintf(body, sizeof(body), "echo $$ >%s.tmp; mv %s.tmp %s; exec sleep 60",
			 pid_path, pid_path, pid_path);
		start(body);
		pause();
	}
	for (int i = 0; i < BOUND_MS / 10 && access(pid_path, F_OK); i++)
		usleep(10000);
	FILE *f = fopen(pid_path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	unlink(pid_path);
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, &status, 0), parent);
	char proc[64], state_char = 'R';
	snprintf(proc, sizeof(proc), "/proc/%d/stat", pid);
	for (int i = 0; i < BOUND_MS / 10 && state_char != 'Z'; i++) {
		FILE *stat = fopen(proc, "r");
		if (!stat)
			return;
		if (fscanf(stat, "%*d %*s %c", &state_char) != 1)
			state_char = 'R';
		fclose(stat);
		usleep(10000);
	}
	assert_int_equal(state_char, 'Z');
}

static void life_ring_tail__wraps_and_escapes__last_lines(void **state)
{
	char buf[16], text[64];
	struct life_ring ring = {.buf = buf, .cap = sizeof(buf)};

	(void)state;
	life_ring_tail(&ring, 3, text, sizeof(text));
	assert_string_equal(text, "");
	life_ring_put(&ring, "one\r\ntwo\r\nthree\r\n\x07", 18);
	life_ring_tail(&ring, 2, text, sizeof(text));
	assert_string_equal(text, "three\n\\x07");
	life_ring_tail(&ring, 30, text, sizeof(text));
	assert_string_equal(text, "e\ntwo\nthree\n\\x07"); /* 16 bytes are kept */
	life_ring_tail(&ring, 30, text, 5);
	assert_string_equal(text, "\\x07");
}

static void life_check_kernel__garbage__says_so(void **state)
{
	struct errmsg why;
	char text[160];

	(void)state;
	assert_int_equal(life_check_kernel(image, &why), -EINVAL);
	snprintf(text, sizeof(text), "kernel %s: neither an ELF file nor a bzImage", image);
	assert_string_equal(why.text, text);
	assert_int_equal(life_check_kernel(folder, &why), -EISDIR);
	assert_int_equal(life_check_kernel("/nonexistent", &why), -ENOENT);
	assert_string_equal(why.text, "kernel /nonexistent: No such file or directory");
}

/* A superblock of `blocks` blocks of 1024 << log bytes in a file of 4096 bytes. */
static int check_super(uint64_t blocks, uint32_t log, uint32_t incompat, struct errmsg *why)
{
	uint8_t file[4096] = {0}, *super = file + 1024;

	le32_store(super + 0x4, (uint32_t)blocks);
	le32_store(super + 0x18, log);
	le16_store(super + 0x38, 0xef53);
	le32_store(super + 0x60, incompat);
	le32_store(super + 0x150, (uint32_t)(blocks >> 32));
	int fd = open(image, O_WRONLY | O_TRUNC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, file, sizeof(file)), sizeof(file));
	close(fd);
	return life_check_image(image, why);
}

static void life_check_image__size_in_superblock__compared_with_the_file(void **state)
{
	struct errmsg why;
	char text[200];

	(void)state;
	assert_int_equal(check_super(4, 0, 0, &why), 0);
	assert_int_equal(check_super(1, 2, 0x80, &why), 0);
	assert_int_equal(check_super(5, 0, 0, &why), -EINVAL);
	snprintf(text, sizeof(text),
		 "image %s: the file is truncated: 4096 bytes of a file system of 5120", image);
	assert_string_equal(why.text, text);
	assert_int_equal(check_super(UINT64_C(1) << 32, 0, 0, &why), 0); /* no 64 bits: 0 blocks */
	assert_int_equal(check_super(UINT64_C(1) << 32, 0, 0x80, &why), -EINVAL);
	assert_int_equal(check_super(UINT64_MAX, 6, 0x80, &why), -EINVAL); /* wraps */
	assert_int_equal(check_super(1, 7, 0, &why), -EINVAL);
	assert_int_equal(check_super(1, UINT32_MAX, 0, &why), -EINVAL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(life_vm__descriptors__all_at_their_numbers),
		TEST(life_vm__config__firecracker_keys),
		TEST(life_vm__knock__ready),
		TEST(life_vm__silent_vmm__wait_is_bounded),
		TEST(life_vm__stubborn_vmm__killed_after_grace),
		TEST(life_vm__socket_without_name__connects),
		TEST(life_vm__console_flood__bounded_tail),
		TEST(life_vm__no_such_vmm__says_so),
		TEST(life_vm__image_locked_for_writing__refused),
		TEST(life_vm__parent_killed__vmm_gone),
		TEST(life_ring_tail__wraps_and_escapes__last_lines),
		TEST(life_check_kernel__garbage__says_so),
		TEST(life_check_image__size_in_superblock__compared_with_the_file),
	};
	return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
