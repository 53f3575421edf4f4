/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.c - the processes run for clients: streams, credit, end; see proc.h
 *
 * Lifetimes: proc_sweep() is the only place that frees a process, once a turn, so that no callback
 * loses the process it works on.  A connection may vanish in client_run(); loops over attached
 * connections fetch the next one first.  Thread: the agent's only one.
 */
#include "agent/proc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/spawn.h"
#include "base/cleanup.h"

static struct proc *proc_of(struct agent *agent, uint32_t by, uint64_t id, const char *tag)
{
	struct proc *best = NULL;

	for (struct proc *proc = agent->procs; proc; proc = proc->next) {
		bool match = by == AGENT_BY_ID    ? proc->id == id
			     : by == AGENT_BY_PID ? (uint64_t)proc->pid == id
						  : tag[0] && strcmp(proc_tag(proc), tag) == 0;
		if (!match || proc->state == PROC_STARTING)
			continue;
		/* Pids and tags may come again: the living one, else the newest. */
		if (!best || best->state == PROC_EXITED || proc->state != PROC_EXITED)
			best = proc;
	}
	return best;
}

const char *proc_tag(const struct proc *proc)
{
	const char *cwd = proc->strings + strlen(proc->strings) + 1;
	return cwd + strlen(cwd) + 1;
}

unsigned proc_alive(const struct agent *agent)
{
	unsigned count = 0;
	for (const struct proc *proc = agent->procs; proc; proc = proc->next)
		count += proc->state == PROC_RUNNING;
	return count;
}

/* --- attached connections --------------------------------------------------------------------- */

static bool is_watched(const struct proc *proc)
{
	for (const struct client *client = proc->attached; client; client = client->next_attached) {
		if (stream_takes_output(client))
			return true;
	}
	return false;
}

static void signal_group(const struct proc *proc, int signo)
{
	if (proc->state == PROC_RUNNING)
		kill(-proc->pid, signo);
	else if (proc->state == PROC_STARTING)
		kill(proc->pid, signo);
}

static void orphaned(struct proc *proc)
{
	if (proc->flags & AGENT_EXEC_DETACHED || proc->state != PROC_RUNNING)
		return;
	if (proc->orphan_ms) {
		proc->orphan_at = now_ms() + proc->orphan_ms;
		return;
	}
	signal_group(proc, SIGHUP);
	signal_group(proc, SIGCONT);
}

void proc_detach(struct proc *proc)
{
	proc->flags |= AGENT_EXEC_DETACHED;
}

void proc_leave(struct client *client)
{
	struct proc *proc = client->proc;

	if (!proc)
		return;
	client->proc = NULL;
	if (proc->starter == client) {
		proc->starter = NULL;
		return;
	}
	struct client **at = &proc->attached;
	while (*at != client)
		at = &(*at)->next_attached;
	*at = client->next_attached;
	proc->attached_count--;
	if (stream_takes_output(client) && !is_watched(proc))
		orphaned(proc);
	/* It may have been the one that held the output back. */
	for (unsigned i = 0; i < 2; i++)
		stream_arm(&proc->output[i]);
}

static void join(struct client *client, struct proc *proc, uint32_t attach,
		 const uint32_t window[2])
{
	struct agent_started started = {
		.id = proc->id,
		.pid = (uint32_t)proc->pid,
		.flags = (proc->flags & AGENT_EXEC_TTY ? AGENT_PROC_TTY : 0) |
			 (proc->flags & AGENT_EXEC_DETACHED ? AGENT_PROC_DETACHED : 0) |
			 (proc->state == PROC_EXITED ? AGENT_PROC_EXITED : 0)};

	client->stdin_left = 0;
	if (proc->input_fd >= 0 && !proc->input_eof) {
		started.flags |= AGENT_PROC_STDIN;
		started.stdin_window = client->stdin_left = AGENT_STDIN_WINDOW;
	}
	client->stdin_eof_sent = proc->input_fd < 0; /* said by the flag */
	client->proc = proc;
	client->state = CLIENT_SESSION;
	client->attach = attach;
	for (unsigned i = 0; i < 2; i++) {
		const struct ring *ring = &proc->output[i].ring;
		client->stream[i].at = attach & AGENT_ATTACH_REPLAY ? ring->tail : ring->head;
		client->stream[i].credit = window[i];
	}
	client->next_attached = proc->attached;
	proc->attached = client;
	proc->attached_count++;
	if (stream_takes_output(client))
		proc->orphan_at = 0;
	client_put(client, AGENT_STARTED, 0, &started, NULL, 0);
}

