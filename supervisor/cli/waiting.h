/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiting.h - the line of progress (term.h) while this thread is busy: another thread writes it
 * Thread: begin and end in one; waiting_step() in any.
 */
#ifndef SPORE_SUPERVISOR_CLI_WAITING_H
#define SPORE_SUPERVISOR_CLI_WAITING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/cli/term.h"

struct waiting {
	struct progress progress;
	uint32_t of; /* steps in all; 0: they are not counted */
	_Atomic uint32_t done;
	int stop_fd;
	pthread_t thread;
	bool runs; /* the thread does */
};

/* Nothing where stderr is no terminal.  waiting_end() takes the line away. */
void waiting_begin(struct waiting *w, const char *what, uint32_t of);
void waiting_step(struct waiting *w);
void waiting_end(struct waiting *w);

#endif
