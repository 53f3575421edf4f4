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
#include "base/clock.h"
#include "supervisor/cli/cmd_run.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/doctor.h"
#include "supervisor/cli/env.h"
#include "supervisor/cli/run_report.h"
#include "supervisor/cli/session.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/term.h"
#include "supervisor/image/store.h"
#include "supervisor/lifecycle/copy.h"
#include "supervisor/lifecycle/files.h"

#define GO_ON           -1
#define MEMORY_MIB      512
#define BOOT_TIMEOUT_MS 60000
#define BOOT_TICK_MS    200
#define STOP_GRACE_MS   5000 /* for the VMM to write its timings */

struct run {
	const struct run_args *args;
	char **argv;
	struct env env;
	struct life_files files;
	char image[STORE_PATH_MAX];
	const char *kvm;
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
	if (!err && r->args->tty && r->args->no_tty)
		err = err_set(why, 0, "--tty and --no-tty exclude each other");
	return err ? err : env_build(&r->env, &r->args->env_file, &r->args->env, why);
}

static int find_files(struct run *r, struct errmsg *why)
{
	const struct run_args *a = r->args;
	int err = life_file_find(LIFE_FILE_VMM, a->vmm, r->files.vmm, why);

	if (!err)
		err = life_file_find(LIFE_FILE_KERNEL, a->kernel, r->files.kernel, why);
	if (!err)
		err = life_check_kernel(r->files.kernel, why);
	if (!err)
		err = life_file_find(LIFE_FILE_INITRD, a->initrd, r->files.initrd, why);
	if (!err)
		err = life_check_initrd(r->files.initrd, why);
	if (!err)
		err = store_resolve(a->image ? a->image : STORE_DEFAULT_IMAGE, r->image, why);
	return err ? err : life_check_image(r->image, why);
}

static int check_kvm(struct run *r, struct errmsg *why)
{
	const char *chosen = r->args->kvm ? r->args->kvm : getenv("SPORE_KVM");
	struct vmm_probe probe;

	r->kvm = chosen && *chosen ? chosen : NULL;
	if (r->args->force_kvm)
		return 0;
	vmm_probe(r->kvm ? r->kvm : "/dev/kvm", VMM_PROBE_QUICK, &probe);
	const char *refusal = doctor_kvm_refusal(&probe);
	return refusal ? err_set(why, 0, "%s", refusal) : 0;
}

static int prepare(struct run *r)
{
	struct errmsg why;
	int err = check_words(r, &why);

	if (!err)
		err = find_files(r, &why);
	if (!err)
		err = check_kvm(r, &why);
	if (!err)
		err = signals_start(&why);
	return err ? fail(&why) : GO_ON;
}

/* --- start and boot ----------------------------------------------------------------------------- */

static int start(struct run *r)
{
	const struct run_args *a = r->args;
	struct errmsg why;
	const struct life_config cfg = {
		.vmm = r->files.vmm,
		.kernel = r->files.kernel,
		.initrd = r->files.initrd,
		.image = r->image,
		.kvm = r->kvm,
		.cpus = a->cpus ? a->cpus : 1,
		.memory_mib = a->memory_mib ? a->memory_mib : MEMORY_MIB,
		.timings = a->timings,
		.console_copy_fd = a->verbose ? STDERR_FILENO : -1,
	};

	if (life_vm_start(&r->vm, &cfg, &why))
		return fail(&why);
	signals_guard(r->vm);
	r->at = agentc_vsock(life_vm_socket(r->vm));
	run_mark(&r->times, RUN_STARTED);
	return GO_ON;
}

static int boot(struct run *r)
{
	uint64_t limit_ms = r->args->boot_timeout_ms ? r->args->boot_timeout_ms : BOOT_TIMEOUT_MS;
	uint64_t deadline = clock_now() + limit_ms * NS_PER_MS;
	struct progress progress = progress_begin("starting the VM");
	int event;

	do {
		event = life_vm_wait(r->vm, BOOT_TICK_MS);
		progress_tick(&progress, 0);
	} while (event == LIFE_TIME && clock_now() < deadline);
	progress_end(&progress);
	run_mark(&r->times, RUN_READY);
	if (event == LIFE_READY)
		return GO_ON;
	return signals_fatal() ? CLI_INTERRUPTED
			       : run_report_boot(r->vm, (enum life_event)event, limit_ms);
}

