/* SPDX-License-Identifier: Apache-2.0 */
/* spore kill and spore rm. */
#include <stdio.h>
#include <string.h>

#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/target.h"
#include "supervisor/lifecycle/home.h"

/*
 * First the VMM, then the lock: a command that works on the sandbox finds its VMM gone, and ends.  Only
 * then is it ours to say what became of it.
 */
static int kill_one(struct target *t)
{
	struct errmsg why;

	if (t->box.meta.state != BOX_RUNNING)
		return target_refuse(t);
	if (home_kill(t->box.fd, &why))
		return cli_fail("kill", "sandbox %s: %s", t->box.meta.id, why.text);
	if (box_lock(&t->box, "kill", &why))
		return cli_fail("kill", "%s", why.text);
	if (t->box.meta.state != BOX_RUNNING)
		return t->box.meta.state == BOX_DEAD ? CLI_OK : target_refuse(t);
	t->box.meta.deadline_s = 0;
	strcpy(t->box.meta.why, "killed");
	return box_enter(&t->box, BOX_DEAD, &why) ? cli_fail("kill", "%s", why.text) : CLI_OK;
}

static int remove_one(struct target *t, const struct box_args *args)
{
	struct errmsg why;
	const char *id = t->box.meta.id;

	if (!t->box.damaged && t->box.meta.state == BOX_RUNNING && !args->force)
		return cli_fail("rm", "sandbox %s is running: 'spore kill %s' first, or --force",
				id, id);
	if (args->force && home_kill(t->box.fd, &why))
		return cli_fail("rm", "sandbox %s: %s", id, why.text);
	if (box_lock(&t->box, "rm", &why) || box_remove(&t->box, &t->st, &why))
		return cli_fail("rm", "%s", why.text);
	return CLI_OK;
}

/* `rm --force` opens what is damaged, too. */
static int open_any(struct target *t, const struct box_args *args, const char *word)
{
	struct errmsg why = {.text = ""};
	int status = target_state(t, "rm", args->state_dir);

	if (status != TARGET_OK)
		return status;
	if (box_find(&t->box, &t->st, word, &why) || (t->box.damaged && !args->force))
		return cli_fail("rm", "%s", why.text);
	return TARGET_OK;
}

int cmd_kill(void *config, int argc, char **argv)
{
	const struct box_args *args = config;
	struct target t;
	int worst = CLI_OK;

	for (int i = 0; i < argc; i++) {
		int status = target_open(&t, "kill", args->state_dir, argv[i]);
		if (status == TARGET_OK)
			status = kill_one(&t);
		target_close(&t);
		worst = status != CLI_OK ? status : worst;
	}
	return worst;
}

int cmd_rm(void *config, int argc, char **argv)
{
	const struct box_args *args = config;
	struct target t;
	int worst = CLI_OK;

	for (int i = 0; i < argc; i++) {
		int status = open_any(&t, args, argv[i]);
		if (status == TARGET_OK)
			status = remove_one(&t, args);
		target_close(&t);
		worst = status != CLI_OK ? status : worst;
	}
	return worst;
}
