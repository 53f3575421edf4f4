/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c - a process at the agent as a non-blocking session
 *
 * The request is queued whole at the start (at most LINK_OUT_MAX) and goes out as the socket takes
 * it.  Credit for output is given back by the caller (agentc_exec_consumed()), so that a slow
 * terminal holds up its own stream and nothing else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "supervisor/agentc/call.h"

#define WINDOW_DEFAULT (256u << 10)
#define STDIN_CHUNK    8192u /* small frames: credit comes back piece by piece */

struct agentc_exec {
	struct link link;
	struct agentc at; /* for link_error() */
	bool started, over;
	uint32_t room; /* stdin credit */
	uint64_t sent, credited;
	bool stdin_closed; /* by us or by the process */
	uint32_t owed[2];  /* output credit not given back yet */
	uint32_t window;
};

static struct agentc_exec *session(uint32_t window)
{
	struct agentc_exec *x = calloc(1, sizeof(*x));

	if (x) {
		x->link.fd = -1;
		x->window = window ? window : WINDOW_DEFAULT;
		if (x->window > AGENT_CREDIT_MAX)
			x->window = AGENT_CREDIT_MAX;
	}
	return x;
}

void agentc_exec_close(struct agentc_exec *x)
{
	if (!x)
		return;
	link_close(&x->link);
	free(x);
}

static void close_session(struct agentc_exec **x)
{
	agentc_exec_close(*x);
}

#define cleanup_session __attribute__((cleanup(close_session)))

/* --- start ------------------------------------------------------------------------------------ */

struct strings {
	char *buf;
	size_t len, cap;
	bool full;
};

static void add(struct strings *s, const char *text)
{
	size_t len = strlen(text) + 1;

	if (s->full || len > s->cap - s->len) {
		s->full = true;
		return;
	}
	memcpy(s->buf + s->len, text, len);
	s->len += len;
}

static uint32_t add_all(struct strings *s, const char *const *list)
{
	uint32_t count = 0;

	for (; list && list[count] && count < AGENT_ARGS_MAX && !s->full; count++)
		add(s, list[count]);
	if (list && count && list[count])
		s->full = true;
	return count;
}

static int put_blob(struct link *link, const struct strings *s)
{
	int err = 0;

	for (size_t at = 0; at < s->len && err == 0;) {
		size_t len = s->len - at < AGENT_FRAME_MAX ? s->len - at : AGENT_FRAME_MAX;
		err = link_put(link, AGENT_BLOB, 0, NULL, s->buf + at, len);
		at += len;
	}
	return err;
}

static void fill_request(struct agent_exec *exec, const struct agentc_run *run, uint32_t window)
{
	*exec = (struct agent_exec){.flags = run->flags,
				    .window = {window, window},
				    .rows = run->rows,
				    .cols = run->cols,
				    .timeout_ms = run->timeout_ms,
				    .kill_after_ms = run->kill_after_ms,
				    .orphan_ms = run->orphan_ms,
				    .timeout_signal = run->timeout_signal,
				    .nice = run->nice,
				    .oom_score_adj = run->oom_score_adj,
				    .umask = run->umask,
				    .limit_count = run->limit_count};
	for (unsigned i = 0; i < run->limit_count && i < AGENT_LIMITS_MAX; i++)
		exec->limit[i] = run->limit[i];
}

static int put_request(struct agentc_exec *x, const struct agentc_run *run, struct errmsg *why)
{
	cleanup_free char *buf = malloc(AGENT_BLOB_MAX);
	struct strings s = {.buf = buf, .cap = AGENT_BLOB_MAX};
	struct agent_exec exec;

	if (!buf)
		return err_set(why, ENOMEM, "request");
	fill_request(&exec, run, x->window);
	add(&s, run->user ? run->user : "");
	add(&s, run->cwd ? run->cwd : "");
	add(&s, run->tag ? run->tag : "");
	exec.argc = add_all(&s, run->argv);
	exec.envc = add_all(&s, run->env);
	if (exec.argc == 0)
		return err_set(why, EINVAL, "no command");
	if (s.full || exec.envc > AGENT_ARGS_MAX - exec.argc)
		return err_set(why, E2BIG, "arguments and environment");
	exec.blob_len = (uint32_t)s.len;
	int err = link_put(&x->link, AGENT_EXEC, 0, &exec, NULL, 0);
	if (err == 0)
		err = put_blob(&x->link, &s);
	return err < 0 ? err_set(why, err, "request") : 0;
}

int agentc_exec_start(struct agentc_exec **out, struct agentc *at, const struct agentc_run *run,
		      struct errmsg *why)
{
	cleanup_session struct agentc_exec *x = session(run->window);

	if (!x)
		return err_set(why, ENOMEM, "session");
	int err = link_open(&x->link, at, why);
	if (err == 0)
		err = put_request(x, run, why);
	if (err == 0)
		err = link_pump(&x->link, why);
	if (err < 0)
		return err;
	*out = steal_ptr(&x);
	return 0;
}

