/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target.h - the sandbox that a command is about
 *
 * Steps of a command give an exit status, or TARGET_OK for "go on"; what is wrong has then been said.
 * Thread: main.
 */
#ifndef SPORE_SUPERVISOR_CLI_TARGET_H
#define SPORE_SUPERVISOR_CLI_TARGET_H

#include "supervisor/agentc/agentc.h"
#include "supervisor/lifecycle/vm.h"
#include "supervisor/store/box.h"

#define TARGET_OK -1

struct target {
	const char *command; /* for messages: "exec" */
	struct state st;
	struct box box;     /* .fd -1: none */
	struct life_vm *vm; /* NULL: not reached */
	struct agentc at;
};

/* The state alone.  target_close() in every case. */
int target_state(struct target *t, const char *command, const char *state_dir);
/* And the sandbox called `word`, whatever its state. */
int target_open(struct target *t, const char *command, const char *state_dir, const char *word);
/* And its VMM and agent: it must be running. */
int target_reach(struct target *t, const char *command, const char *state_dir, const char *word);
/* And its lock, if it is in the state `need` then. */
int target_lock(struct target *t, enum box_state need);

/* Says that the sandbox is not in the state that the command needs, and what to do about it.  CLI_FAILED. */
int target_refuse(const struct target *t);

void target_close(struct target *t);

#endif
