/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/session.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/term.h"

#define STDIN_CHUNK 32768
#define WRITE_PIPE  4096 /* what poll() promises of a pipe: PIPE_BUF */
#define WRITE_FILE  65536
#define CTRL_C      3

struct out {
	int fd;
	uint16_t stream; /* AGENT_STDOUT, AGENT_STDERR */
	size_t chunk;
	size_t begin, len; /* of what is held back */
	bool broken;       /* nobody reads any more: discard */
	char *buf;         /* SESSION_WINDOW bytes */
};

struct session {
	struct agentc_exec *exec;
	struct out out[2];
	enum session_tty tty;
	uint64_t deadline_ns; /* 0: none */
	bool started, stdin_open, eof_owed, over, exited;
	uint64_t ctrl_c_ns; /* of the last one that the guest has not answered; 0: none */
	size_t in_begin, in_len;
	char in[STDIN_CHUNK];
	struct session_end *end;
};

/* --- output ------------------------------------------------------------------------------------- */

/* Takes `len` bytes off the buffer: the agent may send so many more. */
static void out_took(struct session *s, struct out *out, size_t len)
{
	out->begin += len;
	out->len -= len;
	if (!out->len)
		out->begin = 0;
	if (len && !s->over)
		agentc_exec_consumed(s->exec, out->stream, len);
}

/* The reader is gone: as in a pipeline, the command is told by SIGPIPE. */
static void out_break(struct session *s, struct out *out)
{
	out->broken = true;
	out_took(s, out, out->len);
	if (!s->over)
		agentc_exec_signal(s->exec, SIGPIPE, AGENT_TO_GROUP);
}

