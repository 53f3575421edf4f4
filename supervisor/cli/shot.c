/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore snapshot SANDBOX, and rm.  A snapshot is a folder with all that it needs, its files shared with the sandbox
 * by hard links where they are the same.  It is there from the moment at which its meta.json says `paused`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/cli/cmd_snapshot.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/list.h"
#include "supervisor/cli/shot.h"
#include "supervisor/cli/target.h"
#include "supervisor/cli/waiting.h"
#include "supervisor/lifecycle/keep.h"
#include "supervisor/lifecycle/sleep.h"

/* --- making --------------------------------------------------------------------------------------- */

/* A booted machine has no base until its first snapshot: later ones are increments on that. */
static void have_base(int home_fd, int shot_fd)
{
	if (faccessat(home_fd, KEEP_BASE, F_OK, AT_SYMLINK_NOFOLLOW))
		keep_share(shot_fd, KEEP_HEAD, home_fd, KEEP_BASE, NULL);
}

static int shoot_running(const struct box *box, const struct box *shot, struct errmsg *why)
{
	struct sleep s;
	int err = sleep_capture(&s, box->fd, 0, why);

	if (!err)
		err = sleep_write(&s, box->fd, shot->fd, box->meta.cpus, why);
	if (!err)
		err = sleep_share(&s.sealed, box->fd, shot->fd, why);
	if (!err)
		have_base(box->fd, shot->fd);
	sleep_close(&s);
	return err;
}

int shot_copy(int from_fd, int to_fd, struct errmsg *why)
{
	struct layers layers = {.count = 0};
	int err = keep_share(from_fd, KEEP_HEAD, to_fd, KEEP_HEAD, why);

	if (!err)
		err = layers_open(&layers, from_fd, why);
	if (!err)
		err = sleep_share(&layers, from_fd, to_fd, why);
	layers_close(&layers);
	return err;
}

static int fill(struct target *t, struct box *shot, struct errmsg *why)
{
	bool runs = t->box.meta.state == BOX_RUNNING;
	int err = runs ? shoot_running(&t->box, shot, why) : shot_copy(t->box.fd, shot->fd, why);

	if (!err && fsync(shot->fd))
		err = err_set(why, errno, "snapshot's folder");
	return err ? err : box_enter(shot, BOX_PAUSED, why);
}

static int shoot(struct target *t, const struct shot_args *args)
{
	struct state shelf = state_other(&t->st);
	struct box_meta wish;
	struct box shot;
	struct errmsg why;

	int err = meta_descend(&wish, &t->box.meta, args->name, &why);
	if (!err)
		err = box_create(&shot, &shelf, &wish, &why);
	if (err)
		return cli_fail("snapshot", "%s", why.text);
	err = fill(t, &shot, &why);
	if (err) {
		box_remove(&shot, &shelf, NULL);
		return cli_fail("snapshot", "sandbox %s: %s", t->box.meta.id, why.text);
	}
	list_print_new(&shot, args->json);
	box_close(&shot);
	return CLI_OK;
}

/* Running or asleep. */
static int lock_living(struct target *t)
{
	struct errmsg why;

	if (t->box.meta.state != BOX_RUNNING && t->box.meta.state != BOX_PAUSED)
		return target_refuse(t);
	if (box_lock(&t->box, "snapshot", &why))
		return cli_fail("snapshot", "%s", why.text);
	return t->box.meta.state == BOX_RUNNING || t->box.meta.state == BOX_PAUSED
		       ? TARGET_OK
		       : target_refuse(t);
}

/* The word that is no sandbox may be a command that was typed wrongly. */
static void hint(const char *word)
{
	const char *near = command_near(cmd_snapshot_subs, word);

	if (near)
		cli_fail("snapshot", "unknown command '%s': did you mean '%s'?", word, near);
}

int cmd_snapshot(void *config, int argc, char **argv)
{
	const struct shot_args *args = config;
	struct waiting waiting;
	struct target t;
	int status = target_open(&t, "snapshot", args->state_dir, argv[0]);

	(void)argc;
	if (t.box.fd < 0)
		hint(argv[0]);
	if (status == TARGET_OK)
		status = lock_living(&t);
	if (status == TARGET_OK) {
		waiting_begin(&waiting, "writing memory", 0);
		status = shoot(&t, args);
		waiting_end(&waiting);
	}
	target_close(&t);
	return status;
}

/* --- the end -------------------------------------------------------------------------------------- */

static int remove_one(const struct state *shelf, const char *word)
{
	struct box shot = {.fd = -1, .lock_fd = -1};
	struct errmsg why;

	if (box_find(&shot, shelf, word, &why))
		return cli_fail("snapshot rm", "%s", why.text);
	int err = box_lock(&shot, "rm", &why);
	if (!err)
		err = box_remove(&shot, shelf, &why);
	box_close(&shot);
	return err ? cli_fail("snapshot rm", "%s", why.text) : CLI_OK;
}

int cmd_snapshot_rm(void *config, int argc, char **argv)
{
	const struct box_args *args = config;
	struct target t;
	int status = target_state(&t, "snapshot rm", args->state_dir), worst = CLI_OK;

	if (status != TARGET_OK)
		return status;
	struct state shelf = state_other(&t.st);
	for (int i = 0; i < argc; i++) {
		status = remove_one(&shelf, argv[i]);
		worst = status != CLI_OK ? status : worst;
	}
	target_close(&t);
	return worst;
}
