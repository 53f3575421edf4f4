/* SPDX-License-Identifier: Apache-2.0 */
/* tree.h - folders as a whole.  Any thread. */
#ifndef SPORE_SUPERVISOR_IMAGE_TREE_H
#define SPORE_SUPERVISOR_IMAGE_TREE_H

#include <stdint.h>

#include "base/err.h"

#define TREE_DEPTH_MAX 128

/* rm -rf, following no symbolic link, staying below `at`.  A missing one is no error. */
int tree_remove(int at, const char *name, struct errmsg *why);
/* The same of what is inside the folder `dir_fd`; the folder stays. */
int tree_empty(int dir_fd, struct errmsg *why);
/* mkdir -p with mode 0700.  0 or -errno. */
int tree_make(const char *path, struct errmsg *why);
/* Copies a regular file into an empty one, leaving holes where there are zeros.  0 or -errno. */
int tree_copy_sparse(int from, int to, struct errmsg *why);
/* What the files below take, each rounded up to 4 KiB, and how many there are. */
int tree_measure(int at, const char *name, uint64_t *bytes, uint64_t *entries, struct errmsg *why);

#endif