/* The buffer in up to `chunk` bytes; called when poll() says that they will be taken. */
static void out_flush(struct session *s, struct out *out)
{
	size_t len = out->len < out->chunk ? out->len : out->chunk;
	ssize_t n = write(out->fd, out->buf + out->begin, len);

	if (n >= 0)
		out_took(s, out, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		out_break(s, out);
}

/* Granted is at most one window, so it fits: the library has checked that the agent keeps to it. */
static void out_put(struct session *s, struct out *out, const uint8_t *data, size_t len)
{
	if (out->begin + out->len + len > SESSION_WINDOW) {
		memmove(out->buf, out->buf + out->begin, out->len);
		out->begin = 0;
	}
	if (out->len + len > SESSION_WINDOW) {
		s->end->how = SESSION_BROKEN;
		snprintf(s->end->text, sizeof(s->end->text), "the agent sent more than granted");
		s->over = true;
		return;
	}
	memcpy(out->buf + out->begin + out->len, data, len);
	out->len += len;
	if (out->broken)
		out_took(s, out, out->len);
}

static int out_open(struct out *out, int fd, uint16_t stream)
{
	struct stat st;

	*out = (struct out){.fd = fd, .stream = stream, .chunk = WRITE_PIPE};
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		out->chunk = WRITE_FILE;
	out->buf = malloc(SESSION_WINDOW);
	return out->buf ? 0 : -ENOMEM;
}

/* --- input -------------------------------------------------------------------------------------- */

static void in_push(struct session *s)
{
	while (s->in_len) {
		ssize_t n = agentc_exec_stdin(s->exec, s->in + s->in_begin, s->in_len);
		if (n < 0) { /* the process closed its stdin */
			s->in_len = 0;
			s->stdin_open = false;
			return;
		}
		if (!n)
			return;
		s->in_begin += (size_t)n;
		s->in_len -= (size_t)n;
	}
	if (s->eof_owed) {
		s->eof_owed = false;
		agentc_exec_stdin_eof(s->exec);
	}
}

/* A guest that answers nothing to Ctrl-C twice within two seconds is taken down. */
static void watch_ctrl_c(struct session *s)
{
	uint64_t now = clock_now();

	if (s->tty != SESSION_TTY_RAW || !memchr(s->in, CTRL_C, s->in_len))
		return;
	if (s->ctrl_c_ns && now - s->ctrl_c_ns < SIGNALS_TWICE_NS)
		signals_abort(SIGINT);
	s->ctrl_c_ns = now;
}

static void in_read(struct session *s)
{
	ssize_t n = read(STDIN_FILENO, s->in, sizeof(s->in));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	s->in_begin = 0;
	s->in_len = n > 0 ? (size_t)n : 0;
	if (n <= 0) {
		s->stdin_open = false;
		s->eof_owed = true;
	}
	watch_ctrl_c(s);
	in_push(s);
}

/* --- events of the agent ------------------------------------------------------------------------ */

static void on_started(struct session *s, const struct agent_started *started)
{
	struct term_size size = term_size(STDIN_FILENO);

	s->started = true;
	s->end->process = started->id;
	s->stdin_open = s->stdin_open && started->flags & AGENT_PROC_STDIN;
	if (s->tty != SESSION_TTY_ASK)
		return;
	s->tty = SESSION_PIPES;
	if (!(started->flags & AGENT_PROC_TTY) || term_raw(STDIN_FILENO))
		return;
	s->tty = SESSION_TTY_RAW;
	agentc_exec_resize(s->exec, size.rows, size.cols);
}

static void on_failed(struct session *s, const struct agentc_event *ev)
{
	s->end->how = SESSION_FAILED;
	s->end->error = ev->error;
	memcpy(s->end->text, ev->text, sizeof(s->end->text));
	s->over = true;
}

static void on_end(struct session *s)
{
	s->over = true;
	if (s->exited)
		return;
	s->end->how = SESSION_BROKEN;
	snprintf(s->end->text, sizeof(s->end->text), "the agent ended the session early");
}

static void on_event(struct session *s, const struct agentc_event *ev)
{
	switch (ev->kind) {
	case AGENTC_STARTED: on_started(s, &ev->started); return;
	case AGENTC_OUTPUT:
		s->ctrl_c_ns = 0;
		out_put(s, &s->out[ev->stream == AGENT_STDERR], ev->data, ev->len);
		return;
	case AGENTC_EOF: s->stdin_open = s->stdin_open && ev->stream != AGENT_STDIN; return;
	case AGENTC_LOST: return; /* only lossy sessions lose */
	case AGENTC_EXIT:
		s->exited = true;
		s->end->how = SESSION_EXITED;
		s->end->exit = ev->exit;
		s->deadline_ns = 0; /* what is left is output, at its reader's pace */
		return;
	case AGENTC_FAILED: on_failed(s, ev); return;
	case AGENTC_END: on_end(s); return;
	}
}

static void take_events(struct session *s)
{
	struct agentc_event ev;
	struct errmsg why = {.text = ""};
	int got = 1;

	while (!s->over && (got = agentc_exec_next(s->exec, &ev, &why)) > 0)
		on_event(s, &ev);
	if (got >= 0)
		return;
	s->over = true;
	s->end->how = SESSION_BROKEN;
	memcpy(s->end->text, why.text, sizeof(s->end->text));
}

static void take_signals(struct session *s)
{
	char sigs[16];
	ssize_t n = read(signals_fd(), sigs, sizeof(sigs));

	for (ssize_t i = 0; i < n && !s->over; i++) {
		struct term_size size = term_size(STDIN_FILENO);
		if (sigs[i] != SIGWINCH)
			agentc_exec_signal(s->exec, (uint32_t)sigs[i], AGENT_TO_GROUP);
		else if (s->tty != SESSION_PIPES)
			agentc_exec_resize(s->exec, size.rows, size.cols);
	}
}

/* --- the loop ----------------------------------------------------------------------------------- */

enum { AT_AGENT, AT_SIGNALS, AT_STDIN, AT_OUT, AT_COUNT = AT_OUT + 2 };

static bool wants_input(const struct session *s)
{
	return s->stdin_open && s->started && !s->in_len && agentc_exec_room(s->exec) > 0;
}

static int wait_ms(const struct session *s)
{
	uint64_t now = clock_now();

	if (!s->deadline_ns)
		return -1;
	return now >= s->deadline_ns ? 0 : (int)((s->deadline_ns - now) / NS_PER_MS) + 1;
}

static void fill_poll(const struct session *s, struct pollfd *at)
{
	at[AT_AGENT] = (struct pollfd){.fd = s->over ? -1 : agentc_exec_fd(s->exec),
				       .events = s->over ? 0 : agentc_exec_events(s->exec)};
	at[AT_SIGNALS] = (struct pollfd){.fd = signals_fd(), .events = POLLIN};
	at[AT_STDIN] = (struct pollfd){.fd = !s->over && wants_input(s) ? STDIN_FILENO : -1,
				       .events = POLLIN};
	for (int i = 0; i < 2; i++)
		at[AT_OUT + i] =
			(struct pollfd){.fd = s->out[i].len ? s->out[i].fd : -1, .events = POLLOUT};
}

static void one_turn(struct session *s)
{
	struct pollfd at[AT_COUNT];

	fill_poll(s, at);
	int n = poll(at, AT_COUNT, wait_ms(s));
	for (int i = 0; n > 0 && i < 2; i++)
		if (at[AT_OUT + i].revents)
			out_flush(s, &s->out[i]);
	if (n > 0 && at[AT_SIGNALS].revents)
		take_signals(s);
	s->over = s->over || signals_fatal();
	if (s->over)
		return;
	if (n > 0 && at[AT_STDIN].revents)
		in_read(s);
	take_events(s);
	in_push(s);
	if (!s->over && !wait_ms(s)) {
		s->over = true;
		s->end->how = SESSION_SILENT;
	}
}

/* Once the command is started, only its own time counts. */
static void move_deadline(struct session *s, uint32_t timeout_ms)
{
	s->deadline_ns =
		timeout_ms ? clock_now() + (timeout_ms + (uint64_t)SESSION_GRACE_MS) * NS_PER_MS
			   : 0;
}

static void loop(struct session *s, uint32_t timeout_ms)
{
	bool moved = false;

	s->deadline_ns = clock_now() + SESSION_STARTED_MS * NS_PER_MS;
	while (!s->over) {
		one_turn(s);
		if (s->started && !moved && !s->exited)
			move_deadline(s, timeout_ms);
		moved = s->started;
	}
	signals_set_mode(SIGNALS_KILL); /* there is nobody to forward to */
	s->deadline_ns = 0;
	while ((s->out[0].len || s->out[1].len) && !signals_fatal())
		one_turn(s);
}

static void session_close(struct session *s)
{
	agentc_exec_close(s->exec);
	free(s->out[0].buf);
	free(s->out[1].buf);
}

static int session_open(struct session *s, enum session_tty tty, struct session_end *end,
			struct errmsg *why)
{
	*s = (struct session){.tty = tty, .end = end, .stdin_open = true};
	*end = (struct session_end){.how = SESSION_BROKEN};
	if (out_open(&s->out[0], STDOUT_FILENO, AGENT_STDOUT) ||
	    out_open(&s->out[1], STDERR_FILENO, AGENT_STDERR))
		return err_set(why, ENOMEM, "session");
	return 0;
}

static void session_drive(struct session *s, int err, uint32_t timeout_ms, const struct errmsg *why)
{
	if (err)
		memcpy(s->end->text, why->text, sizeof(s->end->text));
	else
		loop(s, timeout_ms);
	session_close(s);
}

static struct session session; /* too large for a stack; one at a time, on main */

void session_run(struct agentc *at, const struct agentc_run *run, enum session_tty tty,
		 struct session_end *end)
{
	struct agentc_run windowed = *run;
	struct errmsg why;
	int err = session_open(&session, tty, end, &why);

	windowed.window = SESSION_WINDOW;
	if (!err)
		err = agentc_exec_start(&session.exec, at, &windowed, &why);
	session_drive(&session, err, run->timeout_ms, &why);
}

void session_attach(struct agentc *at, uint64_t process, enum session_tty tty,
		    struct session_end *end)
{
	const struct agentc_who who = {.by = AGENT_BY_ID, .id = process};
	struct errmsg why;
	int err = session_open(&session, tty, end, &why);

	if (!err)
		err = agentc_exec_attach(&session.exec, at, &who, AGENT_ATTACH_REPLAY,
					 SESSION_WINDOW, &why);
	session_drive(&session, err, 0, &why);
}
