/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Puts ": text" behind the first `len` bytes, cut where the buffer ends. */
static void err_append(struct errmsg *why, size_t len, const char *text)
{
	const char *const part[] = {": ", text};

	for (size_t i = 0; i < 2; i++)
		for (const char *c = part[i]; *c && len < sizeof(why->text) - 1; c++)
			why->text[len++] = *c;
	why->text[len] = '\0';
}

int err_set(struct errmsg *why, int err, const char *fmt, ...)
{
	if (why) {
		va_list ap;
		va_start(ap, fmt);
		int len = vsnprintf(why->text, sizeof(why->text), fmt, ap);
		va_end(ap);
		if (err && len >= 0 && (size_t)len < sizeof(why->text))
			err_append(why, (size_t)len, strerror(abs(err)));
	}
	return err ? -abs(err) : -EINVAL;
}

int err_wrap(struct errmsg *why, int err, const char *fmt, ...)
{
	if (!why)
		return err;

	struct errmsg inner = *why;
	va_list ap;
	va_start(ap, fmt);
	int len = vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	if (len >= 0 && (size_t)len < sizeof(why->text))
		err_append(why, (size_t)len, inner.text);
	return err;
}
