/* SPDX-License-Identifier: Apache-2.0 */
/*
 * anon.h - which pages of a private mapping are no longer the file's
 *
 * In a private mapping of an immutable file, a page that was written is anonymous: the set of anonymous pages *is*
 * the difference to the file, whoever wrote (guest, device, kernel on a device's behalf), at no cost while it is
 * written.  Pages that were swapped out count too.  The zero page that a read of an anonymous mapping leaves behind
 * does not: it reads as what was mapped there.
 *
 * By PAGEMAP_SCAN (Linux 6.7, time grows with the answer), else by reading /proc/self/pagemap (8 bytes a page;
 * Linux Documentation/admin-guide/mm/pagemap.rst).  The descriptor is opened once, before a sandbox closes, and
 * speaks of the process that opened it.
 *
 * Thread: any; one caller an object.
 */
#ifndef SPORE_SNAPSHOT_ANON_H
#define SPORE_SNAPSHOT_ANON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct anon_run {
	uint64_t page, count; /* from the start of the scanned range, in pages of 4096 bytes */
};

struct anon {
	int fd;    /* /proc/self/pagemap */
	bool scan; /* the kernel has PAGEMAP_SCAN */

	struct anon_run *run; /* of the last scan: in order, not touching each other */
	size_t count, cap;
	uint64_t pages; /* sum of all counts */
};

int anon_open(struct anon *anon, struct errmsg *why) __attribute__((warn_unused_result));
void anon_close(struct anon *anon);

/*
 * anon_reserve() - allocate for `count` runs now, so that a scan of up to so many allocates nothing
 * Return: 0 or -ENOMEM.
 */
int anon_reserve(struct anon *anon, size_t count);

/* Appends pages behind all that are there.  Return: 0 or -ENOMEM. */
int anon_add(struct anon *anon, uint64_t page, uint64_t count);

/*
 * anon_scan() - find the anonymous pages of [base, base + pages * 4096)
 * Nobody writes there meanwhile, or the answer is of some instant between.
 * Return: 0, the answer is in anon->run; -ENOMEM, -errno.
 */
int anon_scan(struct anon *anon, const void *base, uint64_t pages, struct errmsg *why)
	__attribute__((warn_unused_result));

/* The same for all pages that the process has been at, the file's too; the zero page still does not count. */
int anon_scan_touched(struct anon *anon, const void *base, uint64_t pages, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
