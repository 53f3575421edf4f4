/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_seccomp.c - the system call filters: constant programs, made at build time
 *
 * A call outside the filter traps: the kernel sends SIGSYS to the thread, whose handler writes one line
 * and ends the process.  A blocked or missing handler ends it too, by the signal.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <seccomp_filters.h>

#include "base/cleanup.h"
#include "vmm/gen/rules.h"
#include "vmm/sandbox.h"

#define PROGRAM_MAX 256 /* instructions; keeps the copy on the stack */

static const struct {
	const char *name;
	const struct sock_filter *program;
	unsigned short len;
} filters[] = {
	[SANDBOX_CTL] = {"ctl", filter_ctl, ARRAY_LEN(filter_ctl)},
	[SANDBOX_IO] = {"io", filter_io, ARRAY_LEN(filter_io)},
	[SANDBOX_VCPU] = {"vcpu", filter_vcpu, ARRAY_LEN(filter_vcpu)},
};

_Static_assert(ARRAY_LEN(filter_ctl) <= PROGRAM_MAX, "PROGRAM_MAX");
_Static_assert(ARRAY_LEN(filter_io) <= PROGRAM_MAX, "PROGRAM_MAX");
_Static_assert(ARRAY_LEN(filter_vcpu) <= PROGRAM_MAX, "PROGRAM_MAX");

/* The one number that is not known at build time: signals go to this process only. */
static unsigned put_pid(struct sock_filter *program, size_t len)
{
	unsigned count = 0;

	for (size_t i = 0; i < len; i++) {
		if (program[i].code != (BPF_JMP | BPF_JEQ | BPF_K) || program[i].k != RULE_PID)
			continue;
		program[i].k = (uint32_t)getpid();
		count++;
	}
	return count;
}

int sandbox_thread(enum sandbox_role role, struct errmsg *why)
{
	struct sock_filter program[PROGRAM_MAX];
	struct sock_fprog prog = {.len = filters[role].len, .filter = program};
	sigset_t trap;

	memcpy(program, filters[role].program, prog.len * sizeof(program[0]));
	VERIFY(put_pid(program, prog.len) > 0);
	sigemptyset(&trap);
	sigaddset(&trap, SIGSYS);
	VERIFY(pthread_sigmask(SIG_UNBLOCK, &trap, NULL) == 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
		return err_set(why, errno, "seccomp filter of thread %s", filters[role].name);
	return 0;
}

static char *put_number(char *at, unsigned long value, unsigned base)
{
	char digit[2 * sizeof(value)];
	unsigned count = 0;

	do {
		digit[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value && count < sizeof(digit));
	while (count > 0)
		*at++ = digit[--count];
	return at;
}

/* Async-signal-safe, and no more than every filter permits: write and exit_group. */
static void trap(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	const greg_t *reg = uc->uc_mcontext.gregs;
	const greg_t arg[] = {reg[REG_RDI], reg[REG_RSI], reg[REG_RDX], reg[REG_R10]};
	char line[160];
	char *at = stpcpy(line, "spore-vmm: seccomp refused system call ");

	(void)signal;
	at = put_number(at, (unsigned)info->si_syscall, 10);
	for (size_t i = 0; i < ARRAY_LEN(arg); i++) {
		at = stpcpy(at, i == 0 ? " (0x" : ", 0x");
		at = put_number(at, (unsigned long)arg[i], 16);
	}
	at = stpcpy(at, ", ...)\n");
	ssize_t ignored = write(STDERR_FILENO, line, (size_t)(at - line));
	(void)ignored;
	_exit(SANDBOX_STATUS);
}

void sandbox_install_trap_handler(void)
{
	struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};

	sigfillset(&action.sa_mask);
	VERIFY(sigaction(SIGSYS, &action, NULL) == 0);
}
