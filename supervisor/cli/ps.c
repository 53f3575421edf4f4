/* SPDX-License-Identifier: Apache-2.0 */
/* spore ps and spore metrics: what goes on inside a sandbox. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/target.h"

#define SHOWN_MAX 512 /* bytes of a command line, escaped */
#define MIB       UINT64_C(1048576)

/* --- ps ------------------------------------------------------------------------------------------- */

/* argv with spaces between, fit for a terminal. */
static void command_line(const struct agentc_proc *proc, char *out, size_t cap)
{
	const char *word = proc->strings;
	size_t len = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < proc->raw.argc && len + 2 < cap; i++) {
		if (i)
			out[len++] = ' ';
		agentc_escape(out + len, cap - len, word, strlen(word));
		len += strlen(out + len);
		word += strlen(word) + 1;
	}
}

static void state_text(const struct agent_proc *raw, char *out, size_t cap)
{
	if (!(raw->flags & AGENT_PROC_EXITED))
		snprintf(out, cap, "%s",
			 raw->flags & AGENT_PROC_DETACHED ? "detached" : "attached");
	else if (raw->how == AGENT_SIGNALED)
		snprintf(out, cap, "signal %d", raw->status);
	else
		snprintf(out, cap, "exit %d", raw->status);
}

static int print_proc(void *arg, const struct agentc_proc *proc)
{
	char user[64], state[32], line[SHOWN_MAX];

	(void)arg;
	agentc_escape(user, sizeof(user), proc->user, strlen(proc->user));
	state_text(&proc->raw, state, sizeof(state));
	command_line(proc, line, sizeof(line));
	printf("%4" PRIu64 "  %7" PRIu32 "  %-10s  %7" PRIu64 "s  %-8s  %s\n", proc->raw.id,
	       proc->raw.pid, state, proc->raw.age_ms / 1000, user, line);
	return 0;
}

static int add_proc(void *arg, const struct agentc_proc *proc)
{
	const char *word = proc->strings;
	char shown[SHOWN_MAX], state[32], user[64];
	json_t *argv = json_array();

	for (uint32_t i = 0; i < proc->raw.argc; i++, word += strlen(word) + 1)
		json_array_append_new(
			argv, json_string(agentc_escape(shown, sizeof(shown), word, strlen(word))));
	state_text(&proc->raw, state, sizeof(state));
	agentc_escape(user, sizeof(user), proc->user, strlen(proc->user));
	json_t *row = json_pack("{sI sI ss sI ss so}", "id", (json_int_t)proc->raw.id, "pid",
				(json_int_t)proc->raw.pid, "state", state, "age_ms",
				(json_int_t)proc->raw.age_ms, "user", user, "argv", argv);
	return row && !json_array_append_new(arg, row) ? 0 : -ENOMEM;
}

static void print_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2));
	putchar('\n');
}

int cmd_ps(void *config, int argc, char **argv)
{
	const struct box_args *args = config;
	struct errmsg why = {.text = "out of memory"};
	struct target t;
	int status = target_reach(&t, "ps", args->state_dir, argv[0]);

	(void)argc;
	if (status == TARGET_OK) {
		json_t *list = args->json ? json_array() : NULL;
		if (!list)
			printf("%4s  %7s  %-10s  %8s  %-8s  %s\n", "PROC", "PID", "STATE", "AGE",
			       "USER", "COMMAND");
		int count = agentc_proc_list(&t.at, list ? add_proc : print_proc, list, &why);
		if (list && count >= 0)
			print_json(list);
		json_decref(list);
		status = count < 0 ? cli_fail("ps", "%s", why.text) : CLI_OK;
	}
	target_close(&t);
	return status;
}

/* --- metrics -------------------------------------------------------------------------------------- */

static void print_metrics(const struct agent_metrics_ok *m)
{
	printf("cpus       %" PRIu32 ", %.1f %% used\n", m->cpu_count,
	       (double)m->cpu_used_permille / 10);
	printf("cpu time   %.1f s\n", (double)m->cpu_busy_ms / 1000);
	printf("memory     %" PRIu64 " of %" PRIu64 " MiB, %" PRIu64 " MiB cache\n",
	       m->mem_used / MIB, m->mem_total / MIB, m->mem_cache / MIB);
	printf("disk       %" PRIu64 " of %" PRIu64 " MiB\n", m->disk_used / MIB,
	       m->disk_total / MIB);
	printf("processes  %" PRIu32 "\n", m->proc_count);
	printf("up         %.1f s\n", (double)m->uptime_ms / 1000);
}

static json_t *metrics_json(const struct agent_metrics_ok *m)
{
	return json_pack("{sI sI sI sI sI sI sI sI sI sI}", "cpus", (json_int_t)m->cpu_count,
			 "cpu_used_permille", (json_int_t)m->cpu_used_permille, "cpu_busy_ms",
			 (json_int_t)m->cpu_busy_ms, "mem_total", (json_int_t)m->mem_total,
			 "mem_used", (json_int_t)m->mem_used, "mem_cache", (json_int_t)m->mem_cache,
			 "disk_total", (json_int_t)m->disk_total, "disk_used",
			 (json_int_t)m->disk_used, "processes", (json_int_t)m->proc_count,
			 "uptime_ms", (json_int_t)m->uptime_ms);
}

int cmd_metrics(void *config, int argc, char **argv)
{
	const struct box_args *args = config;
	struct agent_metrics_ok m;
	struct errmsg why;
	struct target t;
	int status = target_reach(&t, "metrics", args->state_dir, argv[0]);

	(void)argc;
	if (status == TARGET_OK && agentc_metrics(&t.at, &m, &why))
		status = cli_fail("metrics", "%s", why.text);
	else if (status == TARGET_OK && !args->json)
		print_metrics(&m), status = CLI_OK;
	else if (status == TARGET_OK) {
		json_t *object = metrics_json(&m);
		print_json(object);
		json_decref(object);
		status = CLI_OK;
	}
	target_close(&t);
	return status;
}
