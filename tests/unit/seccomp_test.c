/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filters against the kernel, call by call, in children of this process: every row of rules.h lets
 * its call pass, every mutation of an argument it compares dies, and every call that no row names dies.
 */
#include <errno.h>
#include <linux/audit.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "vmm/gen/rules.h"
#include "vmm/options.h"
#include "vmm/sandbox.h"

#define NR_END 512 /* past the last system call of Linux 6.18 */
#define NR_UPROBE \
	336 /* Linux exempts it from every filter: it works from a kernel-made page only */

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

static const unsigned role_bit[] = {[SANDBOX_CTL] = CTL, [SANDBOX_IO] = IO, [SANDBOX_VCPU] = VCPU};

struct call {
	long nr;
	uint64_t arg[6];
};

/* Nothing that a process could come to harm by: bad descriptors, bad addresses. */
static struct call call_of(long nr)
{
	return (struct call){.nr = nr, .arg = {-1ul, -1ul, -1ul, -1ul, -1ul, -1ul}};
}

/* In the child, under the filter: no C library from here. */
static void make_call(const struct call *call)
{
	register uint64_t r10 __asm__("r10") = call->arg[3];
	register uint64_t r8 __asm__("r8") = call->arg[4];
	register uint64_t r9 __asm__("r9") = call->arg[5];
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(call->nr), "D"(call->arg[0]), "S"(call->arg[1]), "d"(call->arg[2]),
			   "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
}

enum stop_signals { STOP_DEFAULT, STOP_IGNORE };

/* Loads the role's filter and makes the call.  Return: the child's wait status; the call's pid is ours. */
static int run(enum sandbox_role role, const struct call *call, enum stop_signals kicks)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct call own = *call;
		for (size_t i = 0; i < ARRAY_LEN(own.arg); i++)
			if ((uint32_t)own.arg[i] == RULE_PID)
				own.arg[i] = (uint64_t)getpid();
		signal(SIGSYS, SIG_DFL);
		signal(SIGABRT, kicks == STOP_IGNORE ? SIG_IGN : SIG_DFL);
		signal(RULE_KICK, kicks == STOP_IGNORE ? SIG_IGN : SIG_DFL);
		alarm(20);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || sandbox_thread(role, NULL))
			_exit(99);
		make_call(&own);
		make_call(&(struct call){.nr = SYS_exit_group});
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool died(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static bool arg_passes(const struct rule_arg *arg, const struct call *call)
{
	return (call->arg[arg->index] & arg->mask) == arg->value;
}

/* What the table says, read without libseccomp. */
static bool permitted(enum sandbox_role role, const struct call *call)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		const struct rule *rule = &rules[i];
		if ((rule->roles & role_bit[role]) && rule->nr == call->nr &&
		    arg_passes(&rule->arg[0], call) && arg_passes(&rule->arg[1], call))
			return true;
	}
	return false;
}

/* A call that meets the row's conditions. */
static struct call call_for(const struct rule *rule)
{
	struct call call = call_of(rule->nr);

	for (size_t i = 0; i < ARRAY_LEN(rule->arg); i++) {
		const struct rule_arg *arg = &rule->arg[i];
		if (arg->mask)
			call.arg[arg->index] = (call.arg[arg->index] & ~arg->mask) | arg->value;
	}
	if (rule->nr == __NR_futex)
		call.arg[1] = 0x7f; /* no such operation: -1 would be a wait */
	return call;
}

static void seccomp__every_row__passes(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	for (enum sandbox_role role = SANDBOX_CTL; role <= SANDBOX_VCPU; role++) {
		for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
			if (!(rules[i].roles & role_bit[role]) || rules[i].nr == __NR_rt_sigreturn)
				continue; /* rt_sigreturn without a frame is a crash of its own */
			struct call call = call_for(&rules[i]);
			int status = run(role, &call, STOP_IGNORE);
			if (!WIFEXITED(status) || WEXITSTATUS(status) == 99)
				fail_msg("role %d, %s (%s): status 0x%x", role, rules[i].name,
					 rules[i].why, status);
		}
	}
}

