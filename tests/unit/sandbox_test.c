/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process-wide layers, in children of this process: what is gone afterwards, and what must not be.
 * Each case runs as root (where the test has it) and as a plain user.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/compat_landlock.h"
#include "vmm/sandbox.h"

#define PLAIN_USER 12345 /* with no rights to anything */

#define CHECK(cond)                                                                         \
	do {                                                                                \
		if (!(cond)) {                                                              \
			dprintf(STDERR_FILENO, "line %d: %s (errno %d)\n", __LINE__, #cond, \
				errno);                                                     \
			return 1;                                                           \
		}                                                                           \
	} while (0)

/* A sanitizer's runtime makes system calls of its own in every thread, which no filter permits. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#define SKIP_SANITIZED()                                                            \
	do {                                                                        \
		print_message("skip: a sanitizer makes system calls of its own\n"); \
		skip();                                                             \
	} while (0)
#else
#define SKIP_SANITIZED() ((void)0)
#endif

enum who { ROOT, PLAIN };

static int be(enum who who)
{
	if (who == PLAIN && geteuid() == 0) {
		if (setresgid(PLAIN_USER, PLAIN_USER, PLAIN_USER) ||
		    setresuid(PLAIN_USER, PLAIN_USER, PLAIN_USER))
			return -1;
		prctl(PR_SET_DUMPABLE, 1); /* as it is after an execve() */
	}
	return 0;
}

static void run_child(int (*body)(void), enum who who)
{
	int status;

	if (who == ROOT && geteuid() != 0) {
		print_message("skip: not root\n");
		skip();
	}
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(20);
		_exit(be(who) ? 99 : body());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int seal(struct sandbox_cfg cfg, struct sandbox_state *state)
{
	struct errmsg why = {.text = ""};

	int err = sandbox_process(&cfg, state, &why);
	if (err)
		dprintf(STDERR_FILENO, "%s\n", why.text);
	return err;
}

static int field(const char *status, const char *name, char *out, size_t size)
{
	const char *at = strstr(status, name);
	size_t len;

	if (!at)
		return -1;
	at += strlen(name);
	at += strspn(at, " \t");
	len = strcspn(at, "\n");
	if (len >= size)
		return -1;
	memcpy(out, at, len);
	out[len] = '\0';
	return 0;
}

static int status_is(const char *status, const char *name, const char *want)
{
	char got[128] = "?";

	CHECK(field(status, name, got, sizeof(got)) == 0);
	if (strcmp(got, want)) {
		dprintf(STDERR_FILENO, "%s %s, not %s\n", name, got, want);
		return 1;
	}
	return 0;
}

/* A descriptor for our own status: paths are gone afterwards. */
static ssize_t read_status(int proc, char *text, size_t size)
{
	return pread(proc, text, size - 1, 0);
}

static int no_capability_is_left(void)
{
	static const char none[] = "0000000000000000";
	char text[4096] = "";
	int proc = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	struct sandbox_state state;
	bool root = geteuid() == 0;

	CHECK(proc >= 0);
	CHECK(seal((struct sandbox_cfg){.uid = 0}, &state) == 0);
	CHECK(read_status(proc, text, sizeof(text)) > 0);
	CHECK(!status_is(text, "\nCapPrm:", none));
	CHECK(!status_is(text, "\nCapEff:", none));
	CHECK(!status_is(text, "\nCapInh:", none));
	CHECK(!status_is(text, "\nCapAmb:", none));
	CHECK(!status_is(text, "\nNoNewPrivs:", "1"));
	if (root || state.userns)
		CHECK(!status_is(text, "\nCapBnd:", none));
	CHECK(state.user_changed == root);
	if (root) {
		CHECK(!status_is(text, "\nUid:", "65534\t65534\t65534\t65534"));
		CHECK(!status_is(text, "\nGid:", "65534\t65534\t65534\t65534"));
		CHECK(!status_is(text, "\nGroups:", ""));
		CHECK(setuid(0) == -1);
	}
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	CHECK(unshare(CLONE_NEWNS) == -1);
	return 0;
}

static void sandbox_process__root__nobody_without_capabilities(void **state)
{
	(void)state;
	run_child(no_capability_is_left, ROOT);
}

static void sandbox_process__plain_user__no_capabilities_no_new_privs(void **state)
{
	(void)state;
	run_child(no_capability_is_left, PLAIN);
}

static int a_named_user_is_taken(void)
{
	CHECK(seal((struct sandbox_cfg){.uid = 4711, .gid = 4712}, NULL) == 0);
	CHECK(getuid() == 4711 && geteuid() == 4711 && getgid() == 4712);
	return 0;
}

static void sandbox_process__uid_and_gid_named__become_them(void **state)
{
	(void)state;
	run_child(a_named_user_is_taken, ROOT);
}

/* Without namespaces the whole tree is there to be asked for: Landlock alone says no. */
static int landlock_refuses_paths(void)
{
	struct sandbox_state state;

	CHECK(access("/etc/passwd", R_OK) == 0);
	CHECK(seal((struct sandbox_cfg){.no_namespaces = true}, &state) == 0);
	if (!state.landlock_abi)
		return 0;
	CHECK(open("/etc/passwd", O_RDONLY | O_CLOEXEC) == -1 && errno == EACCES);
	CHECK(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) == -1 && errno == EACCES);
	CHECK(open("/tmp/sandbox_test.new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) == -1 &&
	      errno == EACCES);
	CHECK(mkdir("/tmp/sandbox_test.dir", 0700) == -1 && errno == EACCES);
	CHECK(access("/tmp/sandbox_test.new", F_OK) == -1 && errno == ENOENT);
	return 0;
}

static void sandbox_process__landlock__no_path_opens(void **state)
{
	(void)state;
	if (!compat_landlock_abi()) {
		print_message("skip: this kernel has no Landlock\n");
		skip();
	}
	run_child(landlock_refuses_paths, ROOT);
	run_child(landlock_refuses_paths, PLAIN);
}

static int the_root_is_empty(void)
{
	struct sandbox_state state;
	struct stat before, after;

	CHECK(stat("/", &before) == 0);
	CHECK(seal((struct sandbox_cfg){.uid = 0}, &state) == 0);
	CHECK(state.empty_root == state.namespaces);
	if (!state.namespaces)
		return 0; /* a container that may have none */
	CHECK(stat("/", &after) == 0);
	CHECK(before.st_dev != after.st_dev);
	CHECK(access("/etc", F_OK) == -1 && errno == ENOENT);
	CHECK(access("/proc", F_OK) == -1 && errno == ENOENT);
	CHECK(access("/../etc", F_OK) == -1 && errno == ENOENT);
	CHECK(access("../etc", F_OK) == -1 && errno == ENOENT);
	return 0;
}

static void sandbox_process__namespaces__root_is_empty(void **state)
{
	(void)state;
	run_child(the_root_is_empty, ROOT);
	run_child(the_root_is_empty, PLAIN);
}

static int nothing_becomes_executable(void)
{
	struct sandbox_state state;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(page != MAP_FAILED);
	CHECK(seal((struct sandbox_cfg){.uid = 0}, &state) == 0);
	bool refused = mprotect(page, 4096, PROT_READ | PROT_EXEC) == -1 && errno == EACCES;
	CHECK(refused == state.no_exec_gain);
	return 0;
}

static void sandbox_process__mdwe__no_page_becomes_executable(void **state)
{
	(void)state;
	run_child(nothing_becomes_executable, PLAIN);
}

static int limits_are_low(void)
{
	struct rlimit core, files;

	CHECK(seal((struct sandbox_cfg){.uid = 0}, NULL) == 0);
	CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 && core.rlim_max == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max <= SANDBOX_NOFILE);
	CHECK(files.rlim_cur == files.rlim_max);
	return 0;
}

