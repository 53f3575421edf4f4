/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gmem.h - guest memory: the one checked door between a guest address and a host pointer
 *
 * Everything that comes from the guest is hostile: addresses, lengths, indices, and it changes while
 * one looks.  So a guest address is a type of its own (gpa_t) that cannot be dereferenced or added to
 * by accident, bytes are copied once before they are looked at, and only gmem.c knows host pointers
 * (docs/GUEST_MEMORY.md).  Payload may go to and from files in place by gm_iov(), never parsed there.
 *
 * The host base of a region may be swapped while every vCPU and device is parked (gm_rebase): that is
 * what makes re-homing a VM on another mapping cheap.  Nobody may keep a host pointer across a pause.
 *
 * Dirty marks: KVM's dirty log sees the guest's stores, not ours.  Every write here, and every payload
 * that the kernel wrote for us (gm_mark), sets a bit a page in the region's bitmap when one is attached.
 *
 * Thread: any.  Regions are const while the VM runs; the bitmap is atomic.
 */
#ifndef SPORE_BASE_GMEM_H
#define SPORE_BASE_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define GM_REGION_MAX 8
#define GM_PAGE       4096u

typedef struct {
	uint64_t v;
} gpa_t; /* guest-physical address: no arithmetic, no dereference */

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){v};
}

/* May wrap: the checked door refuses what does not lie in memory. */
static inline gpa_t gpa_add(gpa_t at, uint64_t off)
{
	return (gpa_t){at.v + off};
}

/* What a region is mapped from, and so how its pages are given back to the host. */
enum gm_kind {
	GM_SHARED, /* shared, from a file that nobody else maps: a page goes by a hole in the file */
	GM_PRIVATE, /* private, from files that others may map: a page goes by anonymous memory over it */
};

/*
 * Which pages of a private region were exchanged for anonymous memory since it was mapped: where the process has no
 * page of its own there, such a page is zero, and not what the file says.  A page written again since is anonymous
 * and counts as written; its bit stays.  Written by gm_discard() on the io thread; read while quiesced.
 */
#define GM_HOLES_MAX 4096u /* holes in one region: each splits a mapping, the host counts those */
#define GM_HOLE_MIN  (16 * GM_PAGE) /* bytes: smaller ranges of file stay as they are */
struct gm_holes {
	uint32_t count; /* runs of set bits that gm_discard() made; at most GM_HOLES_MAX */
	uint64_t bit[]; /* one a page */
};

struct gm_region {
	uint64_t start;  /* guest-physical, page aligned */
	uint64_t size;   /* bytes, page aligned */
	uint8_t *host;   /* gmem.c only */
	uint64_t *dirty; /* one bit a page, or NULL; owned by the caller */
	int file;        /* what `host` maps, shared, or -1; owned by the caller */
	uint64_t file_off;
	enum gm_kind kind;
	struct gm_holes *holes; /* or NULL; owned by the caller */
};

struct gmem {
	unsigned count;
	struct gm_region region[GM_REGION_MAX];
};

/*
 * gm_add() - add a region of memory
 * Regions are page aligned and must not overlap.  `host` maps `size` bytes and outlives `gm`.
 * Return: 0; -EINVAL misaligned, empty, wrapping or overlapping; -ENOSPC too many regions.
 */
int gm_add(struct gmem *gm, gpa_t start, void *host, uint64_t size);

/* Swaps the host base of region `index`, and forgets its file and its holes.  Only while no vCPU runs and no request is in flight. */
void gm_rebase(struct gmem *gm, unsigned index, void *host);

/* Says that region `index` is a shared mapping of `file` from `off` on; gm_rebase() forgets it. */
void gm_set_file(struct gmem *gm, unsigned index, int file, uint64_t off);

/*
 * gm_set_kind() - what region `index` is mapped from; GM_SHARED after gm_add()
 * A region that becomes another kind (or another mapping of its kind) has no holes: the caller attaches fresh ones.
 * Only while no vCPU runs and no request is in flight.
 */