static void seccomp__return_from_a_handler__passes(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	for (enum sandbox_role role = SANDBOX_CTL; role <= SANDBOX_VCPU; role++) {
		const struct call call = {.nr = SYS_rt_sigreturn};
		int status = run(role, &call, STOP_DEFAULT);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
}

/* Each bit of each compared argument, unless another row permits just that. */
static void seccomp__mutated_argument__dies(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	unsigned tried = 0;

	for (enum sandbox_role role = SANDBOX_CTL; role <= SANDBOX_VCPU; role++) {
		for (size_t i = 0; i < ARRAY_LEN(rules) * 2 * 32; i++) {
			const struct rule *rule = &rules[i / 64];
			const struct rule_arg *arg = &rule->arg[i / 32 % 2];
			struct call call = call_for(rule);
			if (arg->value == RULE_PID)
				call.arg[arg->index] = 1; /* init, then other wrong processes */
			call.arg[arg->index] ^= UINT64_C(1) << i % 32;
			if (!(rule->roles & role_bit[role]) || !(arg->mask >> i % 32 & 1) ||
			    permitted(role, &call))
				continue;
			if (!died(run(role, &call, STOP_IGNORE)))
				fail_msg("role %d, %s, argument %u = 0x%llx passed", role,
					 rule->name, arg->index,
					 (unsigned long long)call.arg[arg->index]);
			tried++;
		}
	}
	assert_true(tried > 300);
}

static void seccomp__call_without_a_row__dies(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	for (enum sandbox_role role = SANDBOX_CTL; role <= SANDBOX_VCPU; role++) {
		for (long nr = 0; nr < NR_END; nr++) {
			bool named = nr == NR_UPROBE;
			for (size_t i = 0; i < ARRAY_LEN(rules); i++)
				named |= rules[i].nr == nr && (rules[i].roles & role_bit[role]);
			const struct call call = call_of(nr);
			if (!named && !died(run(role, &call, STOP_IGNORE)))
				fail_msg("role %d: system call %ld passed", role, nr);
		}
	}
}

static void seccomp__attacks__die(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	const struct call attacks[] = {
		{SYS_execve, {0}},
		{SYS_socket, {AF_INET, SOCK_STREAM}},
		{SYS_socket, {AF_NETLINK, SOCK_RAW}},
		{SYS_openat, {(uint64_t)AT_FDCWD, (uintptr_t) "/etc/passwd", O_RDONLY}},
		{SYS_ptrace, {0}},
		{SYS_clone, {SIGCHLD}},
		{SYS_clone3, {0}},
		{SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}},
		{SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1ul}},
		{SYS_ioctl, {0, KVM_CREATE_VM}},
		{SYS_ioctl, {0, TIOCSTI}},
		{SYS_io_uring_setup, {8}},
		{SYS_tgkill, {1, 1, SIGABRT}},
		{SYS_prctl, {PR_SET_DUMPABLE, 1}},
		{SYS_unshare, {0}},
		{0x40000000 | SYS_getpid, {0}}, /* the x32 table */
	};

	for (enum sandbox_role role = SANDBOX_CTL; role <= SANDBOX_VCPU; role++)
		for (size_t i = 0; i < ARRAY_LEN(attacks); i++)
			if (!died(run(role, &attacks[i], STOP_IGNORE)))
				fail_msg("role %d: attack %zu (call %ld) passed", role, i,
					 attacks[i].nr);
}

static void seccomp__without_no_new_privs__refused(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	struct errmsg why = {.text = ""};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534))
			_exit(1);
		int err = sandbox_thread(SANDBOX_IO, &why);
		_exit(err == -EACCES && !strcmp(why.text,
						"seccomp filter of thread io: Permission denied")
			      ? 0
			      : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* --- the report ----------------------------------------------------------------------------------- */

static void *attack_in_thread(void *arg)
{
	(void)arg;
	sigset_t all;
	sigfillset(&all); /* as the machine starts its threads */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	if (sandbox_thread(SANDBOX_VCPU, NULL))
		_exit(99);
	make_call(&(struct call){.nr = SYS_ioctl, .arg = {7, 0xae01, 3, 4}});
	_exit(98);
}

static void trap__refused_call_in_a_thread__one_line_and_148(void **state)
{
	(void)state;
	SKIP_SANITIZED();
	char line[160] = "";
	int end[2], status;

	assert_int_equal(SANDBOX_STATUS, EXIT_STATUS_SIGSYS);
	assert_int_equal(pipe(end), 0);
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t thread;
		dup2(end[1], STDERR_FILENO);
		sandbox_install_trap_handler();
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		pthread_create(&thread, NULL, attack_in_thread, NULL);
		pthread_join(thread, NULL);
		_exit(97);
	}
	close(end[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), SANDBOX_STATUS);
	assert_true(read(end[0], line, sizeof(line) - 1) > 0);
	close(end[0]);
	assert_string_equal(
		line, "spore-vmm: seccomp refused system call 16 (0x7, 0xae01, 0x3, 0x4, ...)\n");
}

static void rules__kick__is_glibcs_first_signal(void **state)
{
	(void)state;
	assert_int_equal(SIGRTMIN, RULE_KICK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seccomp__every_row__passes),
		cmocka_unit_test(seccomp__return_from_a_handler__passes),
		cmocka_unit_test(seccomp__mutated_argument__dies),
		cmocka_unit_test(seccomp__call_without_a_row__dies),
		cmocka_unit_test(seccomp__attacks__die),
		cmocka_unit_test(seccomp__without_no_new_privs__refused),
		cmocka_unit_test(trap__refused_call_in_a_thread__one_line_and_148),
		cmocka_unit_test(rules__kick__is_glibcs_first_signal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
