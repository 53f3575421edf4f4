/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm.c - a spore-vmm without a VM: the command line's tests run on any machine, and fast
 *
 * It takes spore-vmm's descriptors, starts the real agent on this host beside itself, and joins the two:
 * a connection to the vsock socket says CONNECT, gets OK, and is then the agent's.  What the agent runs, it
 * runs here: tests give it harmless commands.  FAKE_AGENT names the agent's program; FAKE_SILENT=1 never
 * gets ready; FAKE_ETC is the folder for the names of a clone.  Its machine can be captured and loaded (ctl.h);
 * its processes do not live on.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/conlog.h"
#include "tests/fake/ctl.h"

#define CHUNK 65536

static struct sockaddr_un agent_addr = {.sun_family = AF_UNIX};

/* The value of an option as a number, or -1. */
static int number_of(char **argv, const char *name)
{
	for (; argv[0] && argv[1]; argv++)
		if (!strcmp(argv[0], name))
			return atoi(argv[1]);
	return -1;
}

static void log_console(int fd, const char *text)
{
	uint32_t cap;
	uint64_t total;

	if (fd < 0 || conlog_open(fd, &cap, &total, NULL))
		return;
	for (const char *c = text; *c; c++, total++)
		VERIFY(pwrite(fd, c, 1, (off_t)(CONLOG_DATA_AT + total % cap)) == 1);
	total = htole64(total);
	VERIFY(pwrite(fd, &total, sizeof(total), offsetof(struct conlog_head, total)) ==
	       sizeof(total));
}

/* --- joining two sockets -------------------------------------------------------------------------- */

static int write_all(int fd, const char *buf, ssize_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, buf, (size_t)len, MSG_NOSIGNAL);
		if (n < 0)
			return -errno;
		buf += n;
		len -= n;
	}
	return 0;
}

/* Return: 0 more may come; 1 that direction is over. */
static int pass(int from, int to)
{
	char buf[CHUNK];
	ssize_t n = read(from, buf, sizeof(buf));

	if (n > 0 && !write_all(to, buf, n))
		return 0;
	shutdown(to, SHUT_WR);
	return 1;
}

static void join(int one, int two)
{
	struct pollfd at[] = {{.fd = one, .events = POLLIN}, {.fd = two, .events = POLLIN}};

	while (at[0].fd >= 0 && at[1].fd >= 0) {
		if (poll(at, ARRAY_LEN(at), -1) < 0)
			return;
		if (at[0].revents && pass(one, two))
			at[0].fd = -1;
		if (at[1].revents && pass(two, one))
			return; /* the agent has said all */
	}
	while (!pass(two, one))
		;
}

/* "CONNECT 1024\n", byte by byte: what follows is the agent's. */
static int take_connect(int fd)
{
	char c = 0;

	for (int i = 0; i < 32 && c != '\n'; i++)
		if (read(fd, &c, 1) != 1)
			return -1;
	return c == '\n' ? write_all(fd, "OK 1073741824\n", 14) : -1;
}

static void *serve(void *arg)
{
	cleanup_close int fd = (int)(intptr_t)arg;
	cleanup_close int to = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!take_connect(fd) && !connect(to, (struct sockaddr *)&agent_addr, sizeof(agent_addr)))
		join(fd, to);
	return NULL;
}

static void serve_all(int listen_fd, int timeout_ms)
{
	struct pollfd at = {.fd = listen_fd, .events = POLLIN};
	pthread_t thread;

	while (poll(&at, 1, timeout_ms) > 0) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
			pthread_detach(thread);
	}
}

/* --- the agent ------------------------------------------------------------------------------------ */

static void start_agent(void)
{
	const char *program = getenv("FAKE_AGENT"), *etc = getenv("FAKE_ETC");
	char number[16];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(agent_addr.sun_path + 1, sizeof(agent_addr.sun_path) - 1, "fake-vmm-%d", getpid());
	VERIFY(!bind(fd, (struct sockaddr *)&agent_addr, sizeof(agent_addr)) && !listen(fd, 64));
	snprintf(number, sizeof(number), "%d", fd);
	pid_t parent = getpid();
	if (fork() == 0) {
		/* A clone gets a host name of its own: not this host's. */
		if (unshare(CLONE_NEWUTS) && unshare(CLONE_NEWUSER | CLONE_NEWUTS))
			_exit(98);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() == parent) /* the agent closes what it does not know */
			execl(program ? program : "build/spore-agent", "spore-agent", "--listen-fd",
			      number, "--etc", etc ? etc : "/nonexistent", (char *)NULL);
		_exit(99);
	}
	close(fd);
}

static bool has_word(char **argv, const char *name)
{
	for (; *argv; argv++)
		if (!strcmp(*argv, name))
			return true;
	return false;
}

static void say_loaded(unsigned long number)
{
	dprintf(STDERR_FILENO, "spore-vmm: fake: loaded %lu\n", number);
}

static void *serve_ctl(void *arg)
{
	fake_ctl_serve((int)(intptr_t)arg, say_loaded);
	return NULL;
}

int main(int argc, char **argv)
{
	const uint64_t one = 1;
	int listen_fd = number_of(argv, "--vsock-listen-fd");
	int ready = number_of(argv, "--ready-fd"), expire = number_of(argv, "--expire-ms");
	int ctl = number_of(argv, "--ctl-fd");
	bool empty = has_word(argv, "--empty");
	pthread_t thread;

	(void)argc;
	start_agent();
	if (ctl >= 0)
		VERIFY(!pthread_create(&thread, NULL, serve_ctl, (void *)(intptr_t)ctl));
	if (!empty)
		log_console(number_of(argv, "--console-log-fd"),
			    "fake kernel\r\nfake init \033[1mup\n");
	dprintf(STDERR_FILENO, "spore-vmm: fake\n");
	if (!empty && !getenv("FAKE_SILENT"))
		VERIFY(write(ready, &one, sizeof(one)) == sizeof(one));
	serve_all(listen_fd, expire);
	return 0;
}
