/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h - a command in a guest, with the caller's streams: what `run` and `exec` share
 * Thread: main.
 */
#ifndef SPORE_SUPERVISOR_CLI_EXEC_H
#define SPORE_SUPERVISOR_CLI_EXEC_H

#include "supervisor/cli/env.h"
#include "supervisor/cli/opt.h"
#include "supervisor/cli/session.h"

struct exec_args {
	const char *user, *cwd; /* NULL: the agent's choice */
	uint64_t timeout_ms;    /* 0: none */
	bool tty, no_tty;
	struct opt_list env, env_file;
};

/* What can be said without a guest.  @env: out; env_free() in every case. */
int exec_check(const struct exec_args *args, struct env *env, struct errmsg *why);

/* The request.  It points into its arguments. */
struct agentc_run exec_request(const struct exec_args *args, const struct env *env, char **argv);

/*
 * exec_session() - run a command to its end
 * The caller's terminal is in raw mode meanwhile when it is one; signals are forwarded.
 */
void exec_session(struct agentc *at, const struct exec_args *args, const struct env *env,
		  char **argv, struct session_end *end);

/* The same with a process that runs already; raw mode where the caller has a terminal and it has one. */
void exec_attach(struct agentc *at, uint64_t process, struct session_end *end);

/* The rows of an option table: `type` has the arguments in `field`. */
#define EXEC_OPTIONS(type, field)                                                              \
	{.name = "env",                                                                        \
	 .value = "K=V|K",                                                                     \
	 .letter = 'e',                                                                        \
	 .help = "set a variable; K alone takes its value from the caller's environment",      \
	 .set = opt_set_list,                                                                  \
	 .offset = offsetof(type, field.env)},                                                 \
		{.name = "env-file",                                                           \
		 .value = "FILE",                                                              \
		 .help = "set the variables that a file holds, one K=V or K a line",           \
		 .set = opt_set_list,                                                          \
		 .offset = offsetof(type, field.env_file),                                     \
		 .complete = OPT_FILE},                                                        \
		{.name = "user",                                                               \
		 .value = "USER",                                                              \
		 .letter = 'u',                                                                \
		 .help = "user in the guest, by name or number (default user, else root)",     \
		 .set = opt_set_text,                                                          \
		 .offset = offsetof(type, field.user)},                                        \
		{.name = "cwd",                                                                \
		 .value = "DIR",                                                               \
		 .letter = 'w',                                                                \
		 .help = "working directory in the guest (default: the user's home)",          \
		 .set = opt_set_text,                                                          \
		 .offset = offsetof(type, field.cwd)},                                         \
		{.name = "timeout",                                                            \
		 .value = "TIME",                                                              \
		 .help = "kill the command after so long, such as 30s or 5m; exit 124",        \
		 .set = opt_set_duration,                                                      \
		 .offset = offsetof(type, field.timeout_ms)},                                  \
		{.name = "tty",                                                                \
		 .letter = 't',                                                                \
		 .help = "give the command a terminal (the default when stdin and stdout are " \
			 "one)",                                                               \
		 .set = opt_set_flag,                                                          \
		 .offset = offsetof(type, field.tty)},                                         \
	{                                                                                      \
		.name = "no-tty", .help = "give it pipes in any case", .set = opt_set_flag,    \
		.offset = offsetof(type, field.no_tty)                                         \
	}

#endif
