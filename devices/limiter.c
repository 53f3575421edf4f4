/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens are counted exactly: what is left of a token after a refill is kept in `part`. */
#include "devices/limiter.h"

#include "base/clock.h"

__extension__ typedef unsigned __int128 u128;

/* A debt is one operation's cost: what a loaded state may owe at most. */
#define DEBT_MAX (INT64_C(1) << 32)

static void bucket_init(struct limiter_bucket *b, const struct limiter_bucket_cfg *cfg)
{
	*b = (struct limiter_bucket){0};
	if (!cfg->size || !cfg->refill_ms)
		return;
	b->size = cfg->size < LIMITER_SIZE_MAX ? cfg->size : LIMITER_SIZE_MAX;
	b->refill_ns =
		(cfg->refill_ms < UINT32_MAX ? cfg->refill_ms : (uint64_t)UINT32_MAX) * NS_PER_MS;
	b->burst = cfg->burst < LIMITER_SIZE_MAX ? cfg->burst : LIMITER_SIZE_MAX;
	b->budget = (int64_t)b->size;
}

static void bucket_fill(struct limiter_bucket *b, uint64_t elapsed_ns)
{
	if (!b->size)
		return;
	u128 sum = (u128)elapsed_ns * b->size + b->part;
	u128 gained = sum / b->refill_ns;
	uint64_t room = b->size - (uint64_t)b->budget; /* modulo 2^64: right for a debt, too */

	if (gained >= room) {
		b->budget = (int64_t)b->size;
		b->part = 0; /* a full bucket gains nothing */
		return;
	}
	b->budget += (int64_t)gained;
	b->part = (uint64_t)(sum % b->refill_ns);
}

static bool bucket_ready(const struct limiter_bucket *b)
{
	return !b->size || b->burst || b->budget > 0;
}

static void bucket_spend(struct limiter_bucket *b, uint64_t tokens)
{
	uint64_t from_burst = tokens < b->burst ? tokens : b->burst;

	if (!b->size)
		return;
	b->burst -= from_burst;
	b->budget -= (int64_t)(tokens - from_burst);
}

/* How long until it holds a token. */
static uint64_t bucket_wait(const struct limiter_bucket *b)
{
	if (bucket_ready(b))
		return 0;
	u128 need = (u128)(uint64_t)(1 - b->budget) * b->refill_ns - b->part;
	u128 ns = (need + b->size - 1) / b->size;
	return ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
}

void limiter_init(struct limiter *l, const struct limiter_cfg *cfg, uint64_t now_ns)
{
	bucket_init(&l->bytes, &cfg->bandwidth);
	bucket_init(&l->ops, &cfg->ops);
	l->last_ns = now_ns;
}

bool limiter_ready(struct limiter *l, uint64_t now_ns)
{
	uint64_t elapsed = now_ns > l->last_ns ? now_ns - l->last_ns : 0;

	bucket_fill(&l->bytes, elapsed);
	bucket_fill(&l->ops, elapsed);
	l->last_ns += elapsed;
	return bucket_ready(&l->bytes) && bucket_ready(&l->ops);
}

void limiter_spend(struct limiter *l, uint64_t bytes)
{
	bucket_spend(&l->bytes, bytes);
	bucket_spend(&l->ops, 1);
}

uint64_t limiter_due(const struct limiter *l, uint64_t now_ns)
{
	uint64_t bytes = bucket_wait(&l->bytes), ops = bucket_wait(&l->ops);
	uint64_t due = l->last_ns + (bytes > ops ? bytes : ops);

	return due > now_ns ? due : now_ns;
}

static struct snap_bucket bucket_save(const struct limiter_bucket *b)
{
	return (struct snap_bucket){.budget = b->budget, .burst = b->burst, .part = b->part};
}

static void bucket_load(struct limiter_bucket *b, const struct snap_bucket *in)
{
	int64_t most = (int64_t)b->size;

	if (!b->size)
		return;
	b->budget = in->budget > most ? most : in->budget < -DEBT_MAX ? -DEBT_MAX : in->budget;
	b->burst = in->burst < b->burst ? in->burst : b->burst;
	b->part = in->part % b->refill_ns;
}

void limiter_save(struct limiter *l, struct snap_limiter *out, uint64_t now_ns)
{
	(void)limiter_ready(l, now_ns);
	out->bytes = bucket_save(&l->bytes);
	out->ops = bucket_save(&l->ops);
}

void limiter_load(struct limiter *l, const struct snap_limiter *in, uint64_t now_ns)
{
	bucket_load(&l->bytes, &in->bytes);
	bucket_load(&l->ops, &in->ops);
	l->last_ns = now_ns;
}
