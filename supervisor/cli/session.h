/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - the caller's streams joined to a command in the guest
 *
 * One poll(2) loop over stdin, the agent's connection, the signals, and (while they hold back) stdout
 * and stderr.  Each output stream has its own buffer of one window: the agent sends no more than it was
 * granted, and it is granted again what the caller's side has taken, so that a slow reader of stdout
 * holds up stdout alone.
 *
 * Thread: main.
 */
#ifndef SPORE_SUPERVISOR_CLI_SESSION_H
#define SPORE_SUPERVISOR_CLI_SESSION_H

#include <stdbool.h>

#include "supervisor/agentc/agentc.h"

#define SESSION_WINDOW     (256u << 10)
#define SESSION_GRACE_MS   5000  /* beyond --timeout, for the agent to say that it ran out */
#define SESSION_STARTED_MS 30000 /* until the agent must have started the command */

struct session_end {
	enum session_how {
		SESSION_EXITED, /* .exit */
		SESSION_FAILED, /* .error, .text: the command never ran */
		SESSION_BROKEN, /* .text: connection or protocol */
		SESSION_SILENT, /* the agent did not answer in time */
	} how;
	uint64_t process; /* the agent's id of it; 0: not started */
	struct agent_exit exit;
	struct agent_error error;
	char text[ERRMSG_MAX];
};

enum session_tty {
	SESSION_PIPES,
	SESSION_TTY,     /* a terminal in the guest */
	SESSION_TTY_RAW, /* and the caller's is in raw mode */
	SESSION_TTY_ASK, /* the caller's is put into raw mode if the process has one */
};

/*
 * session_run() - run a command to its end
 * @run:   window is set here; timeout_ms bounds the command
 */
void session_run(struct agentc *at, const struct agentc_run *run, enum session_tty tty,
		 struct session_end *end);

/*
 * session_attach() - the same with a process that runs already, or has just ended
 * What it wrote last comes first.  It is not ended by our leaving if it was started detached.
 */
void session_attach(struct agentc *at, uint64_t process, enum session_tty tty,
		    struct session_end *end);

#endif
