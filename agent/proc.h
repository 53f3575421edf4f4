/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.h - a process run for clients
 *
 * Output goes pipe -> ring -> every attached connection, each at its own position and credit.  A
 * connection that is not lossy holds the ring back: when it is full of bytes that such a client has
 * not taken, the pipe is not read and the process waits in write(2).  With none attached the ring
 * simply keeps the last AGENT_HISTORY_BYTES and the process never waits.
 *
 * The end: the process is reaped; what its pipes hold at that moment is still read (a background
 * child may go on writing for ever), then they are closed.  A detached process is remembered
 * AGENT_REMEMBER_MS after that; an attached one is forgotten when its clients have been told.
 */
#ifndef SPORE_AGENT_PROC_H
#define SPORE_AGENT_PROC_H

#include "agent/agent.h"
#include "agent/client.h"
#include "agent/ring.h"

#define PROC_STDIN_BYTES (AGENT_ATTACH_MAX * AGENT_STDIN_WINDOW)
#define PROC_RETRY_MS    50
#define PROC_TTY_DRAIN   131072 /* a terminal's buffers are smaller */

enum proc_state { PROC_STARTING, PROC_RUNNING, PROC_EXITED };

struct proc_output {
	struct source source; /* in the loop only while reading is allowed: a hang-up would spin */
	int fd;               /* -1: closed */
	struct proc *proc;
	uint16_t stream;
	struct ring ring;
	size_t left; /* after the end: bytes still to be read */
};

struct proc {
	struct agent *agent;
	struct proc *next;
	uint64_t id;
	pid_t pid;
	enum proc_state state;
	uint32_t flags; /* AGENT_EXEC_* */

	struct source status;   /* STARTING: closes at exec, or carries a struct spawn_failure */
	struct source input;    /* see stream_arm_input() */
	int input_fd;           /* -1: closed */
	struct ring input_ring; /* tail: what the process has taken */
	bool input_eof;         /* close when the ring is empty */
	bool stir;              /* attached connections are to be run before the next wait */
	struct proc_output output[2];

	struct client *starter; /* STARTING */
	uint32_t window[2];     /* STARTING: starter's */
	struct client *attached;
	unsigned attached_count;

	uint64_t started_us;
	uint64_t timeout_at, kill_at, orphan_at, forget_at; /* ms; 0: not set */
	uint64_t retry_at; /* a terminal that nobody has open is read again then */
	uint32_t kill_after_ms, orphan_ms;
	uint8_t timeout_signal;
	struct agent_exit exit;

	uint32_t list_argc, list_envc;
	bool list_truncated;
	size_t strings_len;
	char *strings; /* user, cwd, tag, then argv and env as far as they are kept */
};

/* Starts what the connection asked for; answers on it.  Takes the request over. */
void proc_start(struct client *client, struct exec_request *request);
void proc_attach(struct client *client, const struct agent_attach *attach, const char *tag);
/* A frame of a session.  False: it does not belong there. */
bool proc_frame(struct client *client, const struct agent_frame *frame, const uint8_t *payload);
/* Sends the connection what it may have.  False: the connection broke and is gone. */
bool proc_serve(struct client *client);
/* It lives on without a connection from now on, as if it had been started so. */
void proc_detach(struct proc *proc);
/* The connection leaves; the rule of the process's start is applied. */
void proc_leave(struct client *client);

void proc_signal(struct client *client, const struct agent_proc_signal *request, const char *tag);
/* Return: 0; -ESRCH it has ended; -errno. */
int proc_kill(const struct proc *proc, uint32_t signo, uint32_t scope);
/* The tag given at the start, "" for none. */
const char *proc_tag(const struct proc *proc);
/* Continues a PROC_LIST as far as the connection takes it. */
void proc_list(struct client *client);

/* A child of ours has ended.  False: it is no process of this table. */
bool proc_reaped(struct agent *agent, pid_t pid, int status, const struct rusage *usage);
/* What is due at `now`; lowers *next to the earliest deadline that is left. */
void proc_timers(struct agent *agent, uint64_t now, uint64_t *next);
unsigned proc_alive(const struct agent *agent);
void proc_destroy_all(struct agent *agent);

/* --- stream.c --------------------------------------------------------------------------------- */

/* Callbacks of the sources. */
void stream_output_ready(struct source *source, uint32_t events);
void stream_input_ready(struct source *source, uint32_t events);
/* Puts the output into the loop when reading is allowed, takes it out when not. */
void stream_arm(struct proc_output *output);
/* One read of what is there and allowed; the output may be closed afterwards. */
void stream_pump(struct proc_output *output);
void stream_close_output(struct proc_output *output);
/* The process takes no more input: what waits is dropped, and counts as taken. */
void stream_close_input(struct proc *proc);
void stream_arm_input(struct proc *proc);
bool stream_takes_output(const struct client *client);
/* Runs every attached connection; some may be gone afterwards. */
void stream_run_attached(struct proc *proc);

#endif
