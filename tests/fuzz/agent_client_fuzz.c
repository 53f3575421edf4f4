/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_client_fuzz.c - the host's client of the agent against a hostile guest
 *
 * The first byte says which call; the rest is all that the guest ever says.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/agentc/agentc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_entry(void *arg, const struct agentc_entry *entry)
{
	char text[64];
	(void)arg;
	agentc_escape(text, sizeof(text), entry->path, strlen(entry->path));
	return strlen(entry->owner) + strlen(entry->group) + strlen(entry->target) > 100000;
}

static int on_proc(void *arg, const struct agentc_proc *proc)
{
	const char *at = proc->strings;
	size_t len = 0;

	(void)arg;
	for (uint32_t i = 0; i < proc->raw.argc + proc->raw.envc; i++) {
		len += strlen(at);
		at += strlen(at) + 1;
	}
	return len + strlen(proc->user) + strlen(proc->cwd) + strlen(proc->tag) > 1000000;
}

static int sink(void *arg, const void *buf, size_t len)
{
	volatile uint8_t sum = 0;
	const uint8_t *bytes = buf;

	(void)arg;
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return 0;
}

static void session(struct agentc *at)
{
	struct agentc_run run = {.argv = (const char *const[]){"x", NULL},
				 .flags = AGENT_EXEC_STDIN};
	struct agentc_exec *x;
	struct agentc_event ev;
	char zeros[100] = {0};

	if (agentc_exec_start(&x, at, &run, NULL) < 0)
		return;
	while (agentc_exec_wait(x, &ev, 1000, NULL) == 1) {
		if (ev.kind == AGENTC_OUTPUT) {
			sink(NULL, ev.data, ev.len);
			agentc_exec_consumed(x, ev.stream, ev.len);
		}
		agentc_exec_stdin(x, zeros, sizeof(zeros));
		agentc_exec_stdin_drained(x);
	}
	agentc_exec_close(x);
}

static void watch(struct agentc *at, const struct agentc_file *f)
{
	struct agentc_watch *w;
	struct agent_event ev;
	const char *name;

	if (agentc_watch_start(&w, at, f, NULL) < 0)
		return;
	while (agentc_watch_next(w, &ev, &name, 1000, NULL) == 1)
		sink(NULL, name, strlen(name));
	agentc_watch_close(w);
}

static void call(uint8_t which, struct agentc *at)
{
	struct agentc_file f = agentc_file("u", "/p");
	struct agentc_entry entry;
	struct agent_metrics_ok metrics;
	struct agent_clock_ok clock;
	const struct agentc_wake wake = {.threshold_ns = UINT64_MAX, .generation = 7};
	struct agentc_woke woke;
	struct agent_pong pong;
	struct errmsg why = {""};
	char buf[300];
	int fd;

	switch (which % 13) {
	case 0: session(at); break;
	case 1: agentc_stat(at, &f, &entry, &why); break;
	case 2: agentc_list(at, &f, on_entry, NULL, &why); break;
	case 3: agentc_read(at, &f, &entry, sink, NULL, &why); break;
	case 4: agentc_write_buf(at, &f, "text", 4, &why); break;
	case 5: agentc_proc_list(at, on_proc, NULL, &why); break;
	case 6: watch(at, &f); break;
	case 7: agentc_metrics(at, &metrics, &why); break;
	case 8: agentc_clock(at, UINT64_MAX, &clock, &why); break;
	case 9: agentc_ping(at, &pong, buf, &why); break;
	case 10: agentc_xattr_get(at, &f, buf, sizeof(buf), &why); break;
	case 12: agentc_wake(at, &wake, &woke, &why); break;
	default:
		fd = agentc_forward(at, 80, 0, &why);
		if (fd >= 0)
			close(fd);
		break;
	}
	if (strlen(why.text) >= sizeof(why.text))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd[2];

	if (size < 1 || size > 100000)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0)
		abort();
	if (send(fd[1], data + 1, size - 1, MSG_NOSIGNAL) < 0 && size > 1)
		abort();
	shutdown(fd[1], SHUT_WR);
	struct agentc at = agentc_over(fd[0]);
	at.timeout_ms = 1000;
	call(data[0], &at);
	close(fd[1]);
	return 0;
}