void proc_attach(struct client *client, const struct agent_attach *attach, const char *tag)
{
	struct proc *proc = proc_of(client->agent, attach->by, attach->id, tag);

	if (!proc)
		client_error(client, ESRCH, AGENT_STAGE_PROC, "no such process");
	else if (proc->attached_count == AGENT_ATTACH_MAX)
		client_error(client, EAGAIN, AGENT_STAGE_BUSY,
			     "too many connections to this process");
	if (!proc || proc->attached_count == AGENT_ATTACH_MAX) {
		client_finish(client);
		return;
	}
	join(client, proc, attach->flags, attach->window);
}

int proc_kill(const struct proc *proc, uint32_t signo, uint32_t scope)
{
	if (proc->state != PROC_RUNNING)
		return -ESRCH;
	pid_t to = scope == AGENT_TO_GROUP ? -proc->pid : proc->pid;
	return kill(to, (int)signo) < 0 ? -errno : 0;
}

void proc_signal(struct client *client, const struct agent_proc_signal *request, const char *tag)
{
	struct proc *proc = proc_of(client->agent, request->by, request->id, tag);
	int err = proc ? proc_kill(proc, request->signo, request->scope) : -ESRCH;

	if (err < 0)
		client_error(client, err, AGENT_STAGE_PROC, "signal %u: %s", request->signo,
			     err == -ESRCH ? "no such process" : strerror(-err));
	else
		client_put_value(client, AGENT_OK, 0, 0);
}

/* --- list ------------------------------------------------------------------------------------- */

static void put_proc(struct client *client, const struct proc *proc)
{
	struct agent_proc m = {
		.id = proc->id,
		.pid = (uint32_t)proc->pid,
		.flags = (proc->flags & AGENT_EXEC_TTY ? AGENT_PROC_TTY : 0) |
			 (proc->flags & AGENT_EXEC_DETACHED ? AGENT_PROC_DETACHED : 0) |
			 (proc->input_fd >= 0 ? AGENT_PROC_STDIN : 0) |
			 (proc->list_truncated ? AGENT_PROC_TRUNCATED : 0),
		.argc = proc->list_argc,
		.envc = proc->list_envc,
		.age_ms = (now_us() - proc->started_us) / 1000};

	if (proc->state == PROC_EXITED) {
		m.flags |= AGENT_PROC_EXITED;
		m.how = proc->exit.how;
		m.status = proc->exit.status;
	}
	client_put(client, AGENT_PROC, 0, &m, proc->strings, proc->strings_len);
}

void proc_list(struct client *client)
{
	struct proc *proc = client->agent->procs;

	while (proc && proc->id <= client->list_id)
		proc = proc->next;
	for (; proc; proc = proc->next) {
		if (client->out_len - client->out_at >= CLIENT_OUT_BUSY)
			return;
		client->list_id = proc->id;
		if (proc->state == PROC_STARTING)
			continue;
		put_proc(client, proc);
		client->list_count++;
	}
	client_put_value(client, AGENT_END, 0, client->list_count);
	client->state = CLIENT_REQUEST;
}

/* --- start ------------------------------------------------------------------------------------ */

/* Keeps user, cwd and tag, and as many whole strings of argv and env as fit. */
static bool keep_strings(struct proc *proc, const struct exec_request *request)
{
	const struct agent_exec *exec = &request->exec;
	const char *at = request->blob;
	const char *end = at + exec->blob_len;

	for (uint32_t i = 0; at < end; i++) {
		size_t len = strlen(at) + 1;
		size_t cap = i < 3 ? AGENT_PATH_MAX * 3 : AGENT_LIST_STRINGS_MAX;
		if (i < 3 && len > AGENT_PATH_MAX)
			return false;
		if ((size_t)(at - request->blob) + len > cap) {
			proc->list_truncated = true;
			break;
		}
		proc->list_argc += i >= 3 && i - 3 < exec->argc;
		proc->list_envc += i >= 3 && i - 3 >= exec->argc;
		at += len;
	}
	proc->strings_len = (size_t)(at - request->blob);
	proc->strings = malloc(proc->strings_len);
	if (!proc->strings)
		return false;
	memcpy(proc->strings, request->blob, proc->strings_len);
	return true;
}

static void proc_free(struct proc *proc)
{
	struct events *loop = &proc->agent->loop;

	events_del(loop, &proc->status);
	stream_close_input(proc);
	for (unsigned i = 0; i < 2; i++) {
		stream_close_output(&proc->output[i]);
		ring_free(&proc->output[i].ring);
	}
	ring_free(&proc->input_ring);
	free(proc->strings);
	free(proc);
}

