/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - requests of the machine and of processes that have one short answer; see agentc.h */
#include "supervisor/agentc/call.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

void call_close(struct call *call)
{
	link_close(&call->link);
}

int call_open(struct call *call, struct agentc *at, uint16_t type, const void *fixed,
	      const void *tail, size_t tail_len, struct errmsg *why)
{
	*call = (struct call){.at = at, .why = why};
	int err = link_open(&call->link, at, why);

	if (err < 0)
		return err;
	err = link_put(&call->link, type, 0, fixed, tail, tail_len);
	return err < 0 ? err_set(why, err == -EPROTO ? EINVAL : err, "request %s",
				 agent_msg_name(type))
		       : 0;
}

int call_next(struct call *call)
{
	int err = link_await(&call->link, &call->frame, &call->payload,
			     link_end_ms(call->at->timeout_ms), call->why);
	if (err < 0)
		return err;
	if (call->frame.type == AGENT_ERROR)
		return link_error(call->at, &call->frame, call->payload, call->why);
	return 0;
}

int call_expect(struct call *call, uint16_t type)
{
	int err = call_next(call);

	if (err < 0)
		return err;
	if (call->frame.type != type)
		return err_set(call->why, EPROTO, "the agent answered %s, not %s",
			       agent_msg_name(call->frame.type), agent_msg_name(type));
	return 0;
}

uint64_t call_value(const struct call *call)
{
	struct agent_value m;
	memcpy(&m, call->payload, sizeof(m));
	return m.value;
}

const char *call_string(const struct call *call, unsigned i)
{
	return agent_msg_string(&call->frame, call->payload, i);
}

int64_t call_simple(struct agentc *at, uint16_t type, const void *fixed, const void *tail,
		    size_t tail_len, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = call_open(&call, at, type, fixed, tail, tail_len, why);

	if (err == 0)
		err = call_expect(&call, AGENT_OK);
	if (err < 0)
		return err;
	uint64_t value = call_value(&call);
	return value <= INT64_MAX ? (int64_t)value : INT64_MAX;
}

/* One request with one answer of a fixed struct. */
static int ask(struct agentc *at, uint16_t type, const void *fixed, uint16_t answer, void *out,
	       size_t len, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = call_open(&call, at, type, fixed, NULL, 0, why);

	if (err == 0)
		err = call_expect(&call, answer);
	if (err == 0)
		memcpy(out, call.payload, len);
	return err;
}

/* --- the machine ------------------------------------------------------------------------------ */

int agentc_ping(struct agentc *at, struct agent_pong *pong, char *version, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = call_open(&call, at, AGENT_PING, NULL, NULL, 0, why);

	if (err == 0)
		err = call_expect(&call, AGENT_PONG);
	if (err < 0)
		return err;
	memcpy(pong, call.payload, sizeof(*pong));
	const char *said = call_string(&call, 0);
	if (version)
		agentc_escape(version, AGENT_NAME_MAX, said, strlen(said));
	return 0;
}

int agentc_metrics(struct agentc *at, struct agent_metrics_ok *out, struct errmsg *why)
{
	return ask(at, AGENT_METRICS, NULL, AGENT_METRICS_OK, out, sizeof(*out), why);
}

int agentc_clock(struct agentc *at, uint64_t threshold_ns, struct agent_clock_ok *out,
		 struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	struct agent_pong pong;
	struct timespec ts;
	/* A ping first: when it is answered, the clock goes out over a connection that stands, and
	 * is late by one way only. */
	int err = call_open(&call, at, AGENT_PING, NULL, NULL, 0, why);

	if (err == 0)
		err = call_expect(&call, AGENT_PONG);
	if (err < 0)
		return err;
	memcpy(&pong, call.payload, sizeof(pong));
	clock_gettime(CLOCK_REALTIME, &ts);
	struct agent_clock m = {.realtime_ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec,
				.threshold_ns = threshold_ns};
	err = link_put(&call.link, AGENT_CLOCK, 0, &m, NULL, 0);
	if (err == 0)
		err = call_expect(&call, AGENT_CLOCK_OK);
	if (err == 0)
		memcpy(out, call.payload, sizeof(*out));
	return err;
}

