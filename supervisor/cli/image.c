/* SPDX-License-Identifier: Apache-2.0 */
/* spore image ls and rm. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "supervisor/cli/cmd_image.h"
#include "supervisor/cli/command.h"
#include "supervisor/image/store.h"

#define MIB UINT64_C(1048576)

static int add_json(void *arg, const struct store_image *image)
{
	json_t *row =
		json_pack("{ss ss sI sI sI}", "name", image->name, "source", image->source, "bytes",
			  (json_int_t)image->bytes, "disk_bytes", (json_int_t)image->disk_bytes,
			  "created", (json_int_t)image->created);

	return row && !json_array_append_new(arg, row) ? 0 : -ENOMEM;
}

static int print_row(void *arg, const struct store_image *image)
{
	(void)arg;
	printf("%-24s %8" PRIu64 " %8" PRIu64 "  %s\n", image->name, image->bytes / MIB,
	       image->disk_bytes / MIB, image->source);
	return 0;
}

int cmd_image_ls(void *config, int argc, char **argv)
{
	const struct image_args *args = config;
	struct errmsg why = {.text = "out of memory"};
	json_t *list = args->json ? json_array() : NULL;

	(void)argc, (void)argv;
	if (!list)
		printf("%-24s %8s %8s  %s\n", "NAME", "MiB", "ON DISK", "SOURCE");
	int err = store_list(list ? add_json : print_row, list, &why);
	if (list && !err) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(list);
	return err ? cli_fail("image ls", "%s", why.text) : CLI_OK;
}

int cmd_image_rm(void *config, int argc, char **argv)
{
	struct errmsg why;
	int status = CLI_OK;

	(void)config;
	for (int i = 0; i < argc; i++)
		if (store_remove(argv[i], &why))
			status = cli_fail("image rm", "%s", why.text);
	return status;
}
