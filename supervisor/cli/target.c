/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/target.h"

#include <errno.h>

#include "supervisor/cli/command.h"

int target_state(struct target *t, const char *command, const char *state_dir)
{
	struct errmsg why;

	*t = (struct target){.command = command,
			     .st = {.fd = -1, .shelf_fd = -1, .other_fd = -1},
			     .box = {.fd = -1, .lock_fd = -1}};
	return state_open(&t->st, state_dir, &why) ? cli_fail(command, "%s", why.text) : TARGET_OK;
}

int target_open(struct target *t, const char *command, const char *state_dir, const char *word)
{
	struct errmsg why;
	int status = target_state(t, command, state_dir);

	if (status != TARGET_OK)
		return status;
	if (box_find(&t->box, &t->st, word, &why) || t->box.damaged)
		return cli_fail(command, "%s", why.text);
	return TARGET_OK;
}

static int refuse_dead(const struct target *t)
{
	const struct box_meta *m = &t->box.meta;

	return cli_fail(t->command, "sandbox %s is dead (%s); see 'spore logs %s'", m->id,
			*m->why ? m->why : "ended", m->id);
}

int target_refuse(const struct target *t)
{
	const char *id = t->box.meta.id;

	switch (t->box.meta.state) {
	case BOX_CREATING: return cli_fail(t->command, "sandbox %s is still being created", id);
	case BOX_RUNNING: return cli_fail(t->command, "sandbox %s is running", id);
	case BOX_PAUSED:
		return cli_fail(t->command, "sandbox %s is paused: wake it with 'spore resume %s'",
				id, id);
	default: return refuse_dead(t);
	}
}

int target_reach(struct target *t, const char *command, const char *state_dir, const char *word)
{
	struct errmsg why;
	int status = target_open(t, command, state_dir, word);

	if (status != TARGET_OK)
		return status;
	if (t->box.meta.state != BOX_RUNNING)
		return target_refuse(t);
	int err = life_vm_attach(&t->vm, t->box.fd, &why);
	if (err == -ESRCH)
		return cli_fail(command, "sandbox %s has just ended", t->box.meta.id);
	if (err)
		return cli_fail(command, "sandbox %s: %s", t->box.meta.id, why.text);
	t->at = agentc_vsock(life_vm_socket(t->vm));
	return TARGET_OK;
}

int target_lock(struct target *t, enum box_state need)
{
	struct errmsg why;

	if (box_lock(&t->box, t->command, &why))
		return cli_fail(t->command, "%s", why.text);
	return t->box.meta.state == need ? TARGET_OK : target_refuse(t);
}

void target_close(struct target *t)
{
	life_vm_destroy(t->vm);
	box_close(&t->box);
	state_close(&t->st);
	t->vm = NULL;
}
