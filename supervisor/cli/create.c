/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore create: a sandbox whose VMM outlives this command.  Its folder is `creating`, and locked, from the
 * first step to the last: killed anywhere between, the next command takes all of it away.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/list.h"
#include "supervisor/cli/shot.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/target.h"
#include "supervisor/cli/watch.h"

struct create {
	const struct create_args *args;
	struct machine machine;
	struct target t;
};

static int fail(const struct errmsg *why)
{
	return cli_fail("create", "%s", why->text);
}

/* A later command may stand in another folder. */
static int absolute(char *out, const char *path, struct errmsg *why)
{
	cleanup_free char *full = realpath(path, NULL);

	if (!full)
		return err_set(why, errno, "%s", path);
	if (strlen(full) >= META_PATH_MAX)
		return err_set(why, ENAMETOOLONG, "%s", path);
	strcpy(out, full);
	return 0;
}

static int fill_wish(struct create *c, struct box_meta *wish, struct errmsg *why)
{
	const struct life_config cfg = machine_config(&c->machine);

	*wish = (struct box_meta){.cpus = cfg.cpus,
				  .memory_mib = cfg.memory_mib,
				  .timeout_ms = c->args->timeout_ms,
				  .on_timeout = c->args->on_timeout};
	int err = meta_set_name(wish, c->args->name, why);
	if (!err)
		err = absolute(wish->image, cfg.image, why);
	if (!err)
		err = absolute(wish->kernel, cfg.kernel, why);
	return err ? err : absolute(wish->initrd, cfg.initrd, why);
}

static int prepare(struct create *c)
{
	struct box_meta wish;
	struct errmsg why;
	int err = machine_find(&c->machine, &c->args->machine, &why);

	if (!err)
		err = fill_wish(c, &wish, &why);
	if (!err)
		err = signals_start(&why);
	if (err)
		return fail(&why);
	int status = target_state(&c->t, "create", c->args->state_dir);
	if (status != TARGET_OK)
		return status;
	box_sweep(&c->t.st);
	return box_create(&c->t.box, &c->t.st, &wish, &why) ? fail(&why) : TARGET_OK;
}

static int start(struct create *c)
{
	bool expires = c->args->on_timeout == BOX_TIMEOUT_KILL;
	const struct life_home home = {.fd = c->t.box.fd,
				       .expire_ms = expires ? (uint32_t)c->args->timeout_ms : 0};
	struct life_config cfg = machine_config(&c->machine);
	struct errmsg why;

	cfg.home = &home;
	if (c->args->timeout_ms)
		c->t.box.meta.deadline_s = time(NULL) + (int64_t)(c->args->timeout_ms / 1000);
	if (life_vm_start(&c->t.vm, &cfg, &why))
		return fail(&why);
	signals_guard(c->t.vm);
	return machine_boot(&c->machine, c->t.vm, "create");
}

/* From here on it is a sandbox.  A signal that came before has killed the VM: then it is none. */
static int finish(struct create *c)
{
	struct errmsg why;

	signals_guard(NULL);
	if (signals_fatal())
		return CLI_INTERRUPTED;
	if (box_enter(&c->t.box, BOX_RUNNING, &why))
		return fail(&why);
	life_vm_keep(c->t.vm);
	watch_start(&c->t.box, &c->t.st);
	list_print_new(&c->t.box, c->args->json);
	return CLI_OK;
}

static void undo(struct create *c)
{
	signals_guard(NULL);
	life_vm_destroy(c->t.vm);
	c->t.vm = NULL;
	if (c->t.box.fd >= 0)
		box_remove(&c->t.box, &c->t.st, NULL);
}

int cmd_create(void *config, int argc, char **argv)
{
	const struct create_args *args = config;

	(void)argc, (void)argv;
	if (args->from)
		return create_from(args);
	struct create *c = calloc(1, sizeof(*c));
	if (!c)
		return cli_fail("create", "out of memory");
	c->args = args;
	c->t = (struct target){.st = {.fd = -1, .shelf_fd = -1, .other_fd = -1},
			       .box = {.fd = -1, .lock_fd = -1}};
	int status = prepare(c);
	if (status == TARGET_OK)
		status = start(c);
	if (status == TARGET_OK)
		status = finish(c);
	if (status != CLI_OK)
		undo(c);
	target_close(&c->t);
	free(c);
	return status;
}