int agentc_reseed(struct agentc *at, const void *entropy, size_t len, struct errmsg *why)
{
	if (len == 0 || len > AGENT_ENTROPY_MAX)
		return err_set(why, EINVAL, "entropy of %zu bytes", len);
	int64_t got = call_simple(at, AGENT_RESEED, NULL, entropy, len, why);
	return got < 0 ? (int)got : 0;
}

struct pair {
	char buf[2 * AGENT_PATH_MAX];
	size_t len;
	bool full;
};

static void pair_add(struct pair *pair, const char *text)
{
	size_t len = strlen(text ? text : "") + 1;

	if (pair->full || len > AGENT_PATH_MAX || len > sizeof(pair->buf) - pair->len) {
		pair->full = true;
		return;
	}
	memcpy(pair->buf + pair->len, text ? text : "", len);
	pair->len += len;
}

int agentc_identity(struct agentc *at, const char *hostname, const char *machine_id,
		    struct errmsg *why)
{
	struct pair pair = {.len = 0};

	pair_add(&pair, hostname);
	pair_add(&pair, machine_id);
	if (pair.full)
		return err_set(why, ENAMETOOLONG, "identity");
	int64_t got = call_simple(at, AGENT_IDENTITY, NULL, pair.buf, pair.len, why);
	return got < 0 ? (int)got : 0;
}

int agentc_freeze(struct agentc *at, const char *const *paths, unsigned count, uint32_t timeout_ms,
		  struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	struct agent_freeze freeze = {.timeout_ms = timeout_ms};
	struct pair list = {.len = 0};

	for (unsigned i = 0; i < count; i++)
		pair_add(&list, paths[i]);
	if (list.full || count == 0 || count > AGENT_FREEZE_MAX)
		return err_set(why, EINVAL, "freeze of %u file systems", count);
	int err = call_open(&call, at, AGENT_FREEZE, &freeze, list.buf, list.len, why);
	if (err == 0)
		err = call_expect(&call, AGENT_OK);
	return err < 0 ? err : steal_fd(&call.link.fd);
}

int agentc_thaw(struct agentc *at, struct errmsg *why)
{
	int64_t got = call_simple(at, AGENT_THAW, NULL, NULL, 0, why);
	return got < 0 ? (int)got : 0;
}

int agentc_power(struct agentc *at, uint32_t mode, uint32_t grace_ms, struct errmsg *why)
{
	struct agent_power m = {.mode = mode, .grace_ms = grace_ms};
	int64_t got = call_simple(at, AGENT_POWER, &m, NULL, 0, why);
	return got < 0 ? (int)got : 0;
}

int agentc_forward(struct agentc *at, uint16_t port, uint16_t family, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	uint32_t timeout_ms = at->timeout_ms > 0 ? (uint32_t)at->timeout_ms : 0;
	struct agent_forward m = {.port = port, .family = family, .timeout_ms = timeout_ms};
	int err = call_open(&call, at, AGENT_FORWARD, &m, NULL, 0, why);

	call.link.exact = true; /* what follows OK belongs to the caller */
	if (err == 0)
		err = call_expect(&call, AGENT_OK);
	if (err < 0)
		return err;
	int fd = call.link.fd;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0)
		return err_set(why, errno, "forward");
	return steal_fd(&call.link.fd);
}

/* --- processes -------------------------------------------------------------------------------- */

int agentc_proc_list(struct agentc *at, agentc_on_proc on_proc, void *arg, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = call_open(&call, at, AGENT_PROC_LIST, NULL, NULL, 0, why);
	int count = 0;

	while (err == 0) {
		err = call_next(&call);
		if (err == 0 && call.frame.type == AGENT_END)
			return count;
		if (err < 0)
			break;
		if (call.frame.type != AGENT_PROC)
			return err_set(why, EPROTO, "the agent answered %s in a list",
				       agent_msg_name(call.frame.type));
		struct agentc_proc proc = {.user = call_string(&call, 0),
					   .cwd = call_string(&call, 1),
					   .tag = call_string(&call, 2),
					   .strings = call_string(&call, 3)};
		memcpy(&proc.raw, call.payload, sizeof(proc.raw));
		err = on_proc(arg, &proc);
		count++;
	}
	return err;
}

