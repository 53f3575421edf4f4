/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore completion bash|zsh: scripts made from the tables.  Both shells get one case per command: its
 * words, its options, and what kind of value an option takes.
 */
#include "supervisor/cli/command.h"

#include <string.h>

static const char *kind_name(enum opt_complete kind)
{
	static const char *const names[] = {[OPT_WORD] = "none",
					    [OPT_FILE] = "files",
					    [OPT_IMAGE] = "images",
					    [OPT_BOX] = "boxes"};

	return names[kind];
}

static void put_words(const struct command *cmd)
{
	for (const struct command *c = cmd->sub; c && c->name; c++)
		if (c->summary)
			printf("%s ", c->name);
	for (const struct opt *o = cmd->options; o && o->name; o++)
		if (o->show == OPT_SHOWN)
			printf("--%s ", o->name);
	printf("--help");
}

static void put_values(const struct command *cmd, const char *path)
{
	for (const struct opt *o = cmd->options; o && o->name; o++)
		if (o->value && o->show == OPT_SHOWN)
			printf("\t'%s --%s') kind=%s ;;\n", path, o->name, kind_name(o->complete));
}

static void put_operand(const struct command *cmd, const char *path)
{
	if (cmd->operand)
		printf("\t'%s') kind=%s ;;\n", path, kind_name(cmd->operand));
}

typedef void put_fn(const struct command *cmd, const char *path);

static void put_words_case(const struct command *cmd, const char *path)
{
	printf("\t'%s') words='", path);
	put_words(cmd);
	puts("' ;;");
}

static void each_command(const struct command *table, const char *prefix, put_fn *put)
{
	char path[64];

	for (const struct command *c = table; c->name; c++) {
		if (!c->summary)
			continue;
		snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? " " : "", c->name);
		put(c, path);
		if (c->sub)
			each_command(c->sub, path, put);
	}
}

static void put_top_words(void)
{
	printf("\t'') words='");
	for (const struct command *c = commands; c->name; c++)
		printf("%s ", c->name);
	puts("--help' ;;");
}

/* Shared by both shells: what may follow, given the command so far and the word before. */
static void put_tables(void)
{
	puts("_spore_words() { # COMMAND-PATH\n\tlocal words=\n\tcase $1 in");
	put_top_words();
	each_command(commands, "", put_words_case);
	puts("\tesac\n\tprintf '%s' \"$words\"\n}\n");
	puts("_spore_kind() { # COMMAND-PATH OPTION\n\tlocal kind=\n\tcase \"$1 $2\" in");
	each_command(commands, "", put_values);
	puts("\tesac\n\tprintf '%s' \"$kind\"\n}\n");
	puts("_spore_operand() { # COMMAND-PATH WORD\n\tlocal kind=\n"
	     "\tcase $2 in -*) return ;; esac\n\tcase $1 in");
	each_command(commands, "", put_operand);
	puts("\tesac\n\tprintf '%s' \"$kind\"\n}\n");
	puts("_spore_boxes() { spore ls --json 2>/dev/null | "
	     "sed -nE 's/^ *\"(id|name)\": \"(.*)\",?$/\\2/p'; }");
	puts("_spore_images() { spore image ls 2>/dev/null | awk 'NR > 1 { print $1 }'; }\n");
}

static const char bash_main[] =
	"_spore() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= i kind\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tcase ${COMP_WORDS[i]} in\n"
	"\t\t--) [ \"$path\" = run ] && { COMPREPLY=($(compgen -c -- \"$cur\")); return; } ;;\n"
	"\t\t-*) ;;\n"
	"\t\t*) [ -n \"$(_spore_words \"${path:+$path }${COMP_WORDS[i]}\")\" ] &&\n"
	"\t\t\tpath=\"${path:+$path }${COMP_WORDS[i]}\" ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tkind=$(_spore_kind \"$path\" \"$prev\")\n"
	"\t[ -n \"$kind\" ] || kind=$(_spore_operand \"$path\" \"$cur\")\n"
	"\tcase $kind in\n"
	"\tfiles) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
	"\tboxes) COMPREPLY=($(compgen -W \"$(_spore_boxes)\" -- \"$cur\")) ;;\n"
	"\timages) COMPREPLY=($(compgen -W \"$(_spore_images)\" -- \"$cur\")) ;;\n"
	"\tnone) COMPREPLY=() ;;\n"
	"\t*) COMPREPLY=($(compgen -W \"$(_spore_words \"$path\")\" -- \"$cur\")) ;;\n"
	"\tesac\n"
	"}\n"
	"complete -o filenames -o bashdefault -F _spore spore";

static const char zsh_main[] =
	"_spore() {\n"
	"\tlocal where= i kind\n"
	"\tfor ((i = 2; i < CURRENT; i++)); do\n"
	"\t\tcase ${words[i]} in\n"
	"\t\t-*) ;;\n"
	"\t\t*) [ -n \"$(_spore_words \"${where:+$where }${words[i]}\")\" ] &&\n"
	"\t\t\twhere=\"${where:+$where }${words[i]}\" ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tkind=$(_spore_kind \"$where\" \"${words[CURRENT-1]}\")\n"
	"\t[ -n \"$kind\" ] || kind=$(_spore_operand \"$where\" \"${words[CURRENT]}\")\n"
	"\tcase $kind in\n"
	"\tfiles) _files ;;\n"
	"\tboxes) compadd -- ${(f)\"$(_spore_boxes)\"} ;;\n"
	"\timages) compadd -- ${(f)\"$(_spore_images)\"} ;;\n"
	"\tnone) ;;\n"
	"\t*) compadd -- ${=\"$(_spore_words \"$where\")\"} ;;\n"
	"\tesac\n"
	"}\n"
	"_spore \"$@\"";

int cmd_completion(void *config, int argc, char **argv)
{
	(void)config, (void)argc;
	if (!strcmp(argv[0], "bash")) {
		puts("# bash completion for spore");
		put_tables();
		puts(bash_main);
	} else if (!strcmp(argv[0], "zsh")) {
		puts("#compdef spore");
		put_tables();
		puts(zsh_main);
	} else {
		return cli_fail("completion", "no completion for '%s': bash or zsh", argv[0]);
	}
	return CLI_OK;
}
