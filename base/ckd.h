/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ckd.h - arithmetic on untrusted numbers
 *
 * ckd_ok_*() is true when the exact result fits *out; otherwise *out is not to be used.
 */
#ifndef SPORE_BASE_CKD_H
#define SPORE_BASE_CKD_H

#include <stdbool.h>
#include <stdint.h>

#define ckd_ok_add(out, a, b) (!__builtin_add_overflow((a), (b), (out)))
#define ckd_ok_sub(out, a, b) (!__builtin_sub_overflow((a), (b), (out)))
#define ckd_ok_mul(out, a, b) (!__builtin_mul_overflow((a), (b), (out)))

/* True when [at, at + len) lies inside [0, size): no sum that could wrap. */
static inline bool ckd_in_range(uint64_t at, uint64_t len, uint64_t size)
{
	return at <= size && len <= size - at;
}

/* Rounds to a multiple of `align`, a power of two.  align_up wraps to 0 above 2^64 - align. */
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

#endif
