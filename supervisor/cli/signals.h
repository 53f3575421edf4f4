/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.h - what becomes of the caller's signals while a sandbox lives
 *
 * A thread of its own waits for INT, TERM, HUP, QUIT and WINCH, because the main thread may be inside a
 * blocking call.  While the command runs, a signal becomes a byte in a pipe that the session reads and
 * forwards; a second SIGINT within two seconds, and any signal while there is no command to forward it
 * to, kills the VM: every wait on it then ends by itself.
 *
 * Threads: start, stop and the rest on main; the signal thread inside.
 */
#ifndef SPORE_SUPERVISOR_CLI_SIGNALS_H
#define SPORE_SUPERVISOR_CLI_SIGNALS_H

#include "base/err.h"
#include "supervisor/lifecycle/vm.h"

#define SIGNALS_TWICE_NS (2 * UINT64_C(1000000000))

/* Blocks the signals in this thread and starts the other.  Once.  0 or -errno. */
int signals_start(struct errmsg *why);

/* The VM that a signal may kill; NULL before it is destroyed. */
void signals_guard(struct life_vm *vm);

enum signals_mode {
	SIGNALS_KILL,    /* starting, copying: the signal ends it all */
	SIGNALS_FORWARD, /* the command runs */
};
void signals_set_mode(enum signals_mode mode);

/* Readable when there is a signal to forward: one byte each. */
int signals_fd(void);

/* As if a fatal signal had come: kills the VM. */
void signals_abort(int sig);

/* The signal that killed the VM or came while there was none; 0: none. */
int signals_fatal(void);

#endif