void gm_set_kind(struct gmem *gm, unsigned index, enum gm_kind kind);

/* Holes for a region of `size` bytes, none set; free().  Return: NULL without memory. */
struct gm_holes *gm_holes_create(uint64_t size);
/* Attaches (or with NULL detaches) them.  A private region without gives no page back. */
void gm_set_holes(struct gmem *gm, unsigned index, struct gm_holes *holes);

/* True when page `page` of region `index` reads as zero unless it was written since (see struct gm_holes). */
bool gm_is_hole(const struct gmem *gm, unsigned index, uint64_t page);

/*
 * gm_discard() - the guest does not need what stands in a range: let it leave host memory
 * Afterwards each page of it reads as zero or as before, never as something older.  As before where nothing can be
 * given back: a shared region that is in no file; a private one at its limit of holes, or a smaller range of file
 * than GM_HOLE_MIN.  The range is marked dirty.  Takes time by the pages that are there; the caller bounds `len`.
 * Thread: io.
 * Return: bytes that were given back, 0..len; -EINVAL not page aligned; -EFAULT not in one region; -errno.
 */
int64_t gm_discard(const struct gmem *gm, gpa_t at, uint64_t len)
	__attribute__((warn_unused_result));

/*
 * gm_file() - where in a file a range lies, to fill it without touching the mapping
 * The caller marks what it writes (gm_mark).  Return: 0; -EFAULT no such range; -ENOTSUP not in a file.
 */
int gm_file(const struct gmem *gm, gpa_t at, uint64_t len, int *file, uint64_t *off);

/* Attaches (or with NULL detaches) a dirty bitmap of size/4096 bits. */
void gm_set_dirty(struct gmem *gm, unsigned index, uint64_t *bitmap);

/* Sum of all regions, bytes. */
uint64_t gm_size(const struct gmem *gm);

/* True when [at, at+len) lies in one region. */
bool gm_contains(const struct gmem *gm, gpa_t at, uint64_t len);

/*
 * gm_read(), gm_write(), gm_zero() - copy between guest memory and host memory
 * The bytes are read from or written to guest memory exactly once.
 * Return: 0, or -EFAULT when the range does not lie in one region (nothing is copied then).
 */
int gm_read(const struct gmem *gm, gpa_t at, void *dst, size_t len)
	__attribute__((warn_unused_result));
int gm_write(const struct gmem *gm, gpa_t at, const void *src, size_t len)
	__attribute__((warn_unused_result));
int gm_zero(const struct gmem *gm, gpa_t at, uint64_t len) __attribute__((warn_unused_result));

/*
 * gm_load16() .. gm_store32() - ring indices and flags, little-endian, naturally aligned
 * Loads acquire, stores release: what was written before a store is seen by who loads its value.
 * Return: 0, -EFAULT outside memory or misaligned.
 */
int gm_load16(const struct gmem *gm, gpa_t at, uint16_t *val) __attribute__((warn_unused_result));
int gm_store16(const struct gmem *gm, gpa_t at, uint16_t val) __attribute__((warn_unused_result));
int gm_load32(const struct gmem *gm, gpa_t at, uint32_t *val) __attribute__((warn_unused_result));
int gm_store32(const struct gmem *gm, gpa_t at, uint32_t val) __attribute__((warn_unused_result));

/*
 * gm_iov() - describe a range for readv, writev or io_uring
 * The pointer is for the kernel (or memcpy) only: nothing may be parsed in place.  Valid until the next
 * pause.  What was written through it is marked dirty on completion, by gm_mark().
 * Return: 0, -EFAULT.
 */
int gm_iov(const struct gmem *gm, gpa_t at, uint64_t len, struct iovec *iov)
	__attribute__((warn_unused_result));

/* Marks the pages of a range dirty.  A range outside memory is ignored. */
void gm_mark(const struct gmem *gm, gpa_t at, uint64_t len);

#endif
