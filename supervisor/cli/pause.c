/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore pause and spore resume.  A sandbox sleeps from the moment at which its meta.json says so: memory, state and
 * disk are durable before, and its VMM is ended after.  Killed before that moment, the sandbox runs on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/target.h"
#include "supervisor/cli/waiting.h"
#include "supervisor/cli/wake.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/keep.h"
#include "supervisor/lifecycle/sleep.h"

/* --- pause ---------------------------------------------------------------------------------------- */

static int keep_asleep(struct target *t, const struct sleep *s, struct errmsg *why)
{
	int err = sleep_write(s, t->box.fd, t->box.fd, t->box.meta.cpus, why);

	if (!err && fsync(t->box.fd))
		err = err_set(why, EIO, "sandbox's folder");
	t->box.meta.deadline_s = 0;
	return err ? err : box_enter(&t->box, BOX_PAUSED, why);
}

/* What only a running one needed.  What fails here costs space, and the next pause tries again. */
static void tidy(struct target *t)
{
	keep_sweep(t->box.fd);
	layers_compact(t->box.fd, NULL);
}

static int pause_locked(struct target *t)
{
	struct errmsg why;
	struct sleep s;
	int err = sleep_capture(&s, t->box.fd, CTL_CAPTURE_STAY, &why);

	if (!err)
		err = keep_asleep(t, &s, &why);
	if (err && s.ctl.fd >= 0)
		ctl_order(&s.ctl, CTL_RESUME, NULL); /* nothing has changed for it */
	if (!err) {
		ctl_order(&s.ctl, CTL_STOP, NULL);
		home_kill(t->box.fd, NULL); /* it has ended, or does now */
	}
	sleep_close(&s);
	if (!err)
		tidy(t);
	return err ? cli_fail("pause", "sandbox %s goes on: %s", t->box.meta.id, why.text) : CLI_OK;
}

/* --- resume --------------------------------------------------------------------------------------- */

static int resume_locked(struct target *t)
{
	struct errmsg why;
	int err = wake_folder(&t->vm, &t->box, &t->st, WAKE_SAME, &why);

	return err ? cli_fail("resume", "sandbox %s sleeps on: %s", t->box.meta.id, why.text)
		   : CLI_OK;
}

/* --- both ----------------------------------------------------------------------------------------- */

struct verb {
	const char *command, *progress;
	enum box_state from;
	int (*locked)(struct target *t);
};

static int one(struct target *t, const struct verb *verb)
{
	struct waiting waiting;

	if (t->box.meta.state != verb->from)
		return target_refuse(t);
	waiting_begin(&waiting, verb->progress, 0);
	int status = target_lock(t, verb->from);
	if (status == TARGET_OK)
		status = verb->locked(t);
	waiting_end(&waiting);
	return status;
}

static int each(const struct verb *verb, const struct box_args *args, int argc, char **argv)
{
	struct target t;
	int worst = CLI_OK;

	for (int i = 0; i < argc; i++) {
		int status = target_open(&t, verb->command, args->state_dir, argv[i]);
		if (status == TARGET_OK)
			status = one(&t, verb);
		target_close(&t);
		worst = status != CLI_OK ? status : worst;
	}
	return worst;
}

int cmd_pause(void *config, int argc, char **argv)
{
	static const struct verb verb = {"pause", "writing memory", BOX_RUNNING, pause_locked};

	return each(&verb, config, argc, argv);
}

int cmd_resume(void *config, int argc, char **argv)
{
	static const struct verb verb = {"resume", "waking", BOX_PAUSED, resume_locked};

	return each(&verb, config, argc, argv);
}
