/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_harness.h - tests that talk to the real agent binary over a unix socket
 *
 * harness_up() starts one agent in a folder of its own; harness_down() ends it and removes the
 * folder.  A hung test is ended by alarm(), never judged by the clock.
 */
#ifndef SPORE_TESTS_AGENT_HARNESS_H
#define SPORE_TESTS_AGENT_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "supervisor/agentc/agentc.h"

#define HANG_S 120

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct harness {
	char dir[64];
	char sock[100];
	pid_t pid;
};

static struct harness harness;

static inline int harness_listen(const char *path)
{
	union {
		struct sockaddr_un un;
		struct sockaddr any;
	} at = {.un = {.sun_family = AF_UNIX}};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	snprintf(at.un.sun_path, sizeof(at.un.sun_path), "%s", path);
	assert_int_equal(bind(fd, &at.any, sizeof(at.un)), 0);
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

static inline int harness_up(void **state)
{
	char number[16];

	(void)state;
	alarm(HANG_S);
	signal(SIGPIPE, SIG_IGN);
	strcpy(harness.dir, "/tmp/agent-test.XXXXXX");
	assert_non_null(mkdtemp(harness.dir));
	chmod(harness.dir, 0755);
	snprintf(harness.sock, sizeof(harness.sock), "%s/sock", harness.dir);
	int fd = harness_listen(harness.sock);
	snprintf(number, sizeof(number), "%d", fd);
	harness.pid = fork();
	if (harness.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* a test that dies takes its agent along */
		execl(AGENT_PATH, "spore-agent", "--listen-fd", number, "--etc", harness.dir,
		      (char *)NULL);
		_exit(99);
	}
	close(fd);
	return 0;
}

static inline int harness_down(void **state)
{
	char command[128];
	int status;

	(void)state;
	kill(harness.pid, SIGTERM);
	assert_int_equal(waitpid(harness.pid, &status, 0), harness.pid);
	snprintf(command, sizeof(command), "rm -rf %s", harness.dir);
	assert_int_equal(system(command), 0);
	/* The agent itself must have lived to the end, and left in order. */
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return 0;
}

static inline struct agentc agent_at(void)
{
	struct agentc at = agentc_direct(harness.sock);
	at.timeout_ms = 20000;
	return at;
}

/* One number of /proc/PID/status, in its unit. */
static inline long agent_status(const char *key)
{
	char path[64], line[256];
	long value = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", harness.pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) == 0)
			value = atol(line + strlen(key) + 1);
	}
	fclose(f);
	return value;
}

/* Waits (bounded by the alarm only) until the condition holds. */
#define WAIT_FOR(condition)           \
	do {                          \
		while (!(condition))  \
			usleep(2000); \
	} while (0)

struct outcome { /* of a command run to its end */
	char out[65536], err[65536];
	size_t out_len, err_len;
	struct agent_exit how;
	struct agentc_event failed;
	int result; /* 0; -errno of the session */
};

/* Runs to the end, all output into the outcome (cut at its size), stdin from memory. */
static inline void run_with(struct outcome *o, const struct agentc_run *run, const void *in,
			    size_t in_len)
{
	struct agentc at = agent_at();
	struct agentc_exec *x;
	struct agentc_event ev;
	const char *bytes = in;
	size_t fed = 0;
	int eof_sent = 0;

	memset(o, 0, sizeof(*o));
	struct errmsg why = {""};
	assert_int_equal(agentc_exec_start(&x, &at, run, &why), 0);
	for (;;) {
		int got = agentc_exec_wait(x, &ev, 20, &why);
		if (got < 0) {
			o->result = got;
			break;
		}
		if (fed < in_len && agentc_exec_room(x)) {
			ssize_t n = agentc_exec_stdin(x, bytes + fed, in_len - fed);
			fed = n < 0 ? in_len : fed + (size_t)n;
		}
		if (in && fed == in_len && !eof_sent) {
			agentc_exec_stdin_eof(x);
			eof_sent = 1;
		}
		if (got == 0)
			continue;
		if (ev.kind == AGENTC_OUTPUT) {
			char *to = ev.stream == AGENT_STDOUT ? o->out : o->err;
			size_t *len = ev.stream == AGENT_STDOUT ? &o->out_len : &o->err_len;
			size_t n = ev.len < sizeof(o->out) - 1 - *len ? ev.len
								      : sizeof(o->out) - 1 - *len;
			memcpy(to + *len, ev.data, n);
			*len += n;
			agentc_exec_consumed(x, ev.stream, ev.len);
		}
		if (ev.kind == AGENTC_EXIT)
			o->how = ev.exit;
		if (ev.kind == AGENTC_FAILED)
			o->failed = ev;
		if (ev.kind == AGENTC_FAILED || ev.kind == AGENTC_END)
			break;
	}
	agentc_exec_close(x);
}

static inline void run_argv(struct outcome *o, const char *const *argv)
{
	struct agentc_run run = {.argv = argv, .user = "root", .cwd = "/"};
	run_with(o, &run, NULL, 0);
}

static inline void run_sh(struct outcome *o, const char *script)
{
	run_argv(o, (const char *const[]){"/bin/sh", "-c", script, NULL});
}

#endif
