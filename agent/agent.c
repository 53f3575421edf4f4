/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.c - accepts, reaps, keeps time; everything else hangs on the loop
 *
 * Thread: the only one.
 */
#include "agent/agent.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "agent/client.h"
#include "agent/proc.h"
#include "agent/worker.h"

/* --- accept ----------------------------------------------------------------------------------- */

static bool trusted(const struct agent *agent, int fd, const struct sockaddr_vm *peer)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (!agent->trust_uid)
		return peer->svm_family == AF_VSOCK && peer->svm_cid == AGENT_HOST_CID;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == geteuid();
}

static void listener_ready(struct source *source, uint32_t events)
{
	struct agent *agent = (struct agent *)((char *)source - offsetof(struct agent, listener));

	(void)events;
	for (unsigned i = 0; i < EVENTS_BATCH; i++) {
		union {
			struct sockaddr any;
			struct sockaddr_vm vm;
			struct sockaddr_storage space;
		} peer = {0};
		socklen_t len = sizeof(peer);
		int fd = accept4(source->fd, &peer.any, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		if (!trusted(agent, fd, &peer.vm) || agent->client_count >= AGENT_CONN_MAX)
			close(fd);
		else
			client_create(agent,
				      fd); /* on failure it is closed: the client sees that */
	}
}

int agent_listen(struct agent *agent, int fd)
{
	agent->listener.ready = listener_ready;
	agent->listen_ms = now_ms();
	return events_add(&agent->loop, &agent->listener, fd, EPOLLIN);
}

/* --- doorbell --------------------------------------------------------------------------------- */

static void doorbell_ready(struct source *source, uint32_t events)
{
	struct agent *agent = (struct agent *)((char *)source - offsetof(struct agent, doorbell));

	(void)events;
	events_del(&agent->loop, source); /* the request itself was the signal */
}

void agent_ring_doorbell(struct agent *agent)
{
	struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = AGENT_HOST_CID, .svm_port = AGENT_READY_PORT};
	union {
		const struct sockaddr_vm *vm;
		const struct sockaddr *any;
	} to = {.vm = &host};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	if (connect(fd, to.any, sizeof(host)) < 0 && errno == EINPROGRESS &&
	    events_add(&agent->loop, &agent->doorbell, fd, EPOLLOUT) == 0)
		return;
	close(fd);
}

/* --- children --------------------------------------------------------------------------------- */

static void reap(struct agent *agent)
{
	for (;;) {
		int status;
		struct rusage usage;
		pid_t pid = wait4(-1, &status, WNOHANG, &usage);
		if (pid <= 0)
			return;
		if (!proc_reaped(agent, pid, status, &usage))
			worker_reaped(agent, pid); /* or somebody's orphan, when we are init */
	}
}

static void signals_ready(struct source *source, uint32_t events)
{
	struct agent *agent = (struct agent *)((char *)source - offsetof(struct agent, signals));
	struct signalfd_siginfo info;

	(void)events;
	while (read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		bool leave = info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT;
		if (leave && agent->is_init)
			agent->power =
				info.ssi_signo == SIGINT ? AGENT_POWER_REBOOT : AGENT_POWER_OFF;
		agent->stop = agent->stop || leave;
	}
	reap(agent);
}

/* --- life ------------------------------------------------------------------------------------- */

int agent_init(struct agent *agent)
{
	sigset_t set;

	memset(agent, 0, sizeof(*agent));
	agent->listener.fd = agent->signals.fd = agent->doorbell.fd = -1;
	agent->signals.ready = signals_ready;
	agent->doorbell.ready = doorbell_ready;
	agent->etc = "/etc";
	agent->is_init = getpid() == 1;
	getrlimit(RLIMIT_NOFILE, &agent->nofile);
	int err = events_init(&agent->loop);
	if (err < 0)
		return err;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : events_add(&agent->loop, &agent->signals, fd, EPOLLIN);
}

void agent_deinit(struct agent *agent)
{
	while (agent->clients)
		client_destroy(agent->clients);
	proc_destroy_all(agent);
	events_del(&agent->loop, &agent->listener);
	events_del(&agent->loop, &agent->signals);
	events_del(&agent->loop, &agent->doorbell);
	events_deinit(&agent->loop);
}

int agent_turn(struct agent *agent, int max_wait_ms)
{
	uint64_t now = now_ms();
	uint64_t next = UINT64_MAX;
	int wait = max_wait_ms;

	proc_timers(agent, now, &next);
	client_timers(agent, now, &next);
	if (next != UINT64_MAX) {
		uint64_t left = next - now < INT_MAX ? next - now : INT_MAX;
		if (wait < 0 || left < (uint64_t)wait)
			wait = (int)left;
	}
	return events_run(&agent->loop, wait);
}
