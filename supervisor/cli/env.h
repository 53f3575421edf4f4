/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env.h - the command's environment, from --env and --env-file
 *
 * `K=V` is taken as it stands; `K` alone takes its value from the caller's environment, so that no
 * secret need stand in a process list.  A file holds one of either a line; empty lines and lines that
 * begin with '#' are passed over, nothing is unquoted.  Files first, then --env; the last one of a name wins.
 *
 * Thread: main.
 */
#ifndef SPORE_SUPERVISOR_CLI_ENV_H
#define SPORE_SUPERVISOR_CLI_ENV_H

#include <stddef.h>

#include "supervisor/cli/opt.h"

#define ENV_MAX      16384      /* variables */
#define ENV_FILE_MAX (1u << 20) /* bytes of one file */

struct env {
	char **item; /* "K=V" each, NULL-ended; NULL: none */
	size_t count, cap;
};

/* Return: 0; -EINVAL with the file, line and reason; -errno.  env_free() in every case. */
int env_build(struct env *env, const struct opt_list *files, const struct opt_list *given,
	      struct errmsg *why);
void env_free(struct env *env);

#endif
