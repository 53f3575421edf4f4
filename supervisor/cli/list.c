/* SPDX-License-Identifier: Apache-2.0 */
/* spore ls, spore snapshot ls, and how a sandbox or snapshot is shown. */
#include "supervisor/cli/list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/target.h"
#include "supervisor/lifecycle/home.h"

static int vmm_pid(const struct box *box)
{
	int pid = 0;
	cleanup_close int pidfd = home_vmm(box->fd, &pid, NULL);

	return pidfd >= 0 ? pid : 0;
}

json_t *list_json(const struct box *box)
{
	const struct box_meta *m = &box->meta;
	char doing[BOX_DOING_MAX] = "";
	int pid = vmm_pid(box);

	if (box->damaged)
		return json_pack("{ss ss}", "id", m->id, "state", "damaged");
	box_busy(box, doing);
	return json_pack("{ss ss* ss ss* ss* ss* so ss ss sI sI sI ss so sI sI}", "id", m->id,
			 "name", *m->name ? m->name : NULL, "state", meta_state_name(m->state),
			 "busy", box->lock_fd < 0 && *doing ? doing : NULL, "why",
			 *m->why ? m->why : NULL, "origin", *m->origin ? m->origin : NULL, "pid",
			 pid ? json_integer(pid) : json_null(), "image", m->image, "kernel",
			 m->kernel, "cpus", (json_int_t)m->cpus, "memory_mib",
			 (json_int_t)m->memory_mib, "timeout_ms", (json_int_t)m->timeout_ms,
			 "on_timeout", meta_timeout_name(m->on_timeout), "deadline",
			 m->deadline_s ? json_integer(m->deadline_s) : json_null(), "created",
			 (json_int_t)m->created_s, "changed", (json_int_t)m->changed_s);
}

void list_print_new(const struct box *box, bool json)
{
	json_t *object = json ? list_json(box) : NULL;

	if (object)
		json_dumpf(object, stdout, JSON_INDENT(2));
	else
		fputs(box->meta.id, stdout);
	putchar('\n');
	json_decref(object);
}

/* --- the table ------------------------------------------------------------------------------------ */

/* "42s", "17m", "5h", "12d" */
static void age_text(int64_t since, char *out, size_t cap)
{
	int64_t age = time(NULL) - since;

	if (age < 0)
		age = 0;
	if (age < 120)
		snprintf(out, cap, "%" PRId64 "s", age);
	else if (age < 7200)
		snprintf(out, cap, "%" PRId64 "m", age / 60);
	else if (age < 172800)
		snprintf(out, cap, "%" PRId64 "h", age / 3600);
	else
		snprintf(out, cap, "%" PRId64 "d", age / 86400);
}

/* "running", or "running:pause" while somebody pauses it. */
static void state_text(const struct box *box, char *out, size_t cap)
{
	char doing[BOX_DOING_MAX];

	if (box_busy(box, doing))
		snprintf(out, cap, "%s:%s", meta_state_name(box->meta.state), doing);
	else
		snprintf(out, cap, "%s", meta_state_name(box->meta.state));
}

static void print_row(const struct box *box)
{
	const struct box_meta *m = &box->meta;
	char age[24], state[BOX_DOING_MAX + 16];

	if (box->damaged) {
		printf("%-*s  %-16s  damaged\n", STATE_ID_LEN, m->id, "");
		return;
	}
	age_text(m->created_s, age, sizeof(age));
	state_text(box, state, sizeof(state));
	printf("%-*s  %-16s  %-16s  %4s  %4" PRIu32 "  %6" PRIu64 "  %s\n", STATE_ID_LEN, m->id,
	       m->name, state, age, m->cpus, m->memory_mib, m->image);
}

struct listing {
	const struct box_args *args;
	json_t *json;
};

static int on_box(void *arg, struct box *box)
{
	struct listing *l = arg;

	if (l->json)
		return json_array_append_new(l->json, list_json(box)) ? -ENOMEM : 0;
	if (l->args->quiet)
		puts(box->meta.id);
	else
		print_row(box);
	return 0;
}

static int list_shelf(const struct state *shelf, const struct box_args *args, struct errmsg *why)
{
	struct listing l = {.args = args};

	box_sweep(shelf);
	if (args->json)
		l.json = json_array();
	else if (!args->quiet)
		printf("%-*s  %-16s  %-16s  %4s  %4s  %6s  %s\n", STATE_ID_LEN, "ID", "NAME",
		       "STATE", "AGE", "CPUS", "MiB", "IMAGE");
	int err = box_list(shelf, on_box, &l, why);
	if (l.json && !err) {
		json_dumpf(l.json, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(l.json);
	return err;
}

static int list_command(const char *command, bool snapshots, const struct box_args *args)
{
	struct errmsg why = {.text = "out of memory"};
	struct target t;
	int status = target_state(&t, command, args->state_dir);

	if (status != TARGET_OK)
		return status;
	struct state shelf = snapshots ? state_other(&t.st) : t.st;
	int err = list_shelf(&shelf, args, &why);
	target_close(&t);
	return err ? cli_fail(command, "%s", why.text) : CLI_OK;
}

int cmd_ls(void *config, int argc, char **argv)
{
	(void)argc, (void)argv;
	return list_command("ls", false, config);
}

int cmd_snapshot_ls(void *config, int argc, char **argv)
{
	(void)argc, (void)argv;
	return list_command("snapshot ls", true, config);
}
