/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/copying.h"

#include <stdio.h>

#include "supervisor/cli/command.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/term.h"

static void tick(void *arg, uint64_t bytes)
{
	progress_tick(arg, bytes);
}

int copying_run(const struct copying *c, copying_fn *fn, const char *from, const char *to)
{
	struct progress progress = progress_begin("copying");
	struct copy copy = {
		.at = c->at,
		.user = c->user,
		.bytes_max = c->bytes_max ? c->bytes_max : COPY_BYTES_MAX,
		.entries_max = c->entries_max ? c->entries_max : COPY_ENTRIES_MAX,
		.tick = tick,
		.tick_arg = &progress,
		.stop = signals_fatal,
	};
	struct errmsg why;
	int err = fn(&copy, from, to, &why);

	progress_end(&progress);
	if (signals_fatal())
		return CLI_INTERRUPTED;
	if (err)
		return cli_fail(c->command, "%s%s", c->title, why.text);
	if (copy.left_out)
		fprintf(stderr,
			"spore %s: %sleft out %llu (devices, FIFOs, sockets, links that lead "
			"outside)\n",
			c->command, c->title, (unsigned long long)copy.left_out);
	return -1;
}
