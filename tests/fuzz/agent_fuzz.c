/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_fuzz.c - the agent's loop under hostile clients: connections, processes, credit, ends
 *
 * The input is a script of steps over up to four connections.  Nothing real is run: spawn() gives
 * pipes without a child, workers are refused, and the clock and kill(2) are replaced.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/client.h"
#include "agent/proc.h"
#include "agent/spawn.h"
#include "agent/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS   4
#define FAKE_PIDS 0x40000000

static struct agent agent;
static int client[CLIENTS];
static int last_status, last_output, last_input; /* the child's ends of the last spawn */
static pid_t last_pid;

int kill(pid_t pid, int signo)
{
	assert(pid >= FAKE_PIDS || -pid >= FAKE_PIDS);
	(void)signo;
	return 0;
}

int clock_settime(clockid_t clock, const struct timespec *ts)
{
	(void)clock;
	(void)ts;
	errno = EPERM;
	return -1;
}

pid_t spawn(struct spawn_fds *fds, const struct exec_request *request, const struct agent *a)
{
	int status[2], output[2], input[2];

	(void)a;
	if (pipe2(status, O_CLOEXEC | O_NONBLOCK) < 0 ||
	    pipe2(output, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(input, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	close(last_status);
	close(last_output);
	close(last_input);
	last_status = status[1];
	last_output = output[1];
	last_input = input[0];
	bool wants_input = request->exec.flags & (AGENT_EXEC_STDIN | AGENT_EXEC_TTY);
	if (!wants_input)
		close(input[1]);
	*fds = (struct spawn_fds){status[0], wants_input ? input[1] : -1, {output[0], -1}};
	return ++last_pid;
}

int worker_start(struct client *c, const struct agent_frame *frame, const void *payload,
		 const void *ahead, size_t ahead_len)
{
	(void)c;
	(void)frame;
	(void)payload;
	(void)ahead;
	(void)ahead_len;
	return -EAGAIN;
}

bool worker_reaped(struct agent *a, pid_t pid)
{
	(void)a;
	(void)pid;
	return false;
}

static void connect_client(unsigned i)
{
	uint8_t hello[64];
	struct agent_hello m = {AGENT_MAGIC, 1, 1, 0};
	int fd[2];

	if (client[i] >= 0)
		close(client[i]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
		abort();
	client[i] = fd[0];
	client_create(&agent, fd[1]);
	long len = agent_msg_put(hello, sizeof(hello), AGENT_HELLO, 0, &m, NULL, 0);
	if (send(fd[0], hello, (size_t)len, MSG_NOSIGNAL) < 0)
		abort();
}

/* The newest process ends, with data left in its pipe or not. */
static void end_process(uint8_t how)
{
	struct rusage usage = {0};
	uint8_t bytes[300] = {how};

	if (how & 1 && write(last_output, bytes, sizeof(bytes)) < 0)
		bytes[0] = 0;
	if (how & 2) {
		close(last_output);
		last_output = -1;
	}
	close(last_status);
	last_status = -1;
	proc_reaped(&agent, last_pid, how & 4 ? 9 : 0x300, &usage);
}

static void child_acts(uint8_t how)
{
	static uint8_t bytes[4096];
	ssize_t n = 0;
	struct spawn_failure failure = {.err = ENOENT, .stage = AGENT_STAGE_EXEC, .text = "no"};

	if (how & 1)
		n = write(last_output, bytes, sizeof(bytes));
	if (how & 2)
		n = read(last_input, bytes, sizeof(bytes));
	if (how & 4)
		n = write(last_status, &failure, sizeof(failure));
	(void)n;
	if (how & 8) {
		close(last_status);
		last_status = -1;
	}
	if (how & 16) {
		close(last_input);
		last_input = -1;
	}
}

static void step(uint8_t op, const uint8_t **at, size_t *left)
{
	uint8_t sink[65536];
	unsigned i = op & 3;
	uint8_t arg = *left ? **at : 0;

	if (*left) {
		++*at;
		--*left;
	}
	switch ((op >> 2) & 7) {
	case 0: connect_client(i); break;
	case 1: child_acts(arg); break;
	case 2: end_process(arg); break;
	case 3:
		if (client[i] >= 0 && recv(client[i], sink, sizeof(sink), 0) < 0)
			sink[0] = 0;
		break;
	case 4:
		if (client[i] >= 0)
			shutdown(client[i], SHUT_WR);
		break;
	default: { /* bytes of the client, `arg` of them or all the rest */
		size_t len = arg == 255 || arg > *left ? *left : arg;
		if (client[i] >= 0 && send(client[i], *at, len, MSG_NOSIGNAL) < 0)
			sink[0] = 0;
		*at += len;
		*left -= len;
	}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	last_status = last_output = last_input = -1;
	last_pid = FAKE_PIDS;
	if (agent_init(&agent) < 0)
		abort();
	agent.is_init = false;
	for (unsigned i = 0; i < CLIENTS; i++) {
		client[i] = -1;
		connect_client(i);
	}
	while (size) {
		uint8_t op = *data++;
		size--;
		step(op, &data, &size);
		agent_turn(&agent, 0);
		agent_turn(&agent, 0);
	}
	agent_deinit(&agent);
	for (unsigned i = 0; i < CLIENTS; i++)
		close(client[i]);
	close(last_status);
	close(last_output);
	close(last_input);
	return 0;
}
