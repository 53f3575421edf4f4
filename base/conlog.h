/* SPDX-License-Identifier: Apache-2.0 */
/* conlog.h - a console log (wire/conlog.h): made, checked and read.  Any thread. */
#ifndef SPORE_BASE_CONLOG_H
#define SPORE_BASE_CONLOG_H

#include <stdint.h>

#include "base/err.h"
#include "wire/conlog.h"

/* Makes an empty log of an empty file.  Return: 0 or -errno. */
int conlog_format(int fd, uint32_t cap, struct errmsg *why);

/*
 * conlog_open() - look at the head
 * Return: 0; -EBADMSG it is no console log; -errno.
 */
int conlog_open(int fd, uint32_t *cap, uint64_t *total, struct errmsg *why);

/*
 * conlog_read() - the last bytes
 * @buf: at least `len` bytes
 * @end: out: bytes ever written; the last one read is number *end - 1
 * Return: bytes, at most `len` and at most cap - CONLOG_WRITE_MAX; -EBADMSG; -errno.
 */
int64_t conlog_read(int fd, void *buf, uint32_t len, uint64_t *end, struct errmsg *why);

#endif
