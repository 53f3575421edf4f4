/* SPDX-License-Identifier: Apache-2.0 */
/* spore cp: files into a sandbox and out of it. */
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/copying.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/target.h"

/* The colon after a sandbox's name, or NULL: a slash before it makes it a host's path, as in ./a:b. */
static const char *colon_of(const char *text)
{
	size_t len = strcspn(text, ":/");

	return len && text[len] == ':' ? text + len : NULL;
}

static int copy(struct target *t, const struct box_args *args, copying_fn *fn, const char *from,
		const char *to)
{
	const struct copying copying = {.command = "cp",
					.title = "",
					.at = &t->at,
					.user = args->user,
					.bytes_max = args->copy_bytes,
					.entries_max = args->copy_entries};
	struct errmsg why;

	if (signals_start(&why))
		return cli_fail("cp", "%s", why.text);
	int status = copying_run(&copying, fn, from, to);
	return status == TARGET_OK ? CLI_OK : status;
}

static int copy_between(const struct box_args *args, const char *boxed, copying_fn *fn,
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
