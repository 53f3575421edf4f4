/* SPDX-License-Identifier: Apache-2.0 */
/* From words to a row of the table, and from a row to its run(). */
#include "supervisor/cli/command.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define COMMANDS_MAX 32
#define PREFIX_MAX   64

int cli_fail(const char *prefix, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "spore%s%s: ", *prefix ? " " : "", prefix);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_FAILED;
}

const struct command *command_find(const struct command *table, const char *name)
{
	for (const struct command *c = table; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

const char *command_near(const struct command *table, const char *word)
{
	const char *names[COMMANDS_MAX] = {NULL};
	size_t n = 0;

	for (const struct command *c = table; c->name && n + 1 < COMMANDS_MAX; c++)
		if (c->summary)
			names[n++] = c->name;
	return opt_nearest(word, names);
}

static int unknown_command(const struct command *table, const char *prefix, const char *word)
{
	const char *help = *prefix ? prefix : "";

	if (word[0] == '-')
		return cli_fail(prefix, "unknown option '%s'; try 'spore help%s%s'", word,
				*help ? " " : "", help);
	const char *near = command_near(table, word);
	if (near)
		return cli_fail(prefix, "unknown command '%s': did you mean '%s'?", word, near);
	return cli_fail(prefix, "unknown command '%s'; try 'spore help%s%s'", word,
			*help ? " " : "", help);
}

static int run_row(const struct command *cmd, const char *prefix, int argc, char **argv)
{
	struct opt_args args;
	struct errmsg why;
	cleanup_free void *config = calloc(1, cmd->config_size ? cmd->config_size : 1);

	if (!config)
		return cli_fail(prefix, "out of memory");
	if (opt_parse(cmd->options, config, argc, argv, cmd->order, &args, &why))
		return cli_fail(prefix, "%s; try 'spore help %s'", why.text, prefix);
	if (args.help) {
		help_command(stdout, cmd, prefix);
		return CLI_OK;
	}
	if (args.count < cmd->operands_min)
		return cli_fail(prefix, "too few arguments; usage: spore %s %s", prefix,
				cmd->synopsis);
	if (args.count > cmd->operands_max)
		return cli_fail(prefix, "unexpected argument '%s'; usage: spore %s %s",
				args.operand[cmd->operands_max], prefix, cmd->synopsis);
	return cmd->run(config, args.count, args.operand);
}

static int run_group(const struct command *table, const char *prefix, FILE *to, int status)
{
	help_table(to, table, prefix);
	return status;
}

static bool names_none(const struct command *table, const char *word)
{
	return !command_find(table, word) && strcmp(word, "--help") != 0 && strcmp(word, "-h") != 0;
}

int command_dispatch(const struct command *table, const char *prefix, int argc, char **argv)
{
	char full[PREFIX_MAX];

	if (!argc)
		return run_group(table, prefix, stderr, CLI_FAILED);
	if (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))
		return run_group(table, prefix, stdout, CLI_OK);
	const char *name = !*prefix && !strcmp(argv[0], "--version") ? "version" : argv[0];
	const struct command *cmd = command_find(table, name);
	if (!cmd)
		return unknown_command(table, prefix, argv[0]);
	snprintf(full, sizeof(full), "%s%s%s", prefix, *prefix ? " " : "", cmd->name);
	if (cmd->sub && !(cmd->run && argc > 1 && names_none(cmd->sub, argv[1])))
		return command_dispatch(cmd->sub, full, argc - 1, argv + 1);
	return run_row(cmd, full, argc - 1, argv + 1);
}
