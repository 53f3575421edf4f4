/* SPDX-License-Identifier: Apache-2.0 */
/* spore create --from: a sandbox that goes on from where a snapshot was taken. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/list.h"
#include "supervisor/cli/shot.h"
#include "supervisor/cli/target.h"
#include "supervisor/cli/waiting.h"
#include "supervisor/cli/wake.h"

static int find_shot(struct box *shot, const struct state *shelf, const char *word,
		     struct errmsg *why)
{
	int err = box_find(shot, shelf, word, why);

	if (!err && shot->damaged)
		return -EBADMSG;
	return err ? err : box_lock(shot, "create", why);
}

static int fill_wish(struct box_meta *wish, const struct create_args *args, const struct box *shot,
		     struct errmsg *why)
{
	int err = meta_descend(wish, &shot->meta, args->name, why);

	if (!err && args->timeout_ms) {
		wish->timeout_ms = args->timeout_ms;
		wish->on_timeout = args->on_timeout;
	}
	return err;
}

/* The machine of a snapshot is what it is. */
static int check_args(const struct machine_args *m, struct errmsg *why)
{
	const char *given = m->image        ? "--image"
			    : m->kernel     ? "--kernel"
			    : m->cpus       ? "--cpus"
			    : m->memory_mib ? "--memory"
					    : NULL;

	return given ? err_set(why, 0, "--from brings its own machine: %s cannot be given", given)
		     : 0;
}

static int make(struct target *t, const struct create_args *args, struct errmsg *why)
{
	struct state shelf = state_other(&t->st);
	struct box shot = {.fd = -1, .lock_fd = -1};
	struct box_meta wish;
	int err = find_shot(&shot, &shelf, args->from, why);

	if (!err)
		err = fill_wish(&wish, args, &shot, why);
	if (!err)
		err = box_create(&t->box, &t->st, &wish, why);
	if (!err)
		err = shot_copy(shot.fd, t->box.fd, why);
	box_close(&shot); /* others may have it: what we need of it is ours */
	return err;
}

int create_from(const struct create_args *args)
{
	struct waiting waiting;
	struct errmsg why;
	struct target t;
	int status = target_state(&t, "create", args->state_dir);

	if (status != TARGET_OK)
		return status;
	waiting_begin(&waiting, "waking the VM", 0);
	int err = check_args(&args->machine, &why);
	if (!err)
		err = make(&t, args, &why);
	if (!err)
		err = wake_folder(&t.vm, &t.box, &t.st, WAKE_CLONE, &why);
	waiting_end(&waiting);
	if (!err)
		list_print_new(&t.box, args->json);
	else if (t.box.fd >= 0)
		box_remove(&t.box, &t.st, NULL);
	target_close(&t);
	return err ? cli_fail("create", "%s", why.text) : CLI_OK;
}
