/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - spore-agent: init of a guest when it is PID 1, a service otherwise
 *
 *   spore-agent                serve on vsock port AGENT_PORT
 *   spore-agent --listen-fd N  serve on an inherited listening unix socket instead; its peers must
 *                              have our own uid.  For tests, and for services started by another.
 *   spore-agent --etc DIR      where hostname and machine-id are written (default /etc)
 *   spore-agent --version
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "agent/agent.h"
#include "base/cleanup.h"

struct options {
	int listen_fd;
	const char *etc;
};

/* 0, 1, 2 must be taken: a pipe that landed there would become a child's stdin. */
static void hold_stdio(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

/* What our parent left open is not for the programs that we run. */
static void close_inherited(int keep)
{
	if (keep > 3)
		syscall(SYS_close_range, 3, keep - 1, 0);
	syscall(SYS_close_range, keep >= 3 ? keep + 1 : 3, ~0u, 0);
}

static int listen_vsock(void)
{
	struct sockaddr_vm any = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_PORT};
	union {
		const struct sockaddr_vm *vm;
		const struct sockaddr *any;
	} at = {.vm = &any};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, at.any, sizeof(any)) < 0 || listen(fd, 128) < 0) {
		int err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

static int adopt_listener(int fd)
{
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return -errno;
	return fd;
}

/* Never the OOM killer's choice, if we may say so; children are put back to 0. */
static void protect_from_oom(void)
{
	cleanup_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "-1000", 5) < 0)
		return;
}

static int parse(struct options *options, int argc, char **argv)
{
	*options = (struct options){.listen_fd = -1, .etc = "/etc"};
	for (int i = 1; i < argc; i += 2) {
		if (strcmp(argv[i], "--version") == 0) {
			printf("spore-agent %s\n", SPORE_VERSION);
			exit(0);
		}
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (value && strcmp(argv[i], "--listen-fd") == 0)
			options->listen_fd = atoi(value);
		else if (value && strcmp(argv[i], "--etc") == 0)
			options->etc = value;
		else
			return -EINVAL;
	}
	return 0;
}

static int serve(struct agent *agent, const struct options *options)
{
	int err = agent_init(agent);

	if (err < 0)
		return err;
	agent->etc = options->etc;
	agent->trust_uid = options->listen_fd >= 0;
	int fd = options->listen_fd >= 0 ? adopt_listener(options->listen_fd) : listen_vsock();
	if (fd < 0)
		return fd;
	err = agent_listen(agent, fd);
	if (err < 0)
		return err;
	if (!agent->trust_uid)
		agent_ring_doorbell(agent);
	while (err >= 0 && !agent->stop)
		err = agent_turn(agent, -1);
	return err;
}

int main(int argc, char **argv)
{
	static struct agent agent;
	struct options options;

	hold_stdio();
	if (getpid() == 1) {
		init_early();
		argc = 1; /* what the kernel passes on is not for us */
	}
	if (parse(&options, argc, argv) < 0) {
		fprintf(stderr, "usage: spore-agent [--listen-fd N] [--etc DIR] [--version]\n");
		return 2;
	}
	close_inherited(options.listen_fd);
	protect_from_oom();
	int err = serve(&agent, &options);
	if (err < 0)
		fprintf(stderr, "spore-agent: %s\n", strerror(-err));
	if (agent.is_init)
		init_power(agent.power ? agent.power : AGENT_POWER_OFF, agent.power_grace_ms);
	agent_deinit(&agent);
	return err < 0;
}
