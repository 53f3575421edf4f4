/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limiter.h - a rate limit: two token buckets, of bytes and of operations
 *
 * A bucket holds `size` tokens and gains `size` of them every `refill_ms`, evenly.  A burst, granted once, is
 * spent before it.  An operation may begin while both buckets hold something, and may then cost more than
 * they hold: the debt is paid by waiting, so that an operation larger than the bucket is slow and not stuck,
 * and over any time t no more passes than burst + size + t * size / refill_ms and one operation.
 *
 * Time is the caller's (CLOCK_MONOTONIC): it never goes back.
 * Thread: io.
 */
#ifndef SPORE_DEVICES_LIMITER_H
#define SPORE_DEVICES_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/snap_net.h"

#define LIMITER_SIZE_MAX (UINT64_C(1) << 53) /* tokens; also of a burst */

struct limiter_bucket_cfg {
	uint64_t size;      /* tokens, at most LIMITER_SIZE_MAX; 0: no limit */
	uint64_t burst;     /* tokens, once; at most LIMITER_SIZE_MAX */
	uint64_t refill_ms; /* 0: no limit; at most UINT32_MAX */
};

struct limiter_cfg {
	struct limiter_bucket_cfg bandwidth, ops; /* a token: one byte; one operation */
};

struct limiter_bucket {
	uint64_t size, refill_ns; /* const; size 0: no limit */
	int64_t budget;           /* tokens; negative: debt */
	uint64_t burst;           /* tokens */
	uint64_t part;            /* of the next token, in 1 / refill_ns */
};

struct limiter {
	struct limiter_bucket bytes, ops;
	uint64_t last_ns; /* when the buckets were last filled */
};

void limiter_init(struct limiter *l, const struct limiter_cfg *cfg, uint64_t now_ns);

/* May an operation begin? */
bool limiter_ready(struct limiter *l, uint64_t now_ns);
/* What it cost, one operation and so many bytes (< 2^32): after limiter_ready() said yes. */
void limiter_spend(struct limiter *l, uint64_t bytes);
/* When limiter_ready() will say yes, if nothing is spent before; now_ns when it does. */
uint64_t limiter_due(const struct limiter *l, uint64_t now_ns);

/* Budgets as they are at now_ns; a loaded limiter has gained nothing while it was a file.  Budgets of hostile
 * bytes are cut to what the configured bucket can hold. */
void limiter_save(struct limiter *l, struct snap_limiter *out, uint64_t now_ns);
void limiter_load(struct limiter *l, const struct snap_limiter *in, uint64_t now_ns);

#endif
