/* SPDX-License-Identifier: Apache-2.0 */
/* spore cp: files into a sandbox and out of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/target.h"
#include "supervisor/cli/term.h"
#include "supervisor/lifecycle/copy.h"

/* The colon after a sandbox's name, or NULL: a slash before it makes it a host's path, as in ./a:b. */
static const char *colon_of(const char *text)
{
	size_t len = strcspn(text, ":/");

	return len && text[len] == ':' ? text + len : NULL;
}

static void tick(void *arg, uint64_t bytes)
{
	progress_tick(arg, bytes);
}

typedef int copy_fn(struct copy *copy, const char *from, const char *to, struct errmsg *why);

static int copy(struct target *t, const struct box_args *args, copy_fn *fn, const char *from,
		const char *to)
{
	struct progress progress = progress_begin("copying");
	struct copy copy = {
		.at = &t->at,
		.user = args->user,
		.bytes_max = args->copy_bytes ? args->copy_bytes : COPY_BYTES_MAX,
		.entries_max = args->copy_entries ? args->copy_entries : COPY_ENTRIES_MAX,
		.tick = tick,
		.tick_arg = &progress,
		.stop = signals_fatal,
	};
	struct errmsg why;

	if (signals_start(&why))
		return cli_fail("cp", "%s", why.text);
	int err = fn(&copy, from, to, &why);
	progress_end(&progress);
	if (signals_fatal())
		return CLI_INTERRUPTED;
	if (err)
		return cli_fail("cp", "%s", why.text);
	if (copy.left_out)
		fprintf(stderr,
			"spore cp: left out %llu (devices, FIFOs, sockets, links that lead "
			"outside)\n",
			(unsigned long long)copy.left_out);
	return CLI_OK;
}

static int copy_between(const struct box_args *args, const char *boxed, copy_fn *fn,
			const char *host)
{
	const char *colon = colon_of(boxed), *path = colon + 1;
	cleanup_free char *word = strndup(boxed, (size_t)(colon - boxed));
	struct target t;

	if (!word)
		return cli_fail("cp", "out of memory");
	if (!*path)
		return cli_fail("cp", "%s: no path behind the colon", boxed);
	int status = target_reach(&t, "cp", args->state_dir, word);
	if (status == TARGET_OK)
		status = fn == copy_in ? copy(&t, args, fn, host, path)
				       : copy(&t, args, fn, path, host);
	target_close(&t);
	return status;
}

int cmd_cp(void *config, int argc, char **argv)
{
	bool from = colon_of(argv[0]), to = colon_of(argv[1]);

	(void)argc;
	if (from == to)
		return cli_fail("cp", "one of the two, and not both, is SANDBOX:PATH");
	return from ? copy_between(config, argv[0], copy_out, argv[1])
		    : copy_between(config, argv[1], copy_in, argv[0]);
}