static void sandbox_process__limits__no_core_few_files(void **state)
{
	(void)state;
	run_child(limits_are_low, ROOT);
	run_child(limits_are_low, PLAIN);
}

/* --- the vsock's folder --------------------------------------------------------------------------- */

static char folder[32];
static char abstract_name[32];

static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 8) || chmod(path, 0777))
		return -1;
	return fd;
}

static int try_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
}

static int only_the_folder_is_there(void)
{
	char path[64];
	struct sandbox_state state;

	snprintf(path, sizeof(path), "%s/in/v_52", folder);
	CHECK(try_connect(path) == 0);
	snprintf(path, sizeof(path), "%s/in/v", folder);
	CHECK(seal((struct sandbox_cfg){.uds_path = path}, &state) == 0);
	snprintf(path, sizeof(path), "%s/in/v_52", folder);
	CHECK(try_connect(path) == 0);
	if (!state.namespaces)
		return 0;
	snprintf(path, sizeof(path), "%s/out", folder);
	CHECK(try_connect(path) == -ENOENT);
	snprintf(path, sizeof(path), "%s/in/../out", folder);
	CHECK(try_connect(path) == -ENOENT);
	snprintf(path, sizeof(path), "%s/in/new", folder);
	CHECK(mkdir(path, 0700) == -1);
	return 0;
}

static int a_relative_name_stays_good(void)
{
	CHECK(chdir(folder) == 0);
	CHECK(seal((struct sandbox_cfg){.uds_path = "in/v"}, NULL) == 0);
	CHECK(try_connect("in/v_52") == 0);
	return 0;
}

static int a_bare_name_stays_good(void)
{
	CHECK(chdir(folder) == 0 && chdir("in") == 0);
	CHECK(seal((struct sandbox_cfg){.uds_path = "v"}, NULL) == 0);
	CHECK(try_connect("v_52") == 0);
	CHECK(try_connect("../out") != 0);
	return 0;
}

