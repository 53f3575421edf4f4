/* SPDX-License-Identifier: Apache-2.0 */
/* The options of the commands about sandboxes. */
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"

#define STATE_DIR(type)                                                                        \
	{                                                                                      \
		.name = "state-dir", .value = "DIR",                                           \
		.help = "where sandboxes are kept (default $SPORE_STATE, else "                \
			"~/.local/state/spore)",                                               \
		.set = opt_set_text, .offset = offsetof(type, state_dir), .complete = OPT_FILE \
	}
#define NAME(type)                                                                               \
	{                                                                                        \
		.name = "name", .value = "NAME", .help = "a name to call it by, besides its id", \
		.set = opt_set_text, .offset = offsetof(type, name)                              \
	}
#define JSON(type)                                                         \
	{                                                                  \
		.name = "json", .help = "print JSON", .set = opt_set_flag, \
		.offset = offsetof(type, json)                             \
	}

static int set_on_timeout(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	return meta_timeout_parse(value, field)
		       ? err_set(why, 0, "--%s %s: neither kill nor pause", opt->name, value)
		       : 0;
}

const struct opt create_options[] = {
	MACHINE_OPTIONS(struct create_args, machine),
	NAME(struct create_args),
	{.name = "from",
	 .value = "SNAPSHOT",
	 .help = "go on from where a snapshot was taken, instead of booting",
	 .set = opt_set_text,
	 .offset = offsetof(struct create_args, from)},
	{.name = "timeout",
	 .value = "TIME",
	 .help = "end it after so long, such as 30m or 8h (default: never)",
	 .set = opt_set_duration,
	 .offset = offsetof(struct create_args, timeout_ms)},
	{.name = "on-timeout",
	 .value = "kill|pause",
	 .help = "what is done to it then (default kill)",
	 .set = set_on_timeout,
	 .offset = offsetof(struct create_args, on_timeout)},
	STATE_DIR(struct create_args),
	JSON(struct create_args),
	{.name = NULL},
};

const struct opt exec_options[] = {
	{.name = "detach",
	 .letter = 'd',
	 .help = "start it and print its number: it lives on by itself, see spore ps and attach",
	 .set = opt_set_flag,
	 .offset = offsetof(struct box_exec_args, detach)},
	EXEC_OPTIONS(struct box_exec_args, exec),
	STATE_DIR(struct box_exec_args),
	{.name = NULL},
};

const struct opt shell_options[] = {
	EXEC_OPTIONS(struct box_exec_args, exec),
	STATE_DIR(struct box_exec_args),
	{.name = NULL},
};

const struct opt attach_options[] = {
	STATE_DIR(struct box_exec_args),
	{.name = NULL},
};

const struct opt ls_options[] = {
	{.name = "quiet",
	 .letter = 'q',
	 .help = "print the ids alone, one a line",
	 .set = opt_set_flag,
	 .offset = offsetof(struct box_args, quiet)},
	JSON(struct box_args),
	STATE_DIR(struct box_args),
	{.name = NULL},
};

const struct opt end_options[] = {
	STATE_DIR(struct box_args),
	{.name = NULL},
};

const struct opt rm_options[] = {
	{.name = "force",
	 .letter = 'f',
	 .help = "also one that is running or damaged",
	 .set = opt_set_flag,
	 .offset = offsetof(struct box_args, force)},
	STATE_DIR(struct box_args),
	{.name = NULL},
};

const struct opt logs_options[] = {
	{.name = "lines",
	 .letter = 'n',
	 .value = "N",
	 .help = "how many lines at most (default 100)",
	 .set = opt_set_count,
	 .offset = offsetof(struct box_args, lines)},
	{.name = "follow",
	 .letter = 'f',
	 .help = "go on with what comes, until the sandbox ends or pauses",
	 .set = opt_set_flag,
	 .offset = offsetof(struct box_args, follow)},
	{.name = "raw",
	 .help = "all that is kept, byte by byte, control characters too",
	 .set = opt_set_flag,
	 .offset = offsetof(struct box_args, raw)},
	{.name = "vmm",
	 .help = "what spore-vmm said, instead of the guest's console",
	 .set = opt_set_flag,
	 .offset = offsetof(struct box_args, vmm)},
	STATE_DIR(struct box_args),
	{.name = NULL},
};

const struct opt fork_options[] = {
	{.name = "count",
	 .letter = 'n',
	 .value = "N",
	 .help = "how many children, 1 to 1000 (default 1)",
	 .set = opt_set_count,
	 .offset = offsetof(struct fork_args, count)},
	{.name = "name",
	 .value = "NAME",
	 .help = "a name for the child, besides its id",
	 .set = opt_set_text,
	 .offset = offsetof(struct fork_args, name)},
	JSON(struct fork_args),
	STATE_DIR(struct fork_args),
	{.name = NULL},
};

const struct opt shot_options[] = {
	NAME(struct shot_args),
	JSON(struct shot_args),
	STATE_DIR(struct shot_args),
	{.name = NULL},
};

const struct opt show_options[] = {
	JSON(struct box_args),
	STATE_DIR(struct box_args),
	{.name = NULL},
};

const struct opt cp_options[] = {
	{.name = "user",
	 .value = "USER",
	 .letter = 'u',
	 .help = "user in the guest, by name or number (default user, else root)",
	 .set = opt_set_text,
	 .offset = offsetof(struct box_args, user)},
	{.name = "copy-max",
	 .value = "SIZE",
	 .help = "bytes that are taken out at most (default 64G)",
	 .set = opt_set_bytes,
	 .offset = offsetof(struct box_args, copy_bytes)},
	{.name = "copy-max-files",
	 .value = "N",
	 .help = "files that are taken out at most (default 1000000)",
	 .set = opt_set_count,
	 .offset = offsetof(struct box_args, copy_entries)},
	STATE_DIR(struct box_args),
	{.name = NULL},
};
