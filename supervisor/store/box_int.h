/* SPDX-License-Identifier: Apache-2.0 */
/* box_int.h - between box.c and box_find.c */
#ifndef SPORE_SUPERVISOR_STORE_BOX_INT_H
#define SPORE_SUPERVISOR_STORE_BOX_INT_H

#include "supervisor/store/box.h"

#define BOX_LOCK_FILE   "lock"
#define BOX_GONE_PREFIX ".gone-"

/* @fd: of the folder.  Return: a descriptor that holds the lock; -EBUSY; -errno. */
int box_try_lock(int fd, const char *doing);

/* Puts who and what to do around what meta_read() said.  Return: err. */
int box_say(const struct box *box, int err, struct errmsg *why);

#endif
