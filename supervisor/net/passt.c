/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt says that it is set up by writing its process number to a file: here the file is a pipe, named through
 * /proc/self/fd.  Started as root it becomes "nobody" before it opens that: hence the pipe's mode.
 */
#include "supervisor/net/passt.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/child.h"

#define START_MS  30000 /* it takes 15 ms, and longer on a loaded machine */
#define LIFT_FROM 64
#define NO_PORTS  "none"
#define LOOPBACK  "127.0.0.1/" /* published ports are for this machine */

enum { FD_IN, FD_OUT, FD_ERR, FD_SOCKET, FD_READY, FD_END };

bool passt_find(char *path, size_t cap)
{
	const char *folders = getenv("PATH");

	for (const char *at = folders ? folders : "/usr/bin:/bin"; *at;) {
		size_t len = strcspn(at, ":");
		int n = snprintf(path, cap, "%.*s/passt", (int)len, at);
		if (len && n > 0 && (size_t)n < cap && !access(path, X_OK))
			return true;
		at += len + (at[len] == ':');
	}
	return false;
}

/* Takes a port from *at.  Return: 1 to 65535, or 0. */
static unsigned take_port(const char **at)
{
	unsigned port = 0;

	while (isdigit((unsigned char)**at) && port <= UINT16_MAX)
		port = port * 10 + (unsigned)(*(*at)++ - '0');
	return port <= UINT16_MAX ? port : 0;
}

int passt_publish(struct passt_config *cfg, const char *text, struct errmsg *why)
{
	const char *at = text;
	unsigned host = take_port(&at), guest = 0;

	if (host && *at == ':') {
		at++;
		guest = take_port(&at);
	}
	bool udp = !strcmp(at, "/udp");
	if (!guest || (*at && !udp && strcmp(at, "/tcp")))
		return err_set(why, 0, "'%s' is not HOST:GUEST or HOST:GUEST/udp", text);
	char *list = udp ? cfg->udp : cfg->tcp;
	size_t len = strlen(list);
	int n = snprintf(list + len, PASST_PORTS_MAX - len, "%s%u:%u", len ? "," : LOOPBACK, host,
			 guest);
	if (n < 0 || (size_t)n >= PASST_PORTS_MAX - len)
		return err_set(why, 0, "'%s': too many ports", text);
	return 0;
}

/* Descriptors at their numbers, all others closed; away from the terminal's Ctrl-C. */
_Noreturn static void child(const char *path, char *const argv[], int socket_fd, int ready, int err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int from[FD_END] = {null, null, err, socket_fd, ready};
	int lifted[FD_END];

	child_default_signals();
	setsid();
	for (int i = 0; i < FD_END; i++)
		lifted[i] = fcntl(from[i], F_DUPFD_CLOEXEC, LIFT_FROM);
	for (int i = 0; i < FD_END; i++)
		if (dup2(lifted[i], i) < 0)
			_exit(126);
	syscall(SYS_close_range, FD_END, ~0u, CLOSE_RANGE_CLOEXEC);
	execv(path, argv);
	_exit(127);
}

static pid_t spawn(const char *path, const struct passt_config *cfg, int socket_fd, int ready,
		   int err)
{
	const char *argv[32];
	const char **at = argv;

	*at++ = "passt";
	*at++ = "--foreground";
	*at++ = "--quiet";
	*at++ = "--stderr";
	*at++ = "--fd=3";
	*at++ = "--pid=/proc/self/fd/4";
	*at++ = "--address=" NET_GUEST;
	*at++ = "--netmask=255.255.255.0";
	*at++ = "--gateway=" NET_GATEWAY;
	*at++ = "--dns-forward=" NET_DNS;
	*at++ = "--tcp-ports";
	*at++ = *cfg->tcp ? cfg->tcp : NO_PORTS;
	*at++ = "--udp-ports";
	*at++ = *cfg->udp ? cfg->udp : NO_PORTS;
	if (!cfg->allow_loopback)
		*at++ = "--no-map-gw";
	*at = NULL;
	pid_t pid = fork();
	if (!pid)
		child(path, (char *const *)(uintptr_t)argv, socket_fd, ready, err);
	return pid < 0 ? -errno : pid;
}
static_assert(FD_SOCKET == 3 && FD_READY == 4, "named in the arguments");

/* The last line of what it said, without what a terminal would act on. */
static void last_words(int fd, char *text, size_t cap)
{
	ssize_t n = read(fd, text, cap - 1);

	text[n > 0 ? n : 0] = '\0';
	for (size_t len = strlen(text); len && text[len - 1] == '\n';)
		text[--len] = '\0';
	char *line = strrchr(text, '\n');
	if (line)
		memmove(text, line + 1, strlen(line + 1) + 1);
	for (char *c = text; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
}

static int wait_ready(int ready, int err, struct errmsg *why)
{
	struct pollfd at = {.fd = ready, .events = POLLIN};
	char words[1024];
	char number[16];

	if (poll(&at, 1, START_MS) <= 0)
		return err_set(why, ETIMEDOUT, "passt did not start");
	if (read(ready, number, sizeof(number)) > 0)
		return 0;
	last_words(err, words, sizeof(words));
	return err_set(why, 0, "passt: %s", *words ? words : "ended at once");
}

/* Both ends close-on-exec. */
static int make_pipe(int *read_end, int *write_end, struct errmsg *why)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return err_set(why, errno, "pipe");
	*read_end = fds[0];
	*write_end = fds[1];
	return fchmod(fds[1], 0622) ? err_set(why, errno, "pipe") : 0;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int passt_start(const struct passt_config *cfg, int *pid, struct errmsg *why)
{
	cleanup_close int ready_in = -1;
	cleanup_close int ready_out = -1;
	cleanup_close int words_in = -1;
	cleanup_close int words_out = -1;
	int pair[2];
	char path[512];

	if (!passt_find(path, sizeof(path)))
		return err_set(why, ENOENT, "passt");
	int err = make_pipe(&ready_in, &ready_out, why);
	if (!err)
		err = make_pipe(&words_in, &words_out, why);
	if (err)
		return err;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_set(why, errno, "socket pair");
	cleanup_close int ours = pair[0];
	pid_t made = spawn(path, cfg, pair[1], ready_out, words_out);
	close(pair[1]);
	cleanup_close_fn(&ready_out);
	cleanup_close_fn(&words_out);
	if (made < 0)
		return err_set(why, (int)made, "start %s", path);
	err = wait_ready(ready_in, words_in, why);
	if (err) {
		end(made);
		return err;
	}
	*pid = made;
	return steal_fd(&ours);
}
