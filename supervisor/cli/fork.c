/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore fork: sandboxes that go on from where another one is.  Their VMMs are started first and wait, empty; then the
 * parent is captured once, in a pause that it hardly notices, and every child gets what was captured.  A child is a
 * sandbox when its guest has new random numbers, a new name and the right time; until then it is `creating`, and a
 * kill of this command leaves it to the next one to take away.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/list.h"
#include "supervisor/cli/target.h"
#include "supervisor/cli/waiting.h"
#include "supervisor/cli/wake.h"
#include "supervisor/lifecycle/keep.h"
#include "supervisor/lifecycle/load.h"
#include "supervisor/lifecycle/sleep.h"

#define FDS_PER_CHILD 8 /* of ours: its folder, lock, VMM, sockets on their way */
#define FDS_OURS      1000
#define THREADS_MAX   8 /* they wait for VMMs and guests, mostly */

struct child {
	struct box box; /* .fd -1: it is none */
	struct life_vm *vm;
	char id[STATE_ID_MAX];
	uint64_t ready_ns; /* from the capture on; 0: it did not get ready */
};

struct family {
	struct target t;
	const struct fork_args *args;
	struct child *child;
	uint32_t count;
	struct sleep s; /* what was captured */
	uint64_t captured_ns;
	pthread_mutex_t lock; /* what follows, and stdout */
	uint32_t failed;
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

static void drop_child(struct family *f, struct child *child, const struct errmsg *why)
{
	life_vm_destroy(child->vm);
	child->vm = NULL;
	if (child->box.fd >= 0)
		box_remove(&child->box, &f->t.st, NULL);
	cleanup_unlock pthread_mutex_t *held = hold(&f->lock);
	f->failed++;
	f->why = *why;
}

/* --- the steps of one child ----------------------------------------------------------------------- */

typedef int step_fn(struct family *f, struct child *child, struct errmsg *why);

static int start_child(struct family *f, struct child *child, struct errmsg *why)
{
	struct box_meta wish;

	/* cmd_fork() has seen to it that a name is for one child. */
	int err = meta_descend(&wish, &f->t.box.meta, f->args->name, why);
	if (!err)
		err = box_create(&child->box, &f->t.st, &wish, why);
	if (err)
		return err;
	strcpy(child->id, child->box.meta.id);
	return wake_start(&child->vm, &child->box, why);
}

static int load_layers(struct family *f, const struct child *child, struct layers *layers,
		       struct errmsg *why)
{
	int err = sleep_share(&f->s.sealed, f->t.box.fd, child->box.fd, why);

	if (!err)
		err = layers_open(layers, child->box.fd, why);
	return err ? err : layers_top(layers, child->box.fd, why);
}

static int load_child(struct family *f, struct child *child, struct errmsg *why)
{
	struct layers layers = {.count = 0};
	const struct life_source from = {.state = f->s.machine.state,
					 .state_len = f->s.machine.said.state_len,
					 .plan = &f->s.machine.plan,
					 .image = f->t.box.meta.image,
					 .layers = &layers};

	int err = load_layers(f, child, &layers, why);
	if (!err)
		err = life_load(child->box.fd, &from, CTL_LOAD_CLONE, why);
	layers_close(&layers);
	if (!err) /* its sleep can be an increment on what the parent was woken from */
		keep_share(f->t.box.fd, KEEP_BASE, child->box.fd, KEEP_BASE, NULL);
	return err;
}

static void announce(struct family *f, const struct child *child)
{
	cleanup_unlock pthread_mutex_t *held = hold(&f->lock);

	list_print_new(&child->box, f->args->json);
	fflush(stdout);
}

static int wake_child(struct family *f, struct child *child, struct errmsg *why)
{
	int err = load_child(f, child, why);

	if (!err)
		err = wake_finish(child->vm, &child->box, WAKE_CLONE, why);
	if (!err)
		err = wake_enter(child->vm, &child->box, &f->t.st, why);
	if (err)
		return err;
	child->ready_ns = clock_now() - f->captured_ns;
	announce(f, child);
	life_vm_destroy(child->vm); /* it is kept: the handle alone goes */
	child->vm = NULL;
	box_close(&child->box);
	return 0;
}

/* --- all of them ---------------------------------------------------------------------------------- */

/* A step for all that are left, THREADS_MAX at one time; those that fail are taken away. */
struct round {
	struct family *f;
	step_fn *step;
	struct waiting waiting;
	_Atomic uint32_t next;
};

static void *work(void *arg)
{
	struct round *r = arg;
	uint32_t i;

	while ((i = atomic_fetch_add(&r->next, 1)) < r->f->count) {
		struct child *child = &r->f->child[i];
		struct errmsg why = {.text = ""};
		if (r->step == start_child || child->box.fd >= 0)
			if (r->step(r->f, child, &why))
				drop_child(r->f, child, &why);
		waiting_step(&r->waiting);
	}
	return NULL;
}

static void for_all(struct family *f, const char *what, step_fn *step)
{
	struct round r = {.f = f, .step = step};
	pthread_t thread[THREADS_MAX];
	unsigned threads = 0;

	waiting_begin(&r.waiting, what, f->count);
	while (threads < THREADS_MAX && threads + 1 < f->count &&
	       !pthread_create(&thread[threads], NULL, work, &r))
		threads++;
	work(&r);
	while (threads)
		pthread_join(thread[--threads], NULL);
	waiting_end(&r.waiting);
}

/* For people: which there are, and how long each took from the instant that it goes on from. */
static void print_table(const struct family *f)
{
	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "%-*s  %-8s  %s\n", STATE_ID_LEN, "CHILD", "STATE", "READY AFTER");
	for (uint32_t i = 0; i < f->count; i++)
		if (f->child[i].ready_ns)
			fprintf(stderr, "%-*s  %-8s  %.1f ms\n", STATE_ID_LEN, f->child[i].id,
				"running", (double)f->child[i].ready_ns / NS_PER_MS);
		else
			fprintf(stderr, "%-*s  %-8s\n", STATE_ID_LEN, f->child[i].id, "failed");
	fprintf(stderr, "%s stood still for %.2f ms\n", f->t.box.meta.id,
		(double)f->s.machine.said.pause_ns / NS_PER_MS);
}

static int fork_locked(struct family *f)
{
	for_all(f, "starting VMMs", start_child);
	int err = f->failed < f->count ? sleep_capture(&f->s, f->t.box.fd, 0, &f->why) : 0;
	f->captured_ns = clock_now();
	if (!err)
		for_all(f, "waking", wake_child);
	const struct errmsg why = f->why;
	for (uint32_t i = 0; err && i < f->count; i++)
		if (f->child[i].box.fd >= 0)
			drop_child(f, &f->child[i], &why);
	print_table(f);
	sleep_close(&f->s);
	if (!f->failed)
		return CLI_OK;
	return cli_fail("fork", "%u of %u children failed: %s", f->failed, f->count, f->why.text);
}

int cmd_fork(void *config, int argc, char **argv)
{
	struct family f = {
		.args = config, .s = {.ctl = {.fd = -1}}, .lock = PTHREAD_MUTEX_INITIALIZER};
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
