/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/copy_path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int copy_join(char *out, size_t cap, const char *folder, const char *name, struct errmsg *why)
{
	const char *slash = *name && !copy_is_slashed(folder) ? "/" : "";

	if ((size_t)snprintf(out, cap, "%s%s%s", folder, slash, name) >= cap)
		return err_set(why, ENAMETOOLONG, "%.64s...", folder);
	return 0;
}

bool copy_is_slashed(const char *path)
{
	size_t len = strlen(path);

	return len && path[len - 1] == '/';
}

int copy_base_name(const char *path, char *out, struct errmsg *why)
{
	size_t end = strlen(path);

	while (end && path[end - 1] == '/')
		end--;
	size_t begin = end;
	while (begin && path[begin - 1] != '/')
		begin--;
	size_t len = end - begin;
	if (!len || len >= COPY_NAME_MAX || (len == 1 && path[begin] == '.') ||
	    (len == 2 && !memcmp(path + begin, "..", 2)))
		return err_set(why, 0, "'%s' has no name to copy under", path);
	memcpy(out, path + begin, len);
	out[len] = '\0';
	return 0;
}

bool copy_path_is_safe(const char *path)
{
	if (!*path)
		return false;
	for (const char *at = path;;) {
		size_t len = strcspn(at, "/");
		if (!len || len >= COPY_NAME_MAX || (len == 1 && at[0] == '.') ||
		    (len == 2 && at[0] == '.' && at[1] == '.'))
			return false;
		if (!at[len])
			return true;
		at += len + 1;
	}
}

bool copy_link_is_safe(const char *path, const char *target)
{
	long depth = 0;

	if (!*target || *target == '/')
		return false;
	for (const char *c = path; *c; c++)
		depth += *c == '/';
	while (*target) {
		size_t len = strcspn(target, "/");
		if (len == 2 && !memcmp(target, "..", 2))
			depth--;
		else if (len && !(len == 1 && *target == '.'))
			depth++;
		if (depth < 0)
			return false;
		target += len;
		target += strspn(target, "/");
	}
	return true;
}
