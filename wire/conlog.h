/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conlog.h - the last bytes of a console as a file, version 1
 *
 *   0        4096                        4096 + cap
 *   | head   | byte t at 4096 + t % cap  |
 *
 * A VMM that outlives the command that started it has nobody who reads a pipe, and may neither open nor
 * rename a file: so its log is a ring of fixed size that it is handed open.  It writes bytes first and
 * `total` after them: a reader that came in between, or after a crash, may find up to CONLOG_WRITE_MAX of
 * the oldest bytes overtaken, and takes no more than cap - CONLOG_WRITE_MAX.
 * All numbers little-endian.
 */
#ifndef SPORE_WIRE_CONLOG_H
#define SPORE_WIRE_CONLOG_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define CONLOG_MAGIC     "SPORELOG"
#define CONLOG_VERSION   1u
#define CONLOG_DATA_AT   4096u
#define CONLOG_WRITE_MAX 65536u
#define CONLOG_CAP_MIN   (2 * CONLOG_WRITE_MAX)
#define CONLOG_CAP_MAX   (64u << 20)

struct conlog_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t cap;   /* bytes that are kept: CONLOG_CAP_MIN..CONLOG_CAP_MAX */
	uint64_t total; /* bytes ever written */
};
static_assert(sizeof(struct conlog_head) == 24, "struct conlog_head");
static_assert(offsetof(struct conlog_head, version) == 8, "conlog_head.version");
static_assert(offsetof(struct conlog_head, cap) == 12, "conlog_head.cap");
static_assert(offsetof(struct conlog_head, total) == 16, "conlog_head.total");

#endif
