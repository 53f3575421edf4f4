/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h - the table of commands
 *
 * A command is a row: what it is called, what it takes, what it does.  `spore help`, `--help`, shell
 * completion and main() read the table (commands.c); a new command is a row there and a file cmd_NAME.c.
 *
 * Thread: main.
 */
#ifndef SPORE_SUPERVISOR_CLI_COMMAND_H
#define SPORE_SUPERVISOR_CLI_COMMAND_H

#include <stdio.h>

#include "supervisor/cli/opt.h"

/* Exit statuses of spore itself; `run` otherwise gives the command's own. */
enum cli_status {
	CLI_OK = 0,
	CLI_NO = 1,       /* doctor: not usable */
	CLI_PAUSED = 123, /* exec, attach: cut by a pause; the command lives on */
	CLI_TIMEOUT = 124,
	CLI_FAILED = 125, /* Spore failed before or around the command; wrong usage */
	CLI_NOT_EXECUTABLE = 126,
	CLI_NOT_FOUND = 127,
	CLI_SIGNAL = 128, /* and the signal's number */
	CLI_INTERRUPTED = 130,
};

struct command {
	const char *name;     /* NULL ends a table */
	const char *summary;  /* one line, no full stop; NULL: not for people */
	const char *synopsis; /* what follows the name */
	const char *about;    /* paragraphs after the options, or NULL */
	const struct opt *options;
	enum opt_order order;
	size_t config_size; /* of the struct that the options fill; zeroed for run() */
	int operands_min, operands_max;
	enum opt_complete operand; /* what the first one is */
	/* @argv: operands, NULL-ended.  Return: the exit status. */
	int (*run)(void *config, int argc, char **argv);
	/* A group: its own commands.  With run() as well, words that name none of them are run()'s. */
	const struct command *sub;
};

extern const struct command commands[];
extern const struct command cmd_image_subs[];
extern const struct command cmd_snapshot_subs[];

extern const struct opt run_options[];
extern const struct opt doctor_options[];

int cmd_run(void *config, int argc, char **argv);
int cmd_doctor(void *config, int argc, char **argv);
int cmd_image_ls(void *config, int argc, char **argv);
int cmd_image_build(void *config, int argc, char **argv);
int cmd_image_import(void *config, int argc, char **argv);
int cmd_image_rm(void *config, int argc, char **argv);
int cmd_image_pack(void *config, int argc, char **argv);
int cmd_disk_inspect(void *config, int argc, char **argv);
int cmd_completion(void *config, int argc, char **argv);
int cmd_help(void *config, int argc, char **argv);
int cmd_version(void *config, int argc, char **argv);

/* The row called `name`, or NULL. */
const struct command *command_find(const struct command *table, const char *name);
/* The name that `word` may have been meant for, or NULL. */
const char *command_near(const struct command *table, const char *word);
/* Runs the command that the words name: from main()'s argv without the program's name. */
int command_dispatch(const struct command *table, const char *prefix, int argc, char **argv);

/* The overview of a table, and one command's page. */
void help_table(FILE *to, const struct command *table, const char *prefix);
void help_command(FILE *to, const struct command *cmd, const char *prefix);

/* "spore PREFIX: text" on stderr.  Return: CLI_FAILED. */
int cli_fail(const char *prefix, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