/* --- copies ------------------------------------------------------------------------------------- */

static void tick(void *arg, uint64_t bytes)
{
	progress_tick(arg, bytes);
}

static struct copy new_copy(struct run *r, struct progress *progress)
{
	const struct run_args *a = r->args;

	return (struct copy){
		.at = &r->at,
		.user = a->user,
		.bytes_max = a->copy_bytes ? a->copy_bytes : COPY_BYTES_MAX,
		.entries_max = a->copy_entries ? a->copy_entries : COPY_ENTRIES_MAX,
		.tick = tick,
		.tick_arg = progress,
	};
}

typedef int copy_fn(struct copy *copy, const char *from, const char *to, struct errmsg *why);

static int copy_one(struct run *r, const char *text, const char *option, copy_fn *fn)
{
	struct progress progress = progress_begin(option);
	struct copy copy = new_copy(r, &progress);
	struct opt_pair pair;
	struct errmsg why;

	if (opt_pair(text, &pair))
		return cli_fail("run", "out of memory");
	int err = fn(&copy, pair.src, pair.dst, &why);
	progress_end(&progress);
	free(pair.src);
	if (signals_fatal())
		return CLI_INTERRUPTED;
	if (err)
		return cli_fail("run", "--%s: %s", option, why.text);
	if (copy.left_out)
		fprintf(stderr,
			"spore run: --%s %s: left out %llu (devices, FIFOs, sockets, links that "
			"lead outside)\n",
			option, text, (unsigned long long)copy.left_out);
	return GO_ON;
}

static int copy_all(struct run *r, const struct opt_list *list, const char *option, copy_fn *fn)
{
	int status = GO_ON;

	for (size_t i = 0; status == GO_ON && i < list->count; i++)
		status = copy_one(r, list->item[i], option, fn);
	return status;
}

/* --- the command -------------------------------------------------------------------------------- */

static enum session_tty choose_tty(const struct run_args *a)
{
	bool in = isatty(STDIN_FILENO), out = isatty(STDOUT_FILENO);

	if (a->no_tty || (!a->tty && !(in && out)))
		return SESSION_PIPES;
	return in && out ? SESSION_TTY_RAW : SESSION_TTY;
}

static int command(struct run *r)
{
	enum session_tty tty = choose_tty(r->args);
	struct term_size size = term_size(STDIN_FILENO);
	struct session_end end;
	const struct agentc_run run = {
		.argv = (const char *const *)r->argv,
		.env = (const char *const *)r->env.item,
		.user = r->args->user,
		.cwd = r->args->cwd,
		.flags = AGENT_EXEC_STDIN | (tty != SESSION_PIPES ? AGENT_EXEC_TTY : 0),
		.rows = size.rows,
		.cols = size.cols,
		.timeout_ms = (uint32_t)r->args->timeout_ms,
	};

	if (tty == SESSION_TTY_RAW && term_raw(STDIN_FILENO))
		tty = SESSION_TTY;
	signals_set_mode(SIGNALS_FORWARD);
	session_run(&r->at, &run, tty, &end);
	signals_set_mode(SIGNALS_KILL);
	term_restore();
	run_mark(&r->times, RUN_ENDED);
	return signals_fatal() ? CLI_INTERRUPTED : run_report_end(r->vm, &end, r->argv[0]);
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
	if (status == CLI_INTERRUPTED || run_is_over(r->vm))
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
	env_free(&r->env);
}

int cmd_run(void *config, int argc, char **argv)
{
	struct run *r = calloc(1, sizeof(*r));

	(void)argc;
	if (!r)
		return cli_fail("run", "out of memory");
	r->args = config;
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
