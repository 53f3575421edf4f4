/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk along a command line.  Each step takes one word (and perhaps its value) and answers with how
 * many words it used; operands are moved to the front of argv, which the caller gets back as a slice.
 */
#include "supervisor/cli/opt.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define OPT_WORDS_MAX 64 /* rows of one table */

static const struct opt *find_name(const struct opt *table, const char *name, size_t len)
{
	for (const struct opt *o = table; o && o->name; o++)
		if (strlen(o->name) == len && !memcmp(o->name, name, len))
			return o;
	return NULL;
}

static const struct opt *find_letter(const struct opt *table, char letter)
{
	for (const struct opt *o = table; o && o->name; o++)
		if (letter && o->letter == letter)
			return o;
	return NULL;
}

static int unknown(const struct opt *table, const char *word, struct errmsg *why)
{
	const char *names[OPT_WORDS_MAX] = {NULL};
	size_t n = 0;

	for (const struct opt *o = table; o && o->name; o++)
		if (o->show == OPT_SHOWN) {
			assert(n + 1 < OPT_WORDS_MAX);
			names[n++] = o->name;
		}
	const char *near = word[1] == '-' ? opt_nearest(word + 2, names) : NULL;
	if (near)
		return err_set(why, 0, "unknown option '%s': did you mean '--%s'?", word, near);
	return err_set(why, 0, "unknown option '%s'", word);
}

/* Return: `used`, the words that this option took, or what the setter found wrong. */
static int apply(const struct opt *o, void *config, const char *value, int used, struct errmsg *why)
{
	int err = o->set(o, (char *)config + o->offset, value, why);

	return err ? err : used;
}

/* Return: words used (1 or 2), or -EINVAL. */
static int take_long(const struct opt *table, void *config, char **argv, struct errmsg *why)
{
	const char *name = argv[0] + 2;
	size_t len = strcspn(name, "=");
	const char *value = name[len] ? name + len + 1 : NULL;
	const struct opt *o = find_name(table, name, len);

	if (!o)
		return unknown(table, argv[0], why);
	if (!o->value && value)
		return err_set(why, 0, "option '--%s' takes no value", o->name);
	if (!o->value || value)
		return apply(o, config, value, 1, why);
	if (!argv[1])
		return err_set(why, 0, "option '--%s' needs a value: %s", o->name, o->value);
	return apply(o, config, argv[1], 2, why);
}

static int take_short(const struct opt *table, void *config, char **argv, struct errmsg *why)
{
	const char *word = argv[0];
	const struct opt *o = find_letter(table, word[1]);

	if (!o || (!o->value && word[2]))
		return unknown(table, word, why);
	if (!o->value)
		return apply(o, config, NULL, 1, why);
	if (word[2])
		return apply(o, config, word + 2, 1, why);
	if (!argv[1])
		return err_set(why, 0, "option '-%c' needs a value: %s", o->letter, o->value);
	return apply(o, config, argv[1], 2, why);
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h");
}

/* Return: words used; 0: `--`, the rest are operands; -EINVAL. */
static int take_option(const struct opt *table, void *config, char **argv, struct errmsg *why)
{
	if (!strcmp(argv[0], "--"))
		return 0;
	return argv[0][1] == '-' ? take_long(table, config, argv, why)
				 : take_short(table, config, argv, why);
}

int opt_parse(const struct opt *table, void *config, int argc, char **argv, enum opt_order order,
	      struct opt_args *out, struct errmsg *why)
{
	int kept = 0, at = 0;

	while (at < argc) {
		if (argv[at][0] != '-' || !argv[at][1]) { /* an operand; "-" is one */
			if (order == OPT_STOP)
				break;
			argv[kept++] = argv[at++];
			continue;
		}
		if (is_help(argv[at])) {
			*out = (struct opt_args){.help = true};
			return 0;
		}
		int used = take_option(table, config, argv + at, why);
		if (used < 0)
			return used;
		at += used;
		if (!used) {
			at++;
			break;
		}
	}
	memmove(argv + kept, argv + at, (size_t)(argc - at) * sizeof(*argv));
	kept += argc - at;
	argv[kept] = NULL;
	*out = (struct opt_args){.operand = argv, .count = kept};
	return 0;
}
