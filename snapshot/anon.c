/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/anon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compat_pagemap.h"

#define PAGE  4096u
#define BATCH 512u /* regions or entries a system call */

/* An entry of /proc/PID/pagemap. */
#define ENTRY_FILE    (UINT64_C(1) << 61) /* a file's page, or shared memory */
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_PRESENT (UINT64_C(1) << 63)

int anon_open(struct anon *anon, struct errmsg *why)
{
	struct pm_scan_arg probe = {.size = sizeof(probe)};

	*anon = (struct anon){.fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
	if (anon->fd < 0)
		return err_set(why, errno, "/proc/self/pagemap");
	anon->scan = ioctl(anon->fd, PAGEMAP_SCAN, &probe) >= 0 || errno != ENOTTY;
	return 0;
}

void anon_close(struct anon *anon)
{
	if (anon->fd >= 0)
		close(anon->fd);
	free(anon->run);
	*anon = (struct anon){.fd = -1};
}

int anon_reserve(struct anon *anon, size_t count)
{
	if (count <= anon->cap)
		return 0;
	struct anon_run *run = realloc(anon->run, count * sizeof(*run));
	if (!run)
		return -ENOMEM;
	anon->run = run;
	anon->cap = count;
	return 0;
}

int anon_add(struct anon *anon, uint64_t page, uint64_t count)
{
	struct anon_run *last = anon->count ? &anon->run[anon->count - 1] : NULL;

	anon->pages += count;
	if (last && last->page + last->count == page) {
		last->count += count;
		return 0;
	}
	if (anon->count == anon->cap && anon_reserve(anon, 2 * anon->cap + BATCH))
		return -ENOMEM;
	anon->run[anon->count++] = (struct anon_run){page, count};
	return 0;
}

/* @without: PAGE_IS_* that do not count */
static int by_scan(struct anon *anon, uint64_t base, uint64_t end, uint64_t without)
{
	struct page_region region[BATCH];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = base,
		.end = end,
		.vec = (uintptr_t)region,
		.vec_len = BATCH,
		.category_inverted = without,
		.category_mask = without,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};
	int err = 0;

	for (; !err && arg.start < end; arg.start = arg.walk_end) {
		int n = ioctl(anon->fd, PAGEMAP_SCAN, &arg);
		if (n < 0)
			return -errno;
		for (int i = 0; !err && i < n; i++)
			err = anon_add(anon, (region[i].start - base) / PAGE,
				       (region[i].end - region[i].start) / PAGE);
		if (arg.walk_end <= arg.start)
			return err ? err : -EIO; /* no progress: not to be trusted */
	}
	return err;
}

static int by_entries(struct anon *anon, uint64_t base, uint64_t pages, uint64_t without)
{
	uint64_t bad = without & PAGE_IS_FILE ? ENTRY_FILE : 0;
	uint64_t entry[BATCH];
	int err = 0;

	for (uint64_t at = 0; !err && at < pages;) {
		size_t want = pages - at < BATCH ? (size_t)(pages - at) : BATCH;
		ssize_t n = pread(anon->fd, entry, want * sizeof(entry[0]),
				  (off_t)((base / PAGE + at) * sizeof(entry[0])));
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		size_t got = (size_t)n / sizeof(entry[0]);
		for (size_t i = 0; !err && i < got; i++)
			if ((entry[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) && !(entry[i] & bad))
				err = anon_add(anon, at + i, 1);
		at += got;
	}
	return err;
}

static int scan(struct anon *anon, const void *base, uint64_t pages, uint64_t without,
		struct errmsg *why)
{
	uint64_t from = (uintptr_t)base;

	anon->count = 0;
	anon->pages = 0;
	int err = anon->scan ? by_scan(anon, from, from + pages * PAGE, without)
			     : by_entries(anon, from, pages, without);
	return err ? err_set(why, err, "scan of %llu pages of guest memory",
			     (unsigned long long)pages)
		   : 0;
}

int anon_scan(struct anon *anon, const void *base, uint64_t pages, struct errmsg *why)
{
	return scan(anon, base, pages, PAGE_IS_FILE | PAGE_IS_PFNZERO, why);
}

int anon_scan_touched(struct anon *anon, const void *base, uint64_t pages, struct errmsg *why)
{
	return scan(anon, base, pages, PAGE_IS_PFNZERO, why);
}
