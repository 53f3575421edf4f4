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

static const struct opt image_build_options[] = {
	{.name = "recipe",
	 .value = "FILE",
	 .help = "the build script instead of the one that comes with Spore",
	 .set = opt_set_text,
	 .offset = offsetof(struct image_args, recipe),
	 .complete = OPT_FILE},
	{.name = NULL},
};

static const struct opt image_import_options[] = {
	{.name = "size",
	 .value = "SIZE",
	 .help = "size of the file system made from a tar or an OCI layout "
		 "(default: what it holds, half as much again, and 64M)",
	 .set = opt_set_bytes,
	 .offset = offsetof(struct image_args, size)},
	{.name = "max-size",
	 .value = "SIZE",
	 .help = "refuse what unpacks to more than this (default 16G)",
	 .set = opt_set_bytes,
	 .offset = offsetof(struct image_args, max_size)},
	{.name = "replace",
	 .help = "put it in the place of an image with the same name",
	 .set = opt_set_flag,
	 .offset = offsetof(struct image_args, replace)},
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
	{.name = "build",
	 .summary = "make the base image (Debian) with mmdebstrap",
	 .synopsis = "[--recipe FILE] [NAME]",
	 .about = "NAME is `base` unless given.  Needs mmdebstrap, and root or user namespaces.\n",
	 .options = image_build_options,
	 .order = OPT_MIX,
	 .config_size = sizeof(struct image_args),
	 .operands_max = 1,
	 .run = cmd_image_build},
	{.name = "import",
	 .summary = "make an image from an ext4 file, a tar or an OCI layout",
	 .synopsis = "[--size SIZE] [--max-size SIZE] [--replace] NAME PATH",
	 .about = "PATH is a raw ext4 file system, a tar (also compressed), or a directory in OCI "
		  "image\n"
		  "layout (as `skopeo copy docker://IMAGE oci:DIR` makes it).\n",
	 .options = image_import_options,
	 .order = OPT_MIX,
	 .config_size = sizeof(struct image_args),
	 .operands_min = 2,
	 .operands_max = 2,
	 .run = cmd_image_import},
	{.name = "rm",
	 .summary = "remove images that no sandbox uses",
	 .synopsis = "NAME...",
	 .options = no_options,
	 .order = OPT_MIX,
	 .config_size = sizeof(struct image_args),
	 .operands_min = 1,
	 .operands_max = OPERANDS_ANY,
	 .run = cmd_image_rm},
	/* import's packing process: no summary, so help and completion pass over it */
	{.name = "pack",
	 .synopsis = "PATH STAGE SIZE MAX",
	 .options = no_options,
	 .order = OPT_MIX,
	 .operands_min = 4,
	 .operands_max = 4,
	 .run = cmd_image_pack},
	{.name = NULL},
};

const struct command commands[] = {
	{.name = "run",
	 .summary = "run a command in a new microVM and throw the VM away",
	 .synopsis = "[OPTION]... [--] COMMAND [ARGUMENT]...",
	 .about = run_about,
	 .options = run_options,
	 .order = OPT_STOP,
	 .config_size = sizeof(struct run_args),
	 .operands_min = 1,
	 .operands_max = OPERANDS_ANY,
	 .run = cmd_run},
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
