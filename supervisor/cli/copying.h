/* SPDX-License-Identifier: Apache-2.0 */
/* copying.h - one copy with its line of progress and what is said about it.  Thread: main. */
#ifndef SPORE_SUPERVISOR_CLI_COPYING_H
#define SPORE_SUPERVISOR_CLI_COPYING_H

#include "supervisor/lifecycle/copy.h"

typedef int copying_fn(struct copy *copy, const char *from, const char *to, struct errmsg *why);

struct copying {
	const char *command; /* "cp" */
	const char *title;   /* of what is said: "--copy-out a:b: ", or "" */
	struct agentc *at;
	const char *user;
	uint64_t bytes_max, entries_max; /* 0: the default */
};

/* @fn: copy_in or copy_out.  Return: -1 done; else the exit status, and the reason has been said. */
int copying_run(const struct copying *c, copying_fn *fn, const char *from, const char *to);

#endif
