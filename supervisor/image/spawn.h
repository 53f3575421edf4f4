/* SPDX-License-Identifier: Apache-2.0 */
/* spawn.h - helper programs (unshare, mke2fs, the recipe), ended with us */
#ifndef SPORE_SUPERVISOR_IMAGE_SPAWN_H
#define SPORE_SUPERVISOR_IMAGE_SPAWN_H

#include <stddef.h>

#include "base/err.h"

/*
 * image_spawn() - run a program to its end
 * stdin is /dev/null, stdout goes to our stderr.  It gets SIGTERM when this process ends.
 * Return: 0 when it exits with 0; -ENOENT not found; -ECHILD with a sentence in *why otherwise.
 */
int image_spawn(const char *const argv[], struct errmsg *why);

/* The same with the last line of its stdout (without the newline) in `line`. */
int image_spawn_line(const char *const argv[], char *line, size_t cap, struct errmsg *why);

#endif
