/* SPDX-License-Identifier: Apache-2.0 */
/* copy_path.h - names and paths of a copy, as text.  Any thread. */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_COPY_PATH_H
#define SPORE_SUPERVISOR_LIFECYCLE_COPY_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define COPY_NAME_MAX 256 /* bytes of one name, with the NUL */

/* `folder/name`, or `folder` when the name is empty.  0; -ENAMETOOLONG. */
int copy_join(char *out, size_t cap, const char *folder, const char *name, struct errmsg *why);

bool copy_is_slashed(const char *path); /* ends in '/' */

/* The last name of a path; -EINVAL for "/", "." and "..". */
int copy_base_name(const char *path, char *out, struct errmsg *why);

/* True when a relative path from a guest names something below: no empty name, "." or "..", no NUL. */
bool copy_path_is_safe(const char *path);

/*
 * True when a symbolic link at `path` (relative to the destination's top, safe) that holds `target` stays
 * inside the destination: relative, and never above the top as text.
 */
bool copy_link_is_safe(const char *path, const char *target);

#endif