int agentc_exec_attach(struct agentc_exec **out, struct agentc *at, const struct agentc_who *who,
		       uint32_t flags, uint32_t window, struct errmsg *why)
{
	cleanup_session struct agentc_exec *x = session(window);
	const char *tag = who->tag ? who->tag : "";

	if (!x)
		return err_set(why, ENOMEM, "session");
	struct agent_attach attach = {
		.by = who->by, .flags = flags, .id = who->id, .window = {x->window, x->window}};
	int err = link_open(&x->link, at, why);
	if (err < 0)
		return err;
	err = link_put(&x->link, AGENT_ATTACH, 0, &attach, tag, strlen(tag) + 1);
	if (err < 0)
		return err_set(why, err, "request");
	err = link_pump(&x->link, why);
	if (err < 0)
		return err;
	*out = steal_ptr(&x);
	return 0;
}

/* --- events ----------------------------------------------------------------------------------- */

int agentc_exec_fd(const struct agentc_exec *x)
{
	return x->link.fd;
}

short agentc_exec_events(const struct agentc_exec *x)
{
	return link_events(&x->link);
}

static int on_credit(struct agentc_exec *x, const uint8_t *payload, struct errmsg *why)
{
	struct agent_credit credit;

	memcpy(&credit, payload, sizeof(credit));
	if (credit.bytes > x->sent - x->credited)
		return err_set(why, EPROTO, "the agent gave back more stdin than was sent");
	x->credited += credit.bytes;
	x->room += credit.bytes;
	return 0;
}

static void on_failed(struct agentc_event *ev, const struct agent_frame *frame,
		      const uint8_t *payload)
{
	const char *said = agent_msg_string(frame, payload, 0);

	ev->kind = AGENTC_FAILED;
	memcpy(&ev->error, payload, sizeof(ev->error));
	agentc_escape(ev->text, sizeof(ev->text), said, strlen(said));
}

/* One frame to one event.  Return: 1, 0 no event of it, -EPROTO. */
static int translate(struct agentc_exec *x, struct agentc_event *ev,
		     const struct agent_frame *frame, const uint8_t *payload, struct errmsg *why)
{
	struct agent_value value;

	if (!x->started && frame->type != AGENT_STARTED && frame->type != AGENT_ERROR)
		return err_set(why, EPROTO, "the agent sent %s before STARTED",
			       agent_msg_name(frame->type));
	ev->stream = frame->stream;
	switch (frame->type) {
	case AGENT_STARTED:
		if (x->started)
			break;
		ev->kind = AGENTC_STARTED;
		memcpy(&ev->started, payload, sizeof(ev->started));
		x->started = true;
		x->room = ev->started.stdin_window;
		x->stdin_closed = !(ev->started.flags & AGENT_PROC_STDIN);
		return 1;
	case AGENT_DATA:
		if (frame->stream == AGENT_STDIN)
			break;
		ev->kind = AGENTC_OUTPUT;
		ev->data = payload;
		ev->len = frame->len;
		return 1;
	case AGENT_EOF:
		ev->kind = AGENTC_EOF;
		x->stdin_closed = x->stdin_closed || frame->stream == AGENT_STDIN;
		return 1;
	case AGENT_LOST:
		ev->kind = AGENTC_LOST;
		memcpy(&value, payload, sizeof(value));
		ev->lost = value.value;
		return 1;
	case AGENT_EXIT:
		ev->kind = AGENTC_EXIT;
		memcpy(&ev->exit, payload, sizeof(ev->exit));
		return 1;
	case AGENT_END: ev->kind = AGENTC_END; return 1;
	case AGENT_ERROR: on_failed(ev, frame, payload); return 1;
	case AGENT_CREDIT:
		if (frame->stream != AGENT_STDIN)
			break;
		return on_credit(x, payload, why);
	default: break;
	}
	return err_set(why, EPROTO, "the agent sent %s out of place", agent_msg_name(frame->type));
}

int agentc_exec_next(struct agentc_exec *x, struct agentc_event *ev, struct errmsg *why)
{
	struct agent_frame frame;
	const uint8_t *payload;
	bool pumped = false;

	memset(ev, 0, sizeof(*ev));
	while (!x->over) {
		int got = link_frame(&x->link, &frame, &payload, pumped ? why : NULL);
		if (got == 1)
			got = translate(x, ev, &frame, payload, why);
		else if (got == 0 && pumped)
			return 0;
		else if (got == 0) {
			pumped = true;
			got = link_pump(&x->link, why);
		}
		if (got < 0) {
			/* Said again with its text, now that it is the last word. */
			if (got == -ECONNRESET)
				err_set(why, ECONNRESET, "the connection to the agent ended");
			return got;
		}
		if (got == 1) {
			x->over = ev->kind == AGENTC_END || ev->kind == AGENTC_FAILED;
			return 1;
		}
	}
	return 0;
}

int agentc_exec_wait(struct agentc_exec *x, struct agentc_event *ev, int timeout_ms,
		     struct errmsg *why)
{
	uint64_t end = link_end_ms(timeout_ms);

