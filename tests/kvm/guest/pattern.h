/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pattern.h - memory that says of itself whether it is of one instant: shared by guest and test
 *
 * Every processor writes its own slice of pages for ever, one at a time, in an order drawn by itself:
 *
 *     cur = page; seq++; eight words of the page from (page, seq); version[page] = seq; cur = none
 *
 * At any instant each page holds what its version says, but for the one that `cur` names; no version is beyond seq,
 * and the newest is seq or seq - 1.  A page of another instant shows up as a version or content that does not fit.
 */
#ifndef SPORE_TESTS_PATTERN_H
#define SPORE_TESTS_PATTERN_H

#include <stdint.h>

#define PATTERN_MAGIC    0x6e72657474617073ull
#define PATTERN_CONTROL  0x1000000ull  /* guest-physical: struct pattern */
#define PATTERN_VERSIONS 0x1100000ull  /* uint64_t[pages] */
#define PATTERN_DATA     0x2000000ull  /* pages; the gap below 4 GiB is left out */
#define PATTERN_READY    0xc0000000ull /* byte 123: all pages are written once */
#define PATTERN_NONE     UINT64_MAX
#define PATTERN_CPUS     32

struct pattern {
	volatile uint64_t magic; /* when all pages are written once */
	uint64_t cpus, pages;    /* of all processors together */
	struct {
		volatile uint64_t seq, cur, ready;
		uint64_t pad[5];
	} cpu[PATTERN_CPUS];
};

/* Guest-physical address of page `i`. */
static inline uint64_t pattern_at(uint64_t i)
{
	uint64_t at = PATTERN_DATA + i * 4096;
	return at < 0xc0000000ull ? at : at + 0x40000000ull;
}

static inline uint64_t pattern_word(uint64_t page, uint64_t seq, unsigned k)
{
	uint64_t x = (page * 8 + k) * 0x9e3779b97f4a7c15ull ^ seq * 0xd1342543de82ef95ull;
	x ^= x >> 29;
	return x * 0xbf58476d1ce4e5b9ull;
}

/* The slice of processor `cpu` of `cpus`: [first, end). */
static inline uint64_t pattern_first(uint64_t pages, unsigned cpu, unsigned cpus)
{
	return pages * cpu / cpus;
}

#endif
