/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h - image files for tiny guests, in memory, filled with words that tell sector and salt. */
#ifndef SPORE_TESTS_DISK_H
#define SPORE_TESTS_DISK_H

#include <sys/mman.h>

#include "tests/kvm/vm.h"

#define DISK_SECTORS 2048u
#define DISK_BYTES   (DISK_SECTORS * 512u)

/* The same words as blk_word() of the guest. */
static inline void disk_fill(uint64_t *to, uint64_t sector, unsigned sectors, uint64_t salt)
{
	for (unsigned i = 0; i < sectors * 64; i++)
		to[i] = (sector * 64 + i) * UINT64_C(0x9e3779b97f4a7c15) + salt;
}

static inline uint64_t *disk_words(void)
{
	uint64_t *words = malloc(DISK_BYTES);
	assert_non_null(words);
	for (unsigned s = 0; s < DISK_SECTORS; s++)
		disk_fill(words + s * 64, s, 1, 1);
	return words;
}

static inline int disk_empty(void)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* An image that holds salt 1 in every sector. */
static inline int disk_create(void)
{
	uint64_t *words = disk_words();
	int fd = disk_empty();
	assert_int_equal(pwrite(fd, words, DISK_BYTES, 0), DISK_BYTES);
	free(words);
	return fd;
}

static inline uint64_t *disk_content(int fd)
{
	uint64_t *words = malloc(DISK_BYTES);
	assert_non_null(words);
	assert_int_equal(pread(fd, words, DISK_BYTES, 0), DISK_BYTES);
	return words;
}

static inline void disk_unchanged(int fd)
{
	uint64_t *want = disk_words(), *got = disk_content(fd);
	assert_memory_equal(got, want, DISK_BYTES);
	free(want);
	free(got);
}

#endif
