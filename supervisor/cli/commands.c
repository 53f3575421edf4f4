/* SPDX-License-Identifier: Apache-2.0 */
/* All commands of spore, in the order in which help shows them. */
#include "supervisor/cli/command.h"

#include "supervisor/cli/cmd_image.h"
#include "supervisor/cli/cmd_run.h"

#define OPERANDS_ANY OPT_OPERAND_MAX

static const struct opt image_ls_options[] = {
	{.name = "json",
	 .help = "print a JSON array",
	 .set = opt_set_flag,
	 .offset = offsetof(struct image_args, json)},
	{.name = NULL},
};

static const struct opt no_options[] = {{.name = NULL}};

const struct command cmd_image_subs[] = {
	{.name = "ls",
	 .summary = "list the images of the store",
	 .synopsis = "[--json]",
	 .options = image_ls_options,
	 .order = OPT_MIX,
	 .config_size = sizeof(struct image_args),
	 .run = cmd_image_ls},
	{.name = "rm",
	 .summary = "remove images that no sandbox uses",
	 .synopsis = "NAME...",
	 .options = no_options,
	 .order = OPT_MIX,
	 .config_size = sizeof(struct image_args),
	 .operands_min = 1,
	 .operands_max = OPERANDS_ANY,
	 .run = cmd_image_rm},
	{.name = NULL},
};

const struct command commands[] = {
	{.name = "image",
	 .summary = "list, build, import and remove images",
	 .synopsis = "COMMAND",
	 .sub = cmd_image_subs},
	{.name = "doctor",
	 .summary = "say what this machine can do, and what is lost where it cannot",
	 .synopsis = "[--json]",
	 .about = "Exit status: 0 Linux guests can run here, 1 they cannot.\n",
	 .options = doctor_options,
	 .order = OPT_MIX,
	 .config_size = sizeof(struct doctor_args),
	 .run = cmd_doctor},
	{.name = "completion",
	 .summary = "print the completion script of a shell",
	 .synopsis = "bash|zsh",
	 .options = no_options,
	 .order = OPT_MIX,
	 .operands_min = 1,
	 .operands_max = 1,
	 .run = cmd_completion},
	{.name = "help",
	 .summary = "explain a command",
	 .synopsis = "[COMMAND...]",
	 .options = no_options,
	 .order = OPT_MIX,
	 .operands_max = 2,
	 .run = cmd_help},
	{.name = "version",
	 .summary = "print the version",
	 .synopsis = "",
	 .options = no_options,
	 .order = OPT_MIX,
	 .run = cmd_version},
	{.name = NULL},
};
