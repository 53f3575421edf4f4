/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of options: text in, a checked number out.  Decimal only, no signs, no spaces; a fraction is
 * kept exactly (thousandths) so that 1.5G is 1536 MiB and not nearly so.
 */
#include "supervisor/cli/opt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ckd.h"

#define MIB (UINT64_C(1) << 20)

/* A decimal number with up to three places after the point, in thousandths; *end at what follows. */
static int parse_milli(const char *text, uint64_t *milli, const char **end)
{
	uint64_t whole = 0, part = 0, scale = 100;
	const char *at = text;

	for (; *at >= '0' && *at <= '9'; at++)
		if (!ckd_ok_mul(&whole, whole, 10u) ||
		    !ckd_ok_add(&whole, whole, (uint64_t)(*at - '0')))
			return -EINVAL;
	if (at == text)
		return -EINVAL;
	if (*at == '.') {
		const char *first = ++at;
		for (; *at >= '0' && *at <= '9'; at++, scale /= 10)
			part += (uint64_t)(*at - '0') * scale;
		if (at == first || at - first > 3)
			return -EINVAL;
	}
	*end = at;
	return ckd_ok_mul(milli, whole, 1000u) && ckd_ok_add(milli, *milli, part) ? 0 : -EINVAL;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static int scale(const char *text, const struct unit *units, uint64_t per, uint64_t *out)
{
	uint64_t milli, product;
	const char *suffix;

	if (parse_milli(text, &milli, &suffix))
		return -EINVAL;
	for (const struct unit *u = units; u->name; u++) {
		if (strcmp(suffix, u->name) != 0)
			continue;
		if (!ckd_ok_mul(&product, milli, u->factor) || product % per)
			return -EINVAL;
		*out = product / per;
		return 0;
	}
	return -EINVAL;
}

#define SIZE_UNIT(letter, low, shift)                                    \
	{letter, UINT64_C(1) << (shift)}, {low, UINT64_C(1) << (shift)}, \
		{letter "B", UINT64_C(1) << (shift)},                    \
	{                                                                \
		letter "iB", UINT64_C(1) << (shift)                      \
	}

int opt_size(const char *text, uint64_t *bytes)
{
	static const struct unit units[] = {
		{"", 1},
		{"B", 1},
		SIZE_UNIT("K", "k", 10),
		SIZE_UNIT("M", "m", 20),
		SIZE_UNIT("G", "g", 30),
		SIZE_UNIT("T", "t", 40),
		{NULL, 0},
	};
	return scale(text, units, 1000, bytes);
}

int opt_duration(const char *text, uint64_t *ms)
{
	static const struct unit units[] = {
		{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0},
	};
	return scale(text, units, 1000, ms);
}

/* The first ':' that is no "\:". */
static const char *find_colon(const char *text)
{
	for (const char *at = text; *at; at++) {
		if (at[0] == '\\' && at[1] == ':')
			at++;
		else if (*at == ':')
			return at;
	}
	return NULL;
}

static char *copy_unescaped(char *to, const char *from, const char *end)
{
	for (; from < end; from++) {
		if (from[0] == '\\' && from + 1 < end && from[1] == ':')
			from++;
		*to++ = *from;
	}
	*to++ = '\0';
	return to;
}

int opt_pair(const char *text, struct opt_pair *out)
{
	const char *colon = find_colon(text), *end = text + strlen(text);

	if (!colon || colon == text || colon + 1 == end)
		return -EINVAL;
	char *buf = malloc((size_t)(end - text) + 2);
	if (!buf)
		return -ENOMEM;
	*out = (struct opt_pair){.src = buf, .dst = copy_unescaped(buf, text, colon)};
	copy_unescaped(out->dst, colon + 1, end);
	return 0;
}

/* --- setters ------------------------------------------------------------------------------------ */

int opt_set_flag(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	(void)opt, (void)value, (void)why;
	*(bool *)field = true;
	return 0;
}

int opt_set_text(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	if (!*value)
		return err_set(why, 0, "--%s: the value is empty", opt->name);
	*(const char **)field = value;
	return 0;
}

int opt_set_list(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	struct opt_list *list = field;

	if (!*value)
		return err_set(why, 0, "--%s: the value is empty", opt->name);
	if (list->count == OPT_LIST_MAX)
		return err_set(why, 0, "--%s: more than %d times", opt->name, OPT_LIST_MAX);
	list->item[list->count++] = value;
	return 0;
}

int opt_set_cpus(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	static const struct unit plain[] = {{"", 1}, {NULL, 0}};
	uint64_t n;

	if (scale(value, plain, 1000, &n))
		return err_set(why, 0, "--%s %s: not a number", opt->name, value);
	if (n < 1 || n > OPT_CPUS_MAX)
		return err_set(why, 0, "--%s %s: must be 1 to %u", opt->name, value, OPT_CPUS_MAX);
	*(uint32_t *)field = (uint32_t)n;
	return 0;
}

int opt_set_memory(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	uint64_t bytes;

	if (opt_size(value, &bytes))
		return err_set(why, 0, "--%s %s: not a size (such as 512M or 1G)", opt->name,
			       value);
	if (bytes < OPT_MEMORY_MIN_MIB * MIB || bytes > OPT_MEMORY_MAX_MIB * MIB)
		return err_set(why, 0, "--%s %s: must be %uM to %uG", opt->name, value,
			       OPT_MEMORY_MIN_MIB, OPT_MEMORY_MAX_MIB / 1024);
	*(uint64_t *)field = (bytes + MIB - 1) / MIB;
	return 0;
}

int opt_set_bytes(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	uint64_t bytes;

	if (opt_size(value, &bytes) || !bytes)
		return err_set(why, 0, "--%s %s: not a size (such as 512M or 1G)", opt->name,
			       value);
	*(uint64_t *)field = bytes;
	return 0;
}

int opt_set_count(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	static const struct unit plain[] = {{"", 1}, {NULL, 0}};
	uint64_t n;

	if (scale(value, plain, 1000, &n) || !n)
		return err_set(why, 0, "--%s %s: not a number above 0", opt->name, value);
	*(uint64_t *)field = n;
	return 0;
}

int opt_set_duration(const struct opt *opt, void *field, const char *value, struct errmsg *why)
{
	uint64_t ms;

	if (opt_duration(value, &ms) || !ms)
		return err_set(why, 0, "--%s %s: not a time (such as 30s, 500ms or 5m)", opt->name,
			       value);
	if (ms > OPT_DURATION_MAX_S * UINT64_C(1000))
		return err_set(why, 0, "--%s %s: more than a week", opt->name, value);
	*(uint64_t *)field = ms;
	return 0;
}
