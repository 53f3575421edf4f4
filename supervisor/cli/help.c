/* SPDX-License-Identifier: Apache-2.0 */
/* --help, made from the tables, and the small commands help and version. */
#include "supervisor/cli/command.h"

#include <string.h>

#define HELP_COLUMNS 80
#define HELP_LABEL   26 /* columns before the explanation */

static void put_wrapped(FILE *to, const char *text)
{
	size_t column = HELP_LABEL;

	while (*text) {
		size_t word = strcspn(text, " ");
		if (column > HELP_LABEL && column + 1 + word > HELP_COLUMNS) {
			fprintf(to, "\n%*s", HELP_LABEL, "");
			column = HELP_LABEL;
		} else if (column > HELP_LABEL) {
			fputc(' ', to);
			column++;
		}
		fwrite(text, 1, word, to);
		column += word;
		text += word + strspn(text + word, " ");
	}
	fputc('\n', to);
}

static void put_row(FILE *to, const char *label, const char *text)
{
	int used = fprintf(to, "  %s", label);

	if (used > HELP_LABEL - 2)
		fprintf(to, "\n%*s", HELP_LABEL, "");
	else
		fprintf(to, "%*s", HELP_LABEL - used, "");
	put_wrapped(to, text);
}

static void put_option(FILE *to, const struct opt *o)
{
	char label[64], letter[8] = "";

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	snprintf(label, sizeof(label), "%s--%s%s%s", letter, o->name, o->value ? " " : "",
		 o->value ? o->value : "");
	put_row(to, label, o->help);
}

void help_command(FILE *to, const struct command *cmd, const char *prefix)
{
	fprintf(to, "usage: spore %s %s\n\n%s\n", prefix, cmd->synopsis,
		cmd->summary ? cmd->summary : "");
	if (cmd->options && cmd->options->name)
		fputs("\noptions:\n", to);
	for (const struct opt *o = cmd->options; o && o->name; o++)
		if (o->show == OPT_SHOWN)
			put_option(to, o);
	if (cmd->about)
		fprintf(to, "\n%s", cmd->about);
}

void help_table(FILE *to, const struct command *table, const char *prefix)
{
	const char *space = *prefix ? " " : "";

	fprintf(to, "usage: spore%s%s COMMAND [ARGUMENT]...\n\n", space, prefix);
	if (!*prefix)
		fputs("Linux sandboxes in microVMs.\n\n", to);
	for (const struct command *c = table; c->name; c++)
		if (c->summary)
			put_row(to, c->name, c->summary);
	fprintf(to, "\n'spore help%s%s COMMAND' explains a command.\n", space, prefix);
}

int cmd_help(void *config, int argc, char **argv)
{
	const struct command *table = commands, *cmd = NULL;
	char prefix[64] = "";

	(void)config;
	for (int i = 0; i < argc; i++) {
		cmd = table ? command_find(table, argv[i]) : NULL;
		if (!cmd)
			return cli_fail("help", "no command '%s%s%s'", prefix, *prefix ? " " : "",
					argv[i]);
		size_t len = strlen(prefix);
		snprintf(prefix + len, sizeof(prefix) - len, "%s%s", len ? " " : "", cmd->name);
		table = cmd->sub;
	}
	if (table)
		help_table(stdout, table, prefix);
	else
		help_command(stdout, cmd, prefix);
	return CLI_OK;
}

int cmd_version(void *config, int argc, char **argv)
{
	(void)config, (void)argc, (void)argv;
	puts("spore " SPORE_VERSION);
	return CLI_OK;
}
