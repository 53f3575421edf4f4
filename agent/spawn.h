/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.h - the forked child between fork and exec
 *
 * All that can be slow or fail on the guest's files (user, groups, working directory, the program)
 * happens in the child; the parent's loop learns the outcome from a pipe that closes at exec.
 */
#ifndef SPORE_AGENT_SPAWN_H
#define SPORE_AGENT_SPAWN_H

#include "agent/client.h"

struct spawn_failure { /* written by the child in one piece (< PIPE_BUF) */
	int err;
	uint16_t stage;
	char text[512];
};

struct spawn_fds { /* the parent's ends, non-blocking; -1: none */
	int status;
	int input;
	int output[2];
};

/*
 * spawn() - fork a child that becomes the request's program
 * Return: its pid, or -errno; on error no descriptor is left.
 */
pid_t spawn(struct spawn_fds *fds, const struct exec_request *request, const struct agent *agent);

#endif
