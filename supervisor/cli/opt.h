/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opt.h - options from a table
 *
 * A command's options are rows: name, placeholder, help, and a setter with the offset of the field it
 * fills.  Parsing, --help, shell completion and the manual's check read the same rows, so that they
 * cannot drift apart.  Setters know the field's type and every bound; their messages name the option and
 * the value as given.
 *
 * Thread: any; no globals.
 */
#ifndef SPORE_SUPERVISOR_CLI_OPT_H
#define SPORE_SUPERVISOR_CLI_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define OPT_LIST_MAX    1024 /* repetitions of one option */
#define OPT_OPERAND_MAX 65536

struct opt;

/* @field: where the row's offset leads.  Return: 0, or -EINVAL/-ENOMEM with *why. */
typedef int opt_set_fn(const struct opt *opt, void *field, const char *value, struct errmsg *why);

enum opt_show { OPT_SHOWN, OPT_HIDDEN };

enum opt_complete { OPT_WORD, OPT_FILE, OPT_IMAGE, OPT_BOX }; /* what a shell should offer */

struct opt {
	const char *name;  /* without the dashes; NULL ends the table */
	const char *value; /* placeholder in help; NULL: takes none */
	const char *help;  /* one sentence without its full stop */
	opt_set_fn *set;
	size_t offset;
	char letter; /* of the short form, or 0 */
	enum opt_show show;
	enum opt_complete complete;
};

/* Values of an option that may stand several times, in order; strings are the caller's argv. */
struct opt_list {
	const char *item[OPT_LIST_MAX];
	size_t count;
};

/* Setters.  The field's type is in the comment. */
opt_set_fn opt_set_flag;     /* bool */
opt_set_fn opt_set_text;     /* const char *; not empty */
opt_set_fn opt_set_list;     /* struct opt_list */
opt_set_fn opt_set_cpus;     /* uint32_t */
opt_set_fn opt_set_memory;   /* uint64_t, MiB */
opt_set_fn opt_set_bytes;    /* uint64_t, bytes; more than 0 */
opt_set_fn opt_set_count;    /* uint64_t; more than 0 */
opt_set_fn opt_set_duration; /* uint64_t, ms; more than 0 */

#define OPT_MEMORY_MIN_MIB 32u            /* below it a Linux guest cannot boot */
#define OPT_MEMORY_MAX_MIB (512u * 1024u) /* 512 GiB */
#define OPT_CPUS_MAX       32u
#define OPT_DURATION_MAX_S (7u * 24 * 3600)

enum opt_order {
	OPT_STOP, /* the first operand ends the options: the rest is another command's line */
	OPT_MIX,  /* options may follow operands, up to "--" */
};

struct opt_args {
	char **operand; /* points into argv, which is reordered */
	int count;
	bool help; /* --help or -h was seen: nothing after it was looked at */
};

/*
 * opt_parse() - fill a configuration from a command line
 * @table:  rows; may be NULL
 * @config: what the rows' offsets count from
 * @argv:   without the command's own name; reordered so that the operands stand together
 *
 * `--name VALUE`, `--name=VALUE`, `-x VALUE`, `-xVALUE`; `--` ends the options.
 * Return: 0; -EINVAL with a message that names the option, and the nearest known one.
 */
int opt_parse(const struct opt *table, void *config, int argc, char **argv, enum opt_order order,
	      struct opt_args *out, struct errmsg *why);

/* The word of `words` (NULL-ended) nearest to `given`, or NULL when none is near: for "did you mean". */
const char *opt_nearest(const char *given, const char *const *words);

/* --- values: 0 or -EINVAL, *out written on success only ---------------------------------------- */

/* "512M", "1G", "1.5G", "4096k", "123": bytes; K M G T are powers of 1024, "iB" or "B" may follow. */
int opt_size(const char *text, uint64_t *bytes);
/* "90", "90s", "1.5s", "250ms", "2m", "1h": milliseconds. */
int opt_duration(const char *text, uint64_t *ms);

/* "SRC:DST" split at the first colon that no backslash precedes; both parts not empty. */
struct opt_pair {
	char *src, *dst; /* one allocation: free(src) */
};
int opt_pair(const char *text, struct opt_pair *out);

#endif
