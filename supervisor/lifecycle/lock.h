/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - locks that belong to an open file description (fcntl(2), F_OFD_SETLK)
 *
 * The kernel takes one off when the last descriptor of its description is closed: at the end of whoever
 * holds it, however that comes about.  So a lock says more than a number in a file ever could.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_LOCK_H
#define SPORE_SUPERVISOR_LIFECYCLE_LOCK_H

#include <stdbool.h>

/* The whole file, for writing.  @fd: open for writing.  Return: 0; -EBUSY somebody has it; -errno. */
int lock_take(int fd);
/* Somebody else has it. */
bool lock_is_held(int fd);

#endif
