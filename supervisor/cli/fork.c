/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore fork: sandboxes that go on from where another one is.  Their VMMs are started first and wait, empty; then the
 * parent is captured once, in a pause that it hardly notices, and every child gets what was captured.  A child is a
 * sandbox when its guest has new random numbers, a new name and the right time; until then it is `creating`, and a
 * kill of this command leaves it to the next one to take away.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/list.h"
#include "supervisor/cli/target.h"
#include "supervisor/cli/term.h"
#include "supervisor/cli/wake.h"
#include "supervisor/lifecycle/sleep.h"

#define FDS_PER_CHILD 8 /* of ours: its folder, lock, VMM, sockets on their way */
#define FDS_OURS      200

struct child {
	struct box box; /* .fd -1: it is none */
	struct life_vm *vm;
};

struct family {
	struct target t;
	const struct fork_args *args;
	struct child *child;
	uint32_t count, failed;
	struct errmsg why; /* of the last that failed */
};

static int raise_limit(uint32_t count, struct errmsg *why)
{
	struct rlimit limit;
	rlim_t need = FDS_OURS + (rlim_t)count * FDS_PER_CHILD;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return err_set(why, errno, "limit of descriptors");
	if (limit.rlim_cur >= need)
		return 0;
	if (limit.rlim_max < need)
		return err_set(why, EMFILE, "%u children need %llu descriptors, the limit is %llu",
			       count, (unsigned long long)need, (unsigned long long)limit.rlim_max);
	limit.rlim_cur = need;
	return setrlimit(RLIMIT_NOFILE, &limit) ? err_set(why, errno, "limit of descriptors") : 0;
}

static void drop_child(struct family *f, struct child *child)
{
	life_vm_destroy(child->vm);
	child->vm = NULL;
	if (child->box.fd >= 0)
		box_remove(&child->box, &f->t.st, NULL);
	f->failed++;
}

static int start_child(struct family *f, struct child *child)
{
	struct box_meta wish = f->t.box.meta;

	wish.name[0] = '\0';
	if (f->args->name && f->count == 1)
		snprintf(wish.name, sizeof(wish.name), "%s", f->args->name);
	wish.why[0] = '\0';
	int err = box_create(&child->box, &f->t.st, &wish, &f->why);
	return err ? err : wake_start(&child->vm, &child->box, &f->why);
}

static int load_child(struct family *f, struct child *child, const struct sleep *s)
{
	struct layers layers = {.count = 0};
	const struct sleep_source from = {.state = s->machine.state,
					  .state_len = s->machine.said.state_len,
					  .plan = &s->machine.plan,
					  .image = f->t.box.meta.image,
					  .layers = &layers};

	int err = sleep_share(&s->sealed, f->t.box.fd, child->box.fd, &f->why);
	if (!err)
		err = layers_open(&layers, child->box.fd, &f->why);
	if (!err)
		err = layers_top(&layers, child->box.fd, &f->why);
	if (!err)
		err = sleep_load(child->box.fd, &from, CTL_LOAD_CLONE, &f->why);
	layers_close(&layers);
	return err;
}

static int finish_child(struct family *f, struct child *child)
{
	int err = wake_finish(child->vm, &child->box, WAKE_CLONE, &f->why);

	if (!err)
		err = wake_enter(child->vm, &child->box, &f->why);
	if (err)
		return err;
	list_print_new(&child->box, f->args->json);
	fflush(stdout);
	life_vm_destroy(child->vm); /* it is kept: the handle alone goes */
	child->vm = NULL;
	box_close(&child->box);
	return 0;
}

/* A step for all that are left; those that fail are taken away. */
static void for_all(struct family *f, const char *what, const struct sleep *s,
		    int (*load)(struct family *, struct child *, const struct sleep *),
		    int (*step)(struct family *, struct child *))
{
	struct progress progress = progress_begin(what);

	for (uint32_t i = 0; i < f->count; i++) {
		struct child *child = &f->child[i];
		if (step == start_child || child->box.fd >= 0)
			if (load ? load(f, child, s) : step(f, child))
				drop_child(f, child);
		progress_tick(&progress, 0);
	}
	progress_end(&progress);
}

static int fork_locked(struct family *f)
{
	struct sleep s = {.ctl = {.fd = -1}};

	for_all(f, "starting VMMs", NULL, NULL, start_child);
	int err = f->failed < f->count ? sleep_capture(&s, f->t.box.fd, 0, &f->why) : -ECHILD;
	if (!err)
		for_all(f, "loading", &s, load_child, NULL);
	sleep_close(&s);
	if (!err)
		for_all(f, "waking", NULL, NULL, finish_child);
	for (uint32_t i = 0; err && i < f->count; i++)
		if (f->child[i].box.fd >= 0)
			drop_child(f, &f->child[i]);
	if (!f->failed)
		return CLI_OK;
	return cli_fail("fork", "%u of %u children failed: %s", f->failed, f->count, f->why.text);
}

int cmd_fork(void *config, int argc, char **argv)
{
	struct family f = {.args = config};
	int status = target_open(&f.t, "fork", f.args->state_dir, argv[0]);

	(void)argc;
	f.count = f.args->count ? (uint32_t)f.args->count : 1;
	if (status == TARGET_OK && f.t.box.meta.state != BOX_RUNNING)
		status = target_refuse(&f.t);
	if (status == TARGET_OK && f.args->count > FORK_MAX)
		status = cli_fail("fork", "--count %llu: at most %d are made at one time",
				  (unsigned long long)f.args->count, FORK_MAX);
	if (status == TARGET_OK && f.args->name && f.count != 1)
		status = cli_fail("fork", "--name names one child, not %u", f.count);
	if (status == TARGET_OK && raise_limit(f.count, &f.why))
		status = cli_fail("fork", "%s", f.why.text);
	if (status == TARGET_OK)
		status = target_lock(&f.t, BOX_RUNNING);
	if (status == TARGET_OK) {
		f.child = calloc(f.count, sizeof(*f.child));
		for (uint32_t i = 0; f.child && i < f.count; i++)
			f.child[i].box.fd = f.child[i].box.lock_fd = -1;
		status = f.child ? fork_locked(&f) : cli_fail("fork", "out of memory");
	}
	free(f.child);
	target_close(&f.t);
	return status;
}
