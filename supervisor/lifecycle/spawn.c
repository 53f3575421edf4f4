/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork and exec of the VMM.  Between the two the child only makes system calls: it puts its descriptors
 * at their numbers, closes all others, leaves the terminal's process group (so that Ctrl-C reaches the
 * guest's command and not the VMM), and asks for SIGKILL at its parent's end, or writes down who it is.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/child.h"
#include "supervisor/lifecycle/vm_parts.h"
#include "wire/agent.h"

#define ARGS_MAX  32
#define LIFT_FROM 64 /* above every fixed number */

struct vmm_args {
	char listen[12], ready[12], port[12], net[12], timings[32], console[12], expire[16],
		ctl[12];
	const char *argv[ARGS_MAX];
};

static const char **net_args(struct vmm_args *a, const char **at, const struct life_net *net)
{
	if (net->fd <= 0)
		return at;
	snprintf(a->net, sizeof(a->net), "%d", LIFE_FD_NET);
	*at++ = "--net-fd";
	*at++ = a->net;
	*at++ = "--net-filter";
	if (net->allow_private)
		*at++ = "--net-private";
	if (net->dns) {
		*at++ = "--net-dns";
		*at++ = net->dns;
	}
	if (net->gateway) {
		*at++ = "--net-gateway";
		*at++ = net->gateway;
	}
	return at;
}

static const char **home_args(struct vmm_args *a, const char **at, const struct life_config *cfg)
{
	*at++ = "--console-log-fd";
	*at++ = a->console;
	*at++ = "--ctl-fd";
	*at++ = a->ctl;
	if (cfg->empty)
		*at++ = "--empty";
	if (cfg->home->expire_ms) {
		*at++ = "--expire-ms";
		*at++ = a->expire;
	}
	return at;
}

static void build_args(struct vmm_args *a, const struct life_config *cfg)
{
	const char **at = a->argv;

	snprintf(a->listen, sizeof(a->listen), "%d", LIFE_FD_LISTEN);
	snprintf(a->ready, sizeof(a->ready), "%d", LIFE_FD_READY);
	snprintf(a->port, sizeof(a->port), "%u", AGENT_READY_PORT);
	snprintf(a->timings, sizeof(a->timings), "/proc/self/fd/%d", LIFE_FD_TIMINGS);
	snprintf(a->console, sizeof(a->console), "%d", LIFE_FD_CONSOLE);
	snprintf(a->ctl, sizeof(a->ctl), "%d", LIFE_FD_CTL);
	snprintf(a->expire, sizeof(a->expire), "%u", cfg->home ? cfg->home->expire_ms : 0);
	*at++ = cfg->vmm;
	*at++ = "--no-api";
	*at++ = "--config-file";
	*at++ = "/proc/self/fd/3";
	*at++ = "--vsock-listen-fd";
	*at++ = a->listen;
	*at++ = "--ready-fd";
	*at++ = a->ready;
	*at++ = "--ready-port";
	*at++ = a->port;
	if (cfg->kvm) {
		*at++ = "--kvm";
		*at++ = cfg->kvm;
	}
	if (cfg->timings) {
		*at++ = "--timings";
		*at++ = a->timings;
	}
	if (cfg->home)
		at = home_args(a, at, cfg);
	at = net_args(a, at, &cfg->net);
	*at = NULL;
	assert(at < a->argv + ARGS_MAX);
}
static_assert(LIFE_FD_CONFIG == 3, "build_args() names it");

/* First out of the way of the fixed numbers, then onto them. */
static int place_fds(const struct life_parts *parts, int in, int report)
{
	int lifted[LIFE_FD_END + 1],
		source[LIFE_FD_END] = {in, parts->console_write, parts->messages_write};

	if (source[STDOUT_FILENO] < 0)
		source[STDOUT_FILENO] = in;
	for (int i = LIFE_FD_CONFIG; i < LIFE_FD_END; i++)
		source[i] = parts->fd[i];
	for (int i = 0; i < LIFE_FD_END; i++)
		lifted[i] = source[i] < 0 ? -1 : fcntl(source[i], F_DUPFD_CLOEXEC, LIFT_FROM);
	lifted[LIFE_FD_END] = fcntl(report, F_DUPFD_CLOEXEC, LIFT_FROM);
	for (int i = 0; i < LIFE_FD_END; i++)
		if (lifted[i] < 0)
			close(i); /* whatever of ours stands there */
		else if (dup2(lifted[i], i) < 0)
			return -errno;
	syscall(SYS_close_range, LIFE_FD_END, ~0u, CLOSE_RANGE_CLOEXEC);
	return lifted[LIFE_FD_END];
}

/* The number that a later command finds this process by, whatever becomes of the one that starts it. */
static int say_pid(int fd)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	return pwrite(fd, text, (size_t)len, 0) == len ? 0 : -1;
}

static int die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return getppid() == parent ? 0 : -1; /* it may have ended before the request took effect */
}

_Noreturn static void child(const struct vmm_args *args, const struct life_parts *parts, int report,
			    pid_t parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), alive = parts->fd[LIFE_FD_ALIVE];

	child_default_signals();
	setsid();
	if (alive >= 0 ? say_pid(alive) : die_with(parent))
		_exit(1);
	int to = place_fds(parts, null, report);
	if (to >= 0)
		execv(args->argv[0], (char *const *)(uintptr_t)args->argv);
	int err = errno;
	if (write(to, &err, sizeof(err)) < 0)
		_exit(2);
	_exit(1);
}

int life_spawn(const struct life_config *cfg, const struct life_parts *parts, int *pid, int *pidfd,
	       struct errmsg *why)
{
	struct vmm_args args;
	int report[2], err = 0;
	pid_t self = getpid();

	build_args(&args, cfg);
	if (pipe2(report, O_CLOEXEC))
		return err_set(why, errno, "pipe");
	pid_t made = fork();
	if (!made)
		child(&args, parts, report[1], self);
	int fork_errno = errno;
	close(report[1]);
	cleanup_close int from = report[0];
	if (made < 0)
		return err_set(why, fork_errno, "fork");
	ssize_t n = read(from, &err, sizeof(err)); /* end of file: exec has closed the other end */
	*pidfd = (int)syscall(SYS_pidfd_open, made, 0);
	if (n == (ssize_t)sizeof(err) || *pidfd < 0) {
		err = *pidfd < 0 ? errno : err;
		kill(made, SIGKILL);
		waitpid(made, NULL, 0);
		cleanup_close_fn(pidfd);
		return err_set(why, err, "start %s", cfg->vmm);
	}
	*pid = made;
	return 0;
}
