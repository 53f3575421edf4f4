/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/exec.h"

#include <unistd.h>

#include "supervisor/cli/signals.h"
#include "supervisor/cli/term.h"

int exec_check(const struct exec_args *args, struct env *env, struct errmsg *why)
{
	if (args->tty && args->no_tty)
		return err_set(why, 0, "--tty and --no-tty exclude each other");
	return env_build(env, &args->env_file, &args->env, why);
}

static enum session_tty choose_tty(const struct exec_args *a)
{
	bool in = isatty(STDIN_FILENO), out = isatty(STDOUT_FILENO);

	if (a->no_tty || (!a->tty && !(in && out)))
		return SESSION_PIPES;
	return in && out ? SESSION_TTY_RAW : SESSION_TTY;
}

struct agentc_run exec_request(const struct exec_args *args, const struct env *env, char **argv)
{
	return (struct agentc_run){
		.argv = (const char *const *)argv,
		.env = (const char *const *)env->item,
		.user = args->user,
		.cwd = args->cwd,
		.timeout_ms = (uint32_t)args->timeout_ms,
	};
}

void exec_session(struct agentc *at, const struct exec_args *args, const struct env *env,
		  char **argv, struct session_end *end)
{
	enum session_tty tty = choose_tty(args);
	struct term_size size = term_size(STDIN_FILENO);
	struct agentc_run run = exec_request(args, env, argv);

	run.flags = AGENT_EXEC_STDIN | (tty != SESSION_PIPES ? AGENT_EXEC_TTY : 0);
	run.rows = size.rows;
	run.cols = size.cols;
	if (tty == SESSION_TTY_RAW && term_raw(STDIN_FILENO))
		tty = SESSION_TTY;
	signals_set_mode(SIGNALS_FORWARD);
	session_run(at, &run, tty, end);
	signals_set_mode(SIGNALS_KILL);
	term_restore();
}

void exec_attach(struct agentc *at, uint64_t process, struct session_end *end)
{
	bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);

	signals_set_mode(SIGNALS_FORWARD);
	session_attach(at, process, terminal ? SESSION_TTY_ASK : SESSION_PIPES, end);
	signals_set_mode(SIGNALS_KILL);
	term_restore();
}
