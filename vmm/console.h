/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console.h - from the guest's serial port to a file descriptor, without ever holding up the guest
 *
 * vCPU threads append to a ring; the loop writes it out, as much at a time as there is.  When the reader
 * is slower than the guest for longer than the ring lasts, bytes are dropped and counted.
 */
#ifndef SPORE_VMM_CONSOLE_H
#define SPORE_VMM_CONSOLE_H

#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"

#define CONSOLE_RING 65536u /* bytes; a power of two */

struct console;

enum console_kind { CONSOLE_STREAM, CONSOLE_LOG };

/*
 * @fd: borrowed; its file status flags are left alone
 * Return: 0; -EBADMSG CONSOLE_LOG, and it is none; -errno.
 */
int console_create(struct console **out, struct loop *loop, int fd, enum console_kind kind,
		   struct errmsg *why);
/* Not while the loop runs.  NULL is fine. */
void console_destroy(struct console *con);

/* Any thread; never blocks. */
void console_put(struct console *con, const void *bytes, uint32_t len);

/* io thread: takes turns of the loop until all is written or `deadline_ns` (CLOCK_MONOTONIC) has passed. */
void console_drain(struct console *con, uint64_t deadline_ns);

void console_counts(const struct console *con, uint64_t *taken, uint64_t *dropped);

#endif
