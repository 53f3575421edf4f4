/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static int append(struct env *env, char *item)
{
	if (env->count + 2 > env->cap) {
		size_t cap = env->cap ? env->cap * 2 : 16;
		char **more = realloc(env->item, cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		env->item = more;
		env->cap = cap;
	}
	env->item[env->count++] = item;
	env->item[env->count] = NULL;
	return 0;
}

/* The place of the variable that `item` sets, or count. */
static size_t find_name(const struct env *env, const char *item)
{
	size_t name = strcspn(item, "=") + 1, i = 0;

	while (i < env->count && strncmp(env->item[i], item, name) != 0)
		i++;
	return i;
}

static int put(struct env *env, const char *name, const char *value, struct errmsg *why)
{
	char *item = NULL;

	if (env->count == ENV_MAX)
		return err_set(why, 0, "more than %d environment variables", ENV_MAX);
	if (asprintf(&item, "%s%s%s", name, value ? "=" : "", value ? value : "") < 0)
		return err_set(why, ENOMEM, "environment");
	size_t at = find_name(env, item);
	if (at < env->count) {
		free(env->item[at]);
		env->item[at] = item;
		return 0;
	}
	if (append(env, item)) {
		free(item);
		return err_set(why, ENOMEM, "environment");
	}
	return 0;
}

/* The text itself stays out of messages: it may be a secret. */
static int add(struct env *env, const char *text, struct errmsg *why)
{
	if (*text == '=')
		return err_set(why, 0, "a variable without a name");
	if (strchr(text, '='))
		return put(env, text, NULL, why);
	const char *value = getenv(text);
	if (!value)
		return err_set(why, 0, "%s is not set in the environment", text);
	return put(env, text, value, why);
}

/* The whole file as a string, or NULL with *err.  Its length in *len, to tell NUL bytes. */
static char *read_file(const char *path, size_t *len, int *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	cleanup_free char *text = malloc(ENV_FILE_MAX + 1);

	*len = 0;
	*err = fd < 0 ? errno : text ? 0 : ENOMEM;
	while (!*err && *len <= ENV_FILE_MAX) {
		ssize_t n = read(fd, text + *len, ENV_FILE_MAX + 1 - *len);
		if (n == 0) {
			text[*len] = '\0';
			return steal_ptr(&text);
		}
		*err = n < 0 && errno != EINTR ? errno : 0;
		*len += n > 0 ? (size_t)n : 0;
	}
	*err = *err ? *err : EFBIG;
	return NULL;
}

static int add_file(struct env *env, const char *path, struct errmsg *why)
{
	size_t len;
	int err;
	cleanup_free char *text = read_file(path, &len, &err);
	char *rest = text, *line;

	if (!text)
		return err_set(why, err, "--env-file %s", path);
	if (strlen(text) != len)
		return err_set(why, 0, "--env-file %s: it holds a NUL byte", path);
	for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
		size_t end = strlen(line);
		if (end && line[end - 1] == '\r')
			line[end - 1] = '\0';
		if (!*line || *line == '#')
			continue;
		err = add(env, line, why);
		if (err)
			return err_wrap(why, err, "--env-file %s, line %u", path, number);
	}
	return 0;
}

int env_build(struct env *env, const struct opt_list *files, const struct opt_list *given,
	      struct errmsg *why)
{
	int err = 0;

	for (size_t i = 0; !err && i < files->count; i++)
		err = add_file(env, files->item[i], why);
	for (size_t i = 0; !err && i < given->count; i++) {
		err = add(env, given->item[i], why);
		if (err)
			err_wrap(why, err, "--env");
	}
	return err;
}

void env_free(struct env *env)
{
	for (size_t i = 0; i < env->count; i++)
		free(env->item[i]);
	free(env->item);
	*env = (struct env){.count = 0};
}