static void sandbox_process__uds_path__its_folder_and_nothing_else(void **state)
{
	(void)state;
	run_child(only_the_folder_is_there, PLAIN);
	run_child(a_relative_name_stays_good, PLAIN);
	run_child(only_the_folder_is_there, ROOT);
	run_child(a_relative_name_stays_good, ROOT);
	run_child(a_bare_name_stays_good, ROOT);
}

static int abstract_sockets_are_gone(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct sandbox_state state;
	socklen_t len =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract_name));

	memcpy(addr.sun_path + 1, abstract_name, strlen(abstract_name));
	CHECK(seal((struct sandbox_cfg){.uid = 0}, &state) == 0);
	cleanup_close int inside = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (state.namespaces || state.landlock_abi >= 6)
		CHECK(connect(inside, (struct sockaddr *)&addr, len) == -1);
	return 0;
}

static void sandbox_process__hosts_abstract_socket__out_of_reach(void **state)
{
	(void)state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(abstract_name, sizeof(abstract_name), "sandbox_test.%d", (int)getpid());
	memcpy(addr.sun_path + 1, abstract_name, strlen(abstract_name));
	socklen_t len =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract_name));
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	run_child(abstract_sockets_are_gone, ROOT);
	run_child(abstract_sockets_are_gone, PLAIN);
}

/* --- threads -------------------------------------------------------------------------------------- */

static pthread_barrier_t loaded;

static void *confined(void *arg)
{
	if (sandbox_thread(*(enum sandbox_role *)arg, NULL))
		_exit(98);
	pthread_barrier_wait(&loaded);
	pthread_barrier_wait(&loaded); /* the main thread has looked */
	return NULL;
}

static int every_thread_has_a_filter(void)
{
	enum sandbox_role role[] = {SANDBOX_IO, SANDBOX_VCPU, SANDBOX_VCPU};
	pthread_t thread[ARRAY_LEN(role)];
	int proc[ARRAY_LEN(role) + 1];
	char text[4096];

	pthread_barrier_init(&loaded, NULL, ARRAY_LEN(role) + 1);
	proc[0] = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(proc[0] >= 0 && tasks >= 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	for (size_t i = 0; i < ARRAY_LEN(role); i++) {
		CHECK(pthread_create(&thread[i], NULL, confined, &role[i]) == 0);
		snprintf(text, sizeof(text), "%d/status", (int)(getpid() + 1 + (int)i));
		proc[i + 1] = openat(tasks, text, O_RDONLY | O_CLOEXEC);
	}
	pthread_barrier_wait(&loaded);
	for (size_t i = 1; i < ARRAY_LEN(proc); i++) {
		if (proc[i] < 0)
			continue; /* another process took the number */
		memset(text, 0, sizeof(text));
		CHECK(read_status(proc[i], text, sizeof(text)) > 0);
		CHECK(!status_is(text, "\nSeccomp:", "2"));
		CHECK(!status_is(text, "\nSeccomp_filters:", "1"));
	}
	memset(text, 0, sizeof(text));
	CHECK(read_status(proc[0], text, sizeof(text)) > 0);
	CHECK(!status_is(text, "\nSeccomp:", "0"));
	pthread_barrier_wait(&loaded);
	/* As vmm_start() does: ctl narrows itself last, and can still take the others down. */
	CHECK(sandbox_thread(SANDBOX_CTL, NULL) == 0);
	for (size_t i = 0; i < ARRAY_LEN(thread); i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
	return 0;
}

static void sandbox_thread__io_and_vcpus__each_has_one_filter(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	run_child(every_thread_has_a_filter, PLAIN);
}

/* --- fixture -------------------------------------------------------------------------------------- */

static int make_folder(void **state)
{
	char path[64];

	strcpy(folder, "/tmp/sandbox_test.XXXXXX");
	if (!mkdtemp(folder) || chmod(folder, 0755))
		return -1;
	snprintf(path, sizeof(path), "%s/in", folder);
	if (mkdir(path, 0755))
		return -1;
	snprintf(path, sizeof(path), "%s/in/v_52", folder);
	if (listen_at(path) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/out", folder);
	*state = folder;
	return listen_at(path) < 0;
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", (const char *)*state);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sandbox_process__root__nobody_without_capabilities),
		cmocka_unit_test(sandbox_process__plain_user__no_capabilities_no_new_privs),
		cmocka_unit_test(sandbox_process__uid_and_gid_named__become_them),
		cmocka_unit_test(sandbox_process__landlock__no_path_opens),
		cmocka_unit_test(sandbox_process__namespaces__root_is_empty),
		cmocka_unit_test(sandbox_process__mdwe__no_page_becomes_executable),
		cmocka_unit_test(sandbox_process__limits__no_core_few_files),
		cmocka_unit_test(sandbox_process__uds_path__its_folder_and_nothing_else),
		cmocka_unit_test(sandbox_process__hosts_abstract_socket__out_of_reach),
		cmocka_unit_test(sandbox_thread__io_and_vcpus__each_has_one_filter),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
