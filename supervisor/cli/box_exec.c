/* SPDX-License-Identifier: Apache-2.0 */
/* spore exec, shell and attach: commands in a sandbox that is there already. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/report.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/target.h"

#define END_WAIT_MS 2000 /* for a pause that has cut us off to be over */
#define END_STEP_MS 50

/* What became of the sandbox while we were connected to it. */
static enum box_state state_now(struct target *t)
{
	char doing[BOX_DOING_MAX];
	struct box_meta now;

	for (int waited = 0; waited < END_WAIT_MS; waited += END_STEP_MS) {
		if (meta_read(&now, t->box.fd, t->box.meta.id, NULL))
			return BOX_DEAD; /* removed */
		if (now.state != BOX_RUNNING)
			return now.state;
		/* A process that ends closes its sockets a moment before its end can be seen. */
		if (!box_busy(&t->box, doing) && waited >= 5 * END_STEP_MS)
			break;
		poll(NULL, 0, END_STEP_MS);
	}
	return report_is_over(t->vm) ? BOX_DEAD : BOX_RUNNING;
}

/* The connection broke before the command ended. */
static int report_cut(struct target *t, const struct session_end *end)
{
	const char *id = t->box.meta.id;

	switch (state_now(t)) {
	case BOX_PAUSED:
		cli_fail(t->command,
			 "sandbox %s was paused; the command lives on in it: wake it with 'spore "
			 "resume "
			 "%s', then 'spore attach %s %" PRIu64 "'",
			 id, id, id, end->process);
		return CLI_PAUSED;
	case BOX_RUNNING: return cli_fail(t->command, "%s", end->text);
	default: return cli_fail(t->command, "sandbox %s ended while the command ran", id);
	}
}

static int report(struct target *t, const struct session_end *end, const char *name)
{
	if (signals_fatal())
		return CLI_INTERRUPTED;
	if (end->how == SESSION_SILENT)
		return cli_fail(t->command, "the agent of sandbox %s does not answer",
				t->box.meta.id);
	return end->how == SESSION_BROKEN ? report_cut(t, end)
					  : report_end(t->command, NULL, end, name);
}

static int run_session(struct target *t, const struct exec_args *args, char **argv)
{
	struct session_end end;
	struct env env = {.count = 0};
	struct errmsg why;
	int status, err = exec_check(args, &env, &why);

	if (!err)
		err = signals_start(&why);
	if (err) {
		status = cli_fail(t->command, "%s", why.text);
	} else {
		exec_session(&t->at, args, &env, argv, &end);
		status = report(t, &end, argv[0]);
	}
	env_free(&env);
	return status;
}

/* --- exec -d -------------------------------------------------------------------------------------- */

/* The first event decides: it runs, or it does not. */
static int wait_started(struct target *t, struct agentc_exec *x, char **argv)
{
	struct session_end end = {.how = SESSION_SILENT};
	struct agentc_event ev;
	struct errmsg why;
	int got = agentc_exec_wait(x, &ev, SESSION_STARTED_MS, &why);

	if (got > 0 && ev.kind == AGENTC_STARTED) {
		printf("%" PRIu64 "\n", ev.started.id);
		return CLI_OK;
	}
	if (got < 0)
		return cli_fail(t->command, "%s", why.text);
	if (got > 0 && ev.kind == AGENTC_FAILED) {
		end.how = SESSION_FAILED;
		end.error = ev.error;
		snprintf(end.text, sizeof(end.text), "%s", ev.text);
	}
	return report(t, &end, argv[0]);
}

static int run_detached(struct target *t, const struct exec_args *args, char **argv)
{
	struct agentc_exec *x = NULL;
	struct env env = {.count = 0};
	struct errmsg why;
	int status, err = exec_check(args, &env, &why);
	struct agentc_run run = exec_request(args, &env, argv);

	run.flags = AGENT_EXEC_DETACHED | (args->tty ? AGENT_EXEC_TTY : 0);
	if (!err)
		err = agentc_exec_start(&x, &t->at, &run, &why);
	status = err ? cli_fail(t->command, "%s", why.text) : wait_started(t, x, argv);
	agentc_exec_close(x);
	env_free(&env);
	return status;
}

int cmd_exec(void *config, int argc, char **argv)
{
	const struct box_exec_args *args = config;
	struct target t;
	char **command = argv + 1;

	(void)argc;
	if (!strcmp(command[0], "--"))
		command++;
	if (!command[0])
		return cli_fail("exec", "no command to run");
	int status = target_reach(&t, "exec", args->state_dir, argv[0]);

	if (status == TARGET_OK)
		status = args->detach ? run_detached(&t, &args->exec, command)
				      : run_session(&t, &args->exec, command);
	target_close(&t);
	return status;
}

int cmd_shell(void *config, int argc, char **argv)
{
	static char *shell[] = {"/bin/sh", "-c", "exec \"${SHELL:-/bin/sh}\" -l", NULL};
	struct box_exec_args *args = config;
	struct target t;
	int status = target_reach(&t, "shell", args->state_dir, argv[0]);

	(void)argc;
	args->exec.tty = !args->exec.no_tty;
	if (status == TARGET_OK)
		status = run_session(&t, &args->exec, shell);
	target_close(&t);
	return status;
}

/* --- attach --------------------------------------------------------------------------------------- */

int cmd_attach(void *config, int argc, char **argv)
{
	const struct box_exec_args *args = config;
	struct session_end end;
	struct errmsg why;
	struct target t;
	char *rest;
	unsigned long long process = strtoull(argv[1], &rest, 10);
	int status = target_reach(&t, "attach", args->state_dir, argv[0]);

	(void)argc;
	if (status == TARGET_OK && (*rest || argv[1][0] < '1' || argv[1][0] > '9'))
		status = cli_fail("attach", "'%s' is no process: see 'spore ps %s'", argv[1],
				  t.box.meta.id);
	if (status == TARGET_OK && signals_start(&why))
		status = cli_fail("attach", "%s", why.text);
	if (status == TARGET_OK) {
		exec_attach(&t.at, process, &end);
		status = report(&t, &end, argv[1]);
	}
	target_close(&t);
	return status;
}