	for (;;) {
		int got = agentc_exec_next(x, ev, why);
		if (got || x->over)
			return got;
		int err = link_wait(&x->link, end, why);
		if (err)
			return err == -ETIMEDOUT ? 0 : err;
	}
}

int exec_wait_credit(struct agentc_exec *x, struct agentc_event *ev, int timeout_ms,
		     struct errmsg *why)
{
	uint64_t end = link_end_ms(timeout_ms);
	uint64_t before = x->credited;

	for (;;) {
		int got = agentc_exec_next(x, ev, why);
		if (got)
			return got;
		if (x->credited != before || x->over)
			return 0;
		int err = link_wait(&x->link, end, why);
		if (err)
			return err;
	}
}

/* --- the other way ---------------------------------------------------------------------------- */

int agentc_exec_consumed(struct agentc_exec *x, uint16_t stream, size_t bytes)
{
	if (stream != AGENT_STDOUT && stream != AGENT_STDERR)
		return -EINVAL;
	uint32_t *owed = &x->owed[stream - AGENT_STDOUT];
	*owed += (uint32_t)bytes;
	if (*owed < x->window / 4 || x->over)
		return 0;
	struct agent_credit credit = {*owed};
	int err = link_put(&x->link, AGENT_CREDIT, stream, &credit, NULL, 0);
	if (err < 0)
		return err;
	*owed = 0;
	return link_pump(&x->link, NULL);
}

size_t agentc_exec_room(const struct agentc_exec *x)
{
	return x->stdin_closed ? 0 : x->room;
}

ssize_t agentc_exec_stdin(struct agentc_exec *x, const void *buf, size_t len)
{
	const uint8_t *at = buf;
	size_t done = 0;

	if (x->started && x->stdin_closed)
		return -EPIPE;
	while (done < len && x->room) {
		size_t n = len - done < x->room ? len - done : x->room;
		if (n > STDIN_CHUNK)
			n = STDIN_CHUNK;
		int err = link_put(&x->link, AGENT_DATA, AGENT_STDIN, NULL, at + done, n);
		if (err < 0)
			return err;
		x->room -= (uint32_t)n;
		x->sent += n;
		done += n;
	}
	int err = link_pump(&x->link, NULL);
	return err < 0 ? err : (ssize_t)done;
}

bool agentc_exec_stdin_drained(const struct agentc_exec *x)
{
	return x->sent == x->credited;
}

static int put_now(struct agentc_exec *x, uint16_t type, uint16_t stream, const void *fixed)
{
	int err = link_put(&x->link, type, stream, fixed, NULL, 0);
	return err < 0 ? err : link_pump(&x->link, NULL);
}

int agentc_exec_stdin_eof(struct agentc_exec *x)
{
	x->stdin_closed = true;
	return put_now(x, AGENT_EOF, AGENT_STDIN, NULL);
}

int agentc_exec_resize(struct agentc_exec *x, uint16_t rows, uint16_t cols)
{
	struct agent_resize m = {.rows = rows, .cols = cols};
	return put_now(x, AGENT_RESIZE, 0, &m);
}

int agentc_exec_signal(struct agentc_exec *x, uint32_t signo, uint32_t scope)
{
	struct agent_signal m = {signo, scope};
	return put_now(x, AGENT_SIGNAL, 0, &m);
}

int agentc_exec_detach(struct agentc_exec *x)
{
	return put_now(x, AGENT_DETACH, 0, NULL);
}

/* --- to the end ------------------------------------------------------------------------------- */

static int to_sink(struct agentc_exec *x, const struct agentc_event *ev, agentc_sink sink,
		   void *arg)
{
	int err = sink ? sink(arg, ev->data, ev->len) : 0;
	return err < 0 ? err : agentc_exec_consumed(x, ev->stream, ev->len);
}

int agentc_run_wait(struct agentc *at, const struct agentc_run *run, agentc_sink out,
		    agentc_sink err_sink, void *arg, struct agent_exit *how, struct errmsg *why)
{
	cleanup_session struct agentc_exec *x = NULL;
	struct agentc_event ev;
	int err = agentc_exec_start(&x, at, run, why);

	while (err == 0) {
		int got = agentc_exec_wait(x, &ev, x->started ? -1 : at->timeout_ms, why);
		if (got == 0)
			return err_set(why, ETIMEDOUT, "no answer from the agent");
		if (got < 0)
			return got;
		if (ev.kind == AGENTC_END)
			return 0;
		if (ev.kind == AGENTC_FAILED) {
			at->stage = ev.error.stage;
			err_set(why, 0, "%s", ev.text);
			return -ev.error.err;
		}
		if (ev.kind == AGENTC_EXIT && how)
			*how = ev.exit;
		if (ev.kind == AGENTC_OUTPUT)
			err = to_sink(x, &ev, ev.stream == AGENT_STDERR ? err_sink : out, arg);
	}
	return err;
}
