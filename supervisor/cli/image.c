/* SPDX-License-Identifier: Apache-2.0 */
/* spore image ls and rm. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "supervisor/cli/cmd_image.h"
#include "supervisor/cli/command.h"
#include "supervisor/image/import.h"
#include "supervisor/image/store.h"
#include "supervisor/lifecycle/files.h"

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

int cmd_image_import(void *config, int argc, char **argv)
{
	const struct image_args *args = config;
	char self[4096];
	struct errmsg why;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	(void)argc;
	self[n > 0 ? n : 0] = '\0';
	const struct import import = {
		.name = argv[0],
		.path = argv[1],
		.self = self,
		.size = args->size,
		.bytes_max = args->max_size,
		.how = args->replace ? STORE_REPLACE : STORE_NEW,
	};
	int err = import_image(&import, &why);
	if (err == -ECHILD)
		return CLI_FAILED; /* the packing process has said why */
	return err ? cli_fail("image import", "%s", why.text) : CLI_OK;
}

int cmd_image_build(void *config, int argc, char **argv)
{
	const struct image_args *args = config;
	char recipe[LIFE_PATH_MAX];
	struct errmsg why;
	int err = life_file_find(LIFE_FILE_RECIPE, args->recipe, recipe, &why);

	if (!err)
		err = import_build(recipe, argc ? argv[0] : STORE_DEFAULT_IMAGE, &why);
	return err ? cli_fail("image build", "%s", why.text) : CLI_OK;
}

/* Not for people: the process that import starts, perhaps in a user namespace.  PATH STAGE SIZE MAX */
int cmd_image_pack(void *config, int argc, char **argv)
{
	struct errmsg why;

	(void)config, (void)argc;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* again: entering the namespace has cleared it */
	int err = import_pack(argv[0], argv[1], strtoull(argv[2], NULL, 10),
			      strtoull(argv[3], NULL, 10), &why);
	return err ? cli_fail("image import", "%s", why.text) : CLI_OK;
}
