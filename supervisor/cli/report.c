/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/report.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "supervisor/cli/command.h"

#define TAIL_MAX    8192
#define TIMINGS_MAX 16384
#define END_WAIT_MS 500 /* a connection that broke because the VM ended: its process is gone soon */

void run_mark(struct run_times *times, enum run_point point)
{
	times->at[point] = clock_now();
}

void run_report_times(const struct run_times *times, struct life_vm *vm)
{
	static const char *const names[RUN_POINTS] = {NULL,    "started",    "ready",  "copied_in",
						      "ended", "copied_out", "stopped"};
	char text[TIMINGS_MAX];
	json_t *phases = json_object(), *vmm, *root;

	for (int i = RUN_STARTED; i < RUN_POINTS; i++)
		if (times->at[i])
			json_object_set_new(phases, names[i],
					    json_real((double)(times->at[i] - times->at[0]) / 1e6));
	life_vm_timings(vm, text, sizeof(text));
	vmm = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	root = json_pack("{so so}", "spore_ms", phases, "vmm", vmm ? vmm : json_null());
	json_dumpf(root, stderr, JSON_COMPACT | JSON_REAL_PRECISION(6));
	fputc('\n', stderr);
	json_decref(root);
}

static void print_tail(const char *title, char *text)
{
	char *rest = text, *line;

	if (!*text)
		return;
	fprintf(stderr, "%s\n", title);
	while ((line = strsep(&rest, "\n")))
		if (*line || rest)
			fprintf(stderr, "  | %s\n", line);
}

static void print_tails(struct life_vm *vm)
{
	char text[TAIL_MAX];

	life_vm_messages(vm, text, sizeof(text));
	print_tail("spore-vmm said:", text);
	life_vm_console(vm, text, sizeof(text));
	print_tail("the last lines of the guest's console:", text);
}

int report_boot(const char *command, struct life_vm *vm, enum life_event event, uint64_t limit_ms)
{
	char how[64];

	if (event == LIFE_ENDED) {
		life_vm_ending(vm, how, sizeof(how));
		cli_fail(command, "the VM ended before its agent answered (%s)", how);
	} else {
		cli_fail(command,
			 "the guest's agent did not answer within %.3g s; the VM is killed",
			 (double)limit_ms / 1e3);
	}
	print_tails(vm);
	return CLI_FAILED;
}

bool report_is_over(struct life_vm *vm)
{
	return life_vm_wait(vm, 0) == LIFE_ENDED;
}

static int report_exit(const char *command, const struct agent_exit *exit)
{
	if (exit->timed_out) {
		cli_fail(command, "the command's time ran out");
		return CLI_TIMEOUT;
	}
	return (exit->how == AGENT_SIGNALED ? CLI_SIGNAL : 0) + (exit->status & 0xff);
}

static int report_failed(const char *command, const struct session_end *end, const char *name)
{
	char shown[256];

	agentc_escape(shown, sizeof(shown), name, strlen(name));
	if (end->error.stage != AGENT_STAGE_EXEC)
		return cli_fail(command, "%s: %s", shown, end->text);
	if (end->error.err == ENOENT) {
		cli_fail(command, "%s: command not found", shown);
		return CLI_NOT_FOUND;
	}
	cli_fail(command, "%s: cannot be executed: %s", shown, strerror(end->error.err));
	return CLI_NOT_EXECUTABLE;
}

static int report_broken(const char *command, struct life_vm *vm, const char *text)
{
	char how[64];

	for (int waited = 0; waited < END_WAIT_MS && !report_is_over(vm); waited += 50)
		poll(NULL, 0, 50);
	if (!report_is_over(vm))
		return cli_fail(command, "%s", text);
	life_vm_ending(vm, how, sizeof(how));
	cli_fail(command, "the VM ended while the command ran (%s)", how);
	print_tails(vm);
	return CLI_FAILED;
}

int report_end(const char *command, struct life_vm *vm, const struct session_end *end,
	       const char *name)
{
	switch (end->how) {
	case SESSION_EXITED: return report_exit(command, &end->exit);
	case SESSION_FAILED: return report_failed(command, end, name);
	case SESSION_BROKEN: return report_broken(command, vm, end->text);
	case SESSION_SILENT: break;
	}
	return cli_fail(command, "the guest's agent does not answer; the VM is killed");
}
