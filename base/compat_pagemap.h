/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compat_pagemap.h - PAGEMAP_SCAN, which the headers of Linux 6.1 do not have
 *
 * Source: Linux 6.7, include/uapi/linux/fs.h and Documentation/admin-guide/mm/pagemap.rst.  Probed at run time
 * by calling it (snapshot/anon.c); older kernels answer ENOTTY.
 */
#ifndef SPORE_BASE_COMPAT_PAGEMAP_H
#define SPORE_BASE_COMPAT_PAGEMAP_H

#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>

#ifndef PAGEMAP_SCAN

#define PAGE_IS_FILE    (1ull << 2)
#define PAGE_IS_PRESENT (1ull << 3)
#define PAGE_IS_SWAPPED (1ull << 4)
#define PAGE_IS_PFNZERO (1ull << 5)

struct page_region {
	uint64_t start, end; /* addresses */
	uint64_t categories;
};

struct pm_scan_arg {
	uint64_t size; /* of this structure */
	uint64_t flags;
	uint64_t start, end;
	uint64_t walk_end; /* out: where it stopped */
	uint64_t vec;      /* address of struct page_region[vec_len] */
	uint64_t vec_len;
	uint64_t max_pages; /* 0: no limit */
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)

#endif

#endif
