/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - what a command says about its end: statuses, reasons, times */
#ifndef SPORE_SUPERVISOR_CLI_REPORT_H
#define SPORE_SUPERVISOR_CLI_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "supervisor/cli/session.h"
#include "supervisor/lifecycle/vm.h"

enum run_point {
	RUN_BEGIN,
	RUN_STARTED, /* the VMM's process */
	RUN_READY,   /* the agent has knocked */
	RUN_COPIED_IN,
	RUN_ENDED, /* the command */
	RUN_COPIED_OUT,
	RUN_STOPPED,
	RUN_POINTS,
};

struct run_times {
	uint64_t at[RUN_POINTS]; /* CLOCK_MONOTONIC, ns; 0: did not happen */
};

void run_mark(struct run_times *times, enum run_point point);

/* One JSON object on stderr: our phases, and the VMM's. */
void run_report_times(const struct run_times *times, struct life_vm *vm);

/* The guest did not come up: why, and the tail of its console.  Return: the exit status. */
int report_boot(const char *command, struct life_vm *vm, enum life_event event, uint64_t limit_ms);

/*
 * How the command in the guest ended, as an exit status; says why where it is not the command's own.
 * @command: ours, such as "run"; @name: the one in the guest
 */
int report_end(const char *command, struct life_vm *vm, const struct session_end *end,
	       const char *name);

/* The VMM's process has ended. */
bool report_is_over(struct life_vm *vm);

#endif
