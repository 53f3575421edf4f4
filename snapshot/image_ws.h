/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_ws.h - working sets (wire/snap_ws.h): one read and decompressing instead of thousands of page faults
 *
 * Who runs a machine records which pages it touches after it wakes; the set is made from that list and the snapshot's
 * pages, kept in the snapshot (struct snap_write) or in a file beside it, and fetched when it wakes again.
 *
 * Thread: any; one caller an object.
 */
#ifndef SPORE_SNAPSHOT_IMAGE_WS_H
#define SPORE_SNAPSHOT_IMAGE_WS_H

#include "snapshot/image.h"
#include "wire/snap_ws.h"

/* A page that was touched, in the order of touching; SNAP_WS_WRITTEN is or'ed in. */
typedef uint32_t snap_ws_page;

/*
 * snap_ws_make() - the set of these pages with what they hold in a snapshot
 * @page: each at most once; at most SNAP_WS_PAGES_MAX
 * @ref: for a file beside the snapshot; NULL: for a section of it
 * @bytes: out, malloc'ed
 * Return: 0; -EINVAL a page twice or outside, or too many; -EBADMSG the snapshot is damaged; -errno.
 */
int snap_ws_make(struct snap_chain *chain, const snap_ws_page *page, uint32_t count,
		 const struct snap_ref *ref, uint8_t **bytes, size_t *len, struct errmsg *why)
	__attribute__((warn_unused_result));

/* Puts a set into a file of its own, durable; an older one is replaced.  0 or -errno. */
int snap_ws_write(int dir_fd, const char *name, const uint8_t *bytes, size_t len,
		  struct errmsg *why) __attribute__((warn_unused_result));

struct snap_ws;

/*
 * snap_ws_open() - check a set
 * @bytes: malloc'ed, taken over also on failure
 * @pages: of the machine
 * @ref: the snapshot that it must name; NULL: none, as in a section
 * Return: 0; -ESTALE of another snapshot; -EBADMSG; -errno.
 */
int snap_ws_open(struct snap_ws **out, uint8_t *bytes, size_t len, uint64_t pages,
		 const struct snap_ref *ref, struct errmsg *why)
	__attribute__((warn_unused_result));
/* From a file beside the snapshot, in one read.  @fd: borrowed. */
int snap_ws_open_file(struct snap_ws **out, int fd, const struct snap_image *image,
		      struct errmsg *why) __attribute__((warn_unused_result));
/* The image's own section.  -ENOENT: it has none. */
int snap_ws_open_section(struct snap_ws **out, const struct snap_image *image, struct errmsg *why)
	__attribute__((warn_unused_result));
void snap_ws_close(struct snap_ws *ws); /* NULL is fine */
uint32_t snap_ws_page_count(const struct snap_ws *ws);

/*
 * snap_ws_each() - all pages, in order
 * @on: neighbouring pages at once, within a block of 64 KiB; `bytes` holds for the call.  Not 0 ends it.
 * Return: 0; -EBADMSG a block is damaged: what came before was good; what `on` gave.
 */
typedef int snap_ws_fn(void *arg, uint64_t page, uint32_t count, bool written, const void *bytes);
int snap_ws_each(struct snap_ws *ws, snap_ws_fn *on, void *arg, struct errmsg *why)
	__attribute__((warn_unused_result));

/* Into memory in which page n lies at base + n * SNAP_PAGE_SIZE, and all pages of the machine fit. */
int snap_ws_fetch(struct snap_ws *ws, uint8_t *base, struct errmsg *why)
	__attribute__((warn_unused_result));

/*
 * snap_ws_warm() - have the set's pages read from the files that a plan maps, all at once
 * Without waiting for them, and whether or not they come: who touches one early waits for it alone.  For files that are
 * not in the page cache; costs a system call each run.
 */
void snap_ws_warm(const struct snap_ws *ws, const struct snap_plan *plan);

/*
 * snap_ws_warm_file() - the same for a set beside the snapshot, of which only the list is read
 * @fd: borrowed
 * Return: 0; -ESTALE of another snapshot; -EBADMSG; -errno.
 */
int snap_ws_warm_file(int fd, const struct snap_image *image, const struct snap_plan *plan,
		      struct errmsg *why) __attribute__((warn_unused_result));

#endif
