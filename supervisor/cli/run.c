/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore run: check everything that can be checked, start a VM, wait for its agent, copy in, run the
 * command, copy out, throw the VM away.  Each step gives an exit status, or -1 for "go on".
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_run.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/copying.h"
#include "supervisor/cli/report.h"
#include "supervisor/cli/run_net.h"
#include "supervisor/cli/signals.h"

#define GO_ON         -1
#define STOP_GRACE_MS 5000 /* for the VMM to write its timings */

struct run {
	const struct run_args *args;
	char **argv;
	struct env env;
	struct machine machine;
	struct run_net net;
	struct life_vm *vm;
	struct agentc at;
	struct run_times times;
};

static int fail(const struct errmsg *why)
{
	return cli_fail("run", "%s", why->text);
}

/* --- before anything is started ----------------------------------------------------------------- */

static int check_pairs(const struct opt_list *list, const char *option, struct errmsg *why)
{
	struct opt_pair pair;

	for (size_t i = 0; i < list->count; i++) {
		int err = opt_pair(list->item[i], &pair);
		if (err)
			return err_set(why, 0, "--%s %s: not SRC:DST", option, list->item[i]);
		free(pair.src);
	}
	return 0;
}

static int check_sources(const struct opt_list *list, struct errmsg *why)
{
	struct opt_pair pair;

	for (size_t i = 0; i < list->count; i++) {
		int err = opt_pair(list->item[i], &pair);
		if (!err && access(pair.src, R_OK))
			err = err_set(why, errno, "--copy-in: %s", pair.src);
		if (err)
			return err;
		free(pair.src);
	}
	return 0;
}

static int check_words(struct run *r, struct errmsg *why)
{
	int err = check_pairs(&r->args->copy_in, "copy-in", why);

	if (!err)
		err = check_pairs(&r->args->copy_out, "copy-out", why);
	if (!err)
		err = check_sources(&r->args->copy_in, why);
	if (!err)
		err = run_net_check(&r->net, r->args, why);
	return err ? err : exec_check(&r->args->exec, &r->env, why);
}

static int prepare(struct run *r)
{
	struct errmsg why;
	int err = check_words(r, &why);

	if (!err)
		err = machine_find(&r->machine, &r->args->machine, &why);
	if (!err)
		err = signals_start(&why);
	return err ? fail(&why) : GO_ON;
}

/* --- start and boot ----------------------------------------------------------------------------- */

static int start(struct run *r)
{
	struct life_config cfg = machine_config(&r->machine);
	struct errmsg why;

	if (run_net_start(&r->net, &why))
		return fail(&why);
	cfg.net = run_net_life(&r->net);
	cfg.args = r->net.fd >= 0 ? NET_CMDLINE : NULL;
	cfg.timings = r->args->timings;
	cfg.console_copy_fd = r->args->verbose ? STDERR_FILENO : -1;
	if (life_vm_start(&r->vm, &cfg, &why))
		return fail(&why);
	run_net_started(&r->net);
	signals_guard(r->vm);
	r->at = agentc_vsock(life_vm_socket(r->vm));
	run_mark(&r->times, RUN_STARTED);
	return GO_ON;
}

static int boot(struct run *r)
{
	int status = machine_boot(&r->machine, r->vm, "run");

	run_mark(&r->times, RUN_READY);
	return status;
}

/* --- copies ------------------------------------------------------------------------------------- */

static int copy_one(struct run *r, const char *text, const char *option, copying_fn *fn)
{
	char title[256];
	const struct copying copying = {.command = "run",
					.title = title,
					.at = &r->at,
					.user = r->args->exec.user,
					.bytes_max = r->args->copy_bytes,
					.entries_max = r->args->copy_entries};
	struct opt_pair pair;

	if (opt_pair(text, &pair))
		return cli_fail("run", "out of memory");
	snprintf(title, sizeof(title), "--%s %s: ", option, text);
	int status = copying_run(&copying, fn, pair.src, pair.dst);
	free(pair.src);
	return status;
}

static int copy_all(struct run *r, const struct opt_list *list, const char *option, copying_fn *fn)
{
	int status = GO_ON;

	for (size_t i = 0; status == GO_ON && i < list->count; i++)
		status = copy_one(r, list->item[i], option, fn);
	return status;
}

/* --- the command -------------------------------------------------------------------------------- */

static int command(struct run *r)
{
	struct session_end end;

	exec_session(&r->at, &r->args->exec, &r->env, r->argv, &end);
	run_mark(&r->times, RUN_ENDED);
	return signals_fatal() ? CLI_INTERRUPTED : report_end("run", r->vm, &end, r->argv[0]);
}

/* The command ran: copies come out whatever its status. */
static int live(struct run *r)
{
	int status = boot(r);

	if (status == GO_ON)
		status = copy_all(r, &r->args->copy_in, "copy-in", copy_in);
	run_mark(&r->times, RUN_COPIED_IN);
	if (status != GO_ON)
		return status;
	status = command(r);
	if (status == CLI_INTERRUPTED || report_is_over(r->vm))
		return status;
	int copied = copy_all(r, &r->args->copy_out, "copy-out", copy_out);
	run_mark(&r->times, RUN_COPIED_OUT);
	return copied == GO_ON ? status : copied;
}

static void clean(struct run *r)
{
	if (r->vm && r->args->timings) /* else it is killed: nothing of it is needed */
		life_vm_stop(r->vm, STOP_GRACE_MS);
	signals_guard(NULL);
	run_mark(&r->times, RUN_STOPPED);
	if (r->vm && r->args->timings)
		run_report_times(&r->times, r->vm);
	life_vm_destroy(r->vm);
	run_net_end(&r->net);
	env_free(&r->env);
}

int cmd_run(void *config, int argc, char **argv)
{
	struct run *r = calloc(1, sizeof(*r));

	(void)argc;
	if (!r)
		return cli_fail("run", "out of memory");
	r->args = config;
	r->net.fd = -1;
	r->argv = argv;
	run_mark(&r->times, RUN_BEGIN);
	int status = prepare(r);
	if (status == GO_ON)
		status = start(r);
	if (status == GO_ON)
		status = live(r);
	clean(r);
	free(r);
	return status;
}