/* A place in the table; when it is full, the longest-ended process that nobody reads is forgotten. */
static bool make_room(struct agent *agent)
{
	if (agent->proc_count < AGENT_PROC_MAX)
		return true;
	for (struct proc **at = &agent->procs; *at; at = &(*at)->next) {
		struct proc *proc = *at;
		if (proc->state != PROC_EXITED || proc->attached)
			continue;
		*at = proc->next;
		agent->proc_count--;
		proc_free(proc);
		return true;
	}
	return false;
}

static void enlist(struct proc *proc)
{
	struct proc **at = &proc->agent->procs;

	while (*at)
		at = &(*at)->next;
	*at = proc;
	proc->id = ++proc->agent->last_id;
	proc->agent->proc_count++;
}

static void status_ready(struct source *source, uint32_t events);

static struct proc *proc_create(struct agent *agent, const struct exec_request *request)
{
	struct proc *proc = calloc(1, sizeof(*proc));

	if (!proc)
		return NULL;
	proc->agent = agent;
	proc->status = (struct source){.fd = -1, .ready = status_ready};
	proc->input = (struct source){.fd = -1, .ready = stream_input_ready};
	proc->input_fd = -1;
	proc->input_ring.cap = PROC_STDIN_BYTES;
	for (uint16_t i = 0; i < 2; i++)
		proc->output[i] =
			(struct proc_output){.source = {.fd = -1, .ready = stream_output_ready},
					     .fd = -1,
					     .proc = proc,
					     .stream = AGENT_STDOUT + i,
					     .ring.cap = AGENT_HISTORY_BYTES};
	if (!keep_strings(proc, request)) {
		proc_free(proc);
		return NULL;
	}
	const struct agent_exec *exec = &request->exec;
	proc->flags = exec->flags;
	proc->kill_after_ms = exec->kill_after_ms;
	proc->orphan_ms = exec->orphan_ms;
	proc->timeout_signal = exec->timeout_signal ? exec->timeout_signal : SIGKILL;
	proc->timeout_at = exec->timeout_ms ? now_ms() + exec->timeout_ms : 0;
	return proc;
}

/* The descriptors become the process's; they are listened to when its program runs. */
static int adopt_fds(struct proc *proc, const struct spawn_fds *fds)
{
	int err = events_add(&proc->agent->loop, &proc->status, fds->status, EPOLLIN);

	if (err < 0)
		close(fds->status);
	proc->input_fd = fds->input;
	for (unsigned i = 0; i < 2; i++)
		proc->output[i].fd = fds->output[i];
	return err;
}

static void start_failed(struct client *client, int err, uint16_t stage, const char *what)
{
	client_error(client, err, stage, "%s: %s", what, strerror(abs(err)));
	client_finish(client);
}

void proc_start(struct client *client, struct exec_request *request)
{
	cleanup_free struct exec_request *held = request;
	struct agent *agent = client->agent;
	struct spawn_fds fds;

	if (!make_room(agent)) {
		start_failed(client, EAGAIN, AGENT_STAGE_BUSY, "too many processes");
		return;
	}
	struct proc *proc = proc_create(agent, held);
	if (!proc) {
		start_failed(client, ENOMEM, AGENT_STAGE_BUSY, "memory for a process");
		return;
	}
	pid_t pid = spawn(&fds, held, agent);
	if (pid < 0) {
		proc_free(proc);
		start_failed(client, (int)pid, AGENT_STAGE_SETUP, "start");
		return;
	}
	proc->pid = pid;
	proc->started_us = now_us();
	enlist(proc);
	proc->starter = client;
	proc->window[0] = held->exec.window[0];
	proc->window[1] = held->exec.window[1];
	client->proc = proc;
	client->state = CLIENT_START;
	int err = adopt_fds(proc, &fds);
	if (err < 0) { /* cannot be watched: end it; the connection hears of that as of any end */
		kill(pid, SIGKILL);
		client->proc = NULL;
		proc->starter = NULL;
		start_failed(client, err, AGENT_STAGE_SETUP, "watch the process");
	}
}

/* The child runs its program now, or says why not. */
static void on_started(struct proc *proc)
{
	struct spawn_failure failure;
	struct client *client = proc->starter;
	ssize_t n = read(proc->status.fd, &failure, sizeof(failure));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	events_del(&proc->agent->loop, &proc->status);
	proc->starter = NULL;
	if (client)
		client->proc = NULL;
	if (n == (ssize_t)sizeof(failure)) {         /* stays STARTING until it is reaped */
		proc->flags &= ~AGENT_EXEC_DETACHED; /* nothing to remember */
		failure.text[sizeof(failure.text) - 1] = '\0';
		if (client) {
			client_error(client, failure.err, failure.stage, "%s", failure.text);
			client_finish(client);
			client_run(client);
		}
		return;
	}
	proc->state = PROC_RUNNING;
	stream_arm_input(proc);
	for (unsigned i = 0; i < 2; i++)
		stream_arm(&proc->output[i]);
	if (!client) {
		orphaned(proc);
		return;
	}
	uint32_t attach = proc->flags & AGENT_EXEC_LOSSY ? AGENT_ATTACH_LOSSY : 0;
	join(client, proc, attach, proc->window);
	client_run(client);
}