int agentc_proc_signal(struct agentc *at, const struct agentc_who *who, uint32_t signo,
		       uint32_t scope, struct errmsg *why)
{
	struct agent_proc_signal m = {.by = who->by, .id = who->id, .signo = signo, .scope = scope};
	const char *tag = who->tag ? who->tag : "";
	int64_t got = call_simple(at, AGENT_PROC_SIGNAL, &m, tag, strlen(tag) + 1, why);

	return got < 0 ? (int)got : 0;
}

/* Attaches for input only and waits for STARTED. */
static int attach_quietly(struct agentc_exec **out, struct agentc *at, const struct agentc_who *who,
			  struct errmsg *why)
{
	struct agentc_event ev;
	int err = agentc_exec_attach(out, at, who, AGENT_ATTACH_NO_OUTPUT, 0, why);

	if (err < 0)
		return err;
	int got = agentc_exec_wait(*out, &ev, at->timeout_ms, why);
	if (got == 1 && ev.kind == AGENTC_STARTED)
		return 0;
	if (got == 1 && ev.kind == AGENTC_FAILED) {
		at->stage = ev.error.stage;
		err_set(why, 0, "%s", ev.text);
		got = -ev.error.err;
	} else if (got >= 0) {
		got = err_set(why, ETIMEDOUT, "no answer from the agent");
	}
	agentc_exec_close(*out);
	*out = NULL;
	return got;
}

/* Leaves, and waits until the agent has done all that was asked before. */
static int leave(struct agentc_exec *x, struct agentc *at, struct errmsg *why)
{
	struct agentc_event ev = {0};
	int got = agentc_exec_detach(x);

	while (got >= 0 && ev.kind != AGENTC_END) {
		got = agentc_exec_wait(x, &ev, at->timeout_ms, why);
		if (got == 0)
			got = err_set(why, ETIMEDOUT, "no answer from the agent");
	}
	return got < 0 ? got : 0;
}

static int feed(struct agentc_exec *x, struct agentc *at, const uint8_t *buf, size_t len,
		struct errmsg *why)
{
	struct agentc_event ev;

	while (len || !agentc_exec_stdin_drained(x)) {
		ssize_t n = len ? agentc_exec_stdin(x, buf, len) : 0;
		if (n < 0)
			return err_set(why, (int)n, "the process takes no input");
		buf += n;
		len -= (size_t)n;
		int got = exec_wait_credit(x, &ev, at->timeout_ms, why);
		if (got < 0)
			return got;
		bool closed = got == 1 && (ev.kind == AGENTC_EOF || ev.kind == AGENTC_EXIT ||
					   ev.kind == AGENTC_END);
		if (closed)
			return err_set(why, EPIPE, "the process takes no input");
	}
	return 0;
}

int agentc_proc_input(struct agentc *at, const struct agentc_who *who, const void *buf, size_t len,
		      enum agentc_after after, struct errmsg *why)
{
	struct agentc_exec *x = NULL;
	int err = attach_quietly(&x, at, who, why);

	if (err == 0)
		err = feed(x, at, buf, len, why);
	if (err == 0 && after == AGENTC_THEN_EOF)
		err = agentc_exec_stdin_eof(x);
	if (err == 0)
		err = leave(x, at, why);
	agentc_exec_close(x);
	return err;
}

int agentc_proc_resize(struct agentc *at, const struct agentc_who *who, uint16_t rows,
		       uint16_t cols, struct errmsg *why)
{
	struct agentc_exec *x = NULL;
	int err = attach_quietly(&x, at, who, why);

	if (err == 0)
		err = agentc_exec_resize(x, rows, cols);
	if (err == 0)
		err = leave(x, at, why);
	agentc_exec_close(x);
	return err;
}