static void status_ready(struct source *source, uint32_t events)
{
	(void)events;
	on_started((struct proc *)((char *)source - offsetof(struct proc, status)));
}

/* --- end -------------------------------------------------------------------------------------- */

static uint64_t micros(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
}

static void record_exit(struct proc *proc, int status, const struct rusage *usage)
{
	proc->exit.how = WIFEXITED(status) ? AGENT_EXITED : AGENT_SIGNALED;
	proc->exit.status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
	proc->exit.wall_us = now_us() - proc->started_us;
	proc->exit.user_us = micros(&usage->ru_utime);
	proc->exit.system_us = micros(&usage->ru_stime);
	proc->exit.maxrss_kib = (uint64_t)usage->ru_maxrss;
}

/* What is in the pipe now still counts; what background children write later does not. */
static void drain_output(struct proc_output *output)
{
	int waiting = 0;

	if (output->fd < 0)
		return;
	if (output->proc->flags & AGENT_EXEC_TTY)
		waiting = PROC_TTY_DRAIN;
	else if (ioctl(output->fd, FIONREAD, &waiting) < 0)
		waiting = 0;
	output->left = waiting > 0 ? (size_t)waiting : 0;
	if (output->left == 0)
		stream_close_output(output);
	stream_pump(output);
	stream_arm(output);
}

bool proc_reaped(struct agent *agent, pid_t pid, int status, const struct rusage *usage)
{
	struct proc *proc = agent->procs;

	while (proc && (proc->pid != pid || proc->exit.how))
		proc = proc->next;
	if (!proc)
		return false;
	if (proc->state == PROC_STARTING && proc->status.fd >= 0)
		on_started(proc);
	record_exit(proc, status, usage);
	proc->state = PROC_EXITED;
	proc->timeout_at = proc->kill_at = proc->orphan_at = proc->retry_at = 0;
	if (proc->flags & AGENT_EXEC_DETACHED)
		proc->forget_at = now_ms() + AGENT_REMEMBER_MS;
	stream_close_input(proc);
	for (unsigned i = 0; i < 2; i++)
		drain_output(&proc->output[i]);
	stream_run_attached(proc);
	return true;
}

static void due(struct proc *proc, uint64_t now)
{
	if (proc->timeout_at && proc->timeout_at <= now) {
		proc->timeout_at = 0;
		proc->exit.timed_out = 1;
		signal_group(proc, proc->timeout_signal);
		signal_group(proc, SIGCONT);
		if (proc->kill_after_ms)
			proc->kill_at = now + proc->kill_after_ms;
	}
	if (proc->kill_at && proc->kill_at <= now) {
		proc->kill_at = 0;
		signal_group(proc, SIGKILL);
	}
	if (proc->retry_at && proc->retry_at <= now) {
		proc->retry_at = 0;
		stream_arm(&proc->output[0]);
	}
	if (proc->orphan_at && proc->orphan_at <= now) {
		proc->orphan_at = 0;
		signal_group(proc, SIGHUP);
		signal_group(proc, SIGCONT);
	}
}

static bool forgettable(const struct proc *proc, uint64_t now)
{
	if (proc->state != PROC_EXITED || !proc->exit.how || proc->attached)
		return false;
	return proc->forget_at <= now;
}

static void sooner(uint64_t *next, uint64_t at)
{
	if (at && at < *next)
		*next = at;
}

void proc_timers(struct agent *agent, uint64_t now, uint64_t *next)
{
	struct proc **at = &agent->procs;

	while (*at) {
		struct proc *proc = *at;
		due(proc, now);
		if (proc->stir) {
			proc->stir = false;
			stream_run_attached(proc);
		}
		if (forgettable(proc, now)) {
			*at = proc->next;
			agent->proc_count--;
			proc_free(proc);
			continue;
		}
		sooner(next, proc->timeout_at);
		sooner(next, proc->kill_at);
		sooner(next, proc->orphan_at);
		sooner(next, proc->forget_at);
		sooner(next, proc->retry_at);
		at = &proc->next;
	}
}

void proc_destroy_all(struct agent *agent)
{
	while (agent->procs) {
		struct proc *proc = agent->procs;
		agent->procs = proc->next;
		if (!proc->exit.how && proc->pid > 0)
			kill(-proc->pid, SIGKILL);
		proc_free(proc);
	}
	agent->proc_count = 0;
}
