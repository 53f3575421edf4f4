/* SPDX-License-Identifier: Apache-2.0 */
#include "base/gmem.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* gcc 12 drops an inlined memcpy into a local and reads the shared byte again: this pins the copy. */
#define PIN_COPY() __asm__ volatile("" ::: "memory")

static const struct gm_region *gm_find(const struct gmem *gm, gpa_t at, uint64_t len)
{
	for (unsigned i = 0; i < gm->count; i++) {
		const struct gm_region *r = &gm->region[i];
		uint64_t off = at.v - r->start; /* wraps when below: then off >= size */

		if (off < r->size && len <= r->size - off)
			return r;
	}
	return NULL;
}

/* The only place where a guest address becomes a host pointer. */
static uint8_t *gm_span(const struct gmem *gm, gpa_t at, uint64_t len)
{
	const struct gm_region *r = gm_find(gm, at, len);
	return r ? r->host + (at.v - r->start) : NULL;
}

static bool gm_overlaps(const struct gmem *gm, uint64_t start, uint64_t size)
{
	for (unsigned i = 0; i < gm->count; i++) {
		const struct gm_region *r = &gm->region[i];
		if (start < r->start + r->size && r->start < start + size)
			return true;
	}
	return false;
}

int gm_add(struct gmem *gm, gpa_t start, void *host, uint64_t size)
{
	assert(gm);
	assert(host);
	if (gm->count == GM_REGION_MAX)
		return -ENOSPC;
	if (!size || size % GM_PAGE || start.v % GM_PAGE || start.v + size < start.v)
		return -EINVAL;
	if (gm_overlaps(gm, start.v, size))
		return -EINVAL;
	gm->region[gm->count++] =
		(struct gm_region){.start = start.v, .size = size, .host = host, .file = -1};
	return 0;
}

void gm_rebase(struct gmem *gm, unsigned index, void *host)
{
	assert(index < gm->count);
	assert(host);
	gm->region[index].host = host;
	gm->region[index].file = -1;
	gm->region[index].holes = NULL;
}

void gm_set_kind(struct gmem *gm, unsigned index, enum gm_kind kind)
{
	assert(index < gm->count);
	gm->region[index].kind = kind;
	gm->region[index].holes = NULL;
}

struct gm_holes *gm_holes_create(uint64_t size)
{
	uint64_t words = (size / GM_PAGE + 63) / 64;
	return calloc(1, sizeof(struct gm_holes) + words * sizeof(uint64_t));
}

void gm_set_holes(struct gmem *gm, unsigned index, struct gm_holes *holes)
{
	assert(index < gm->count);
	gm->region[index].holes = holes;
}

static bool hole_at(const struct gm_holes *holes, uint64_t page)
{
	return holes->bit[page / 64] >> page % 64 & 1;
}

bool gm_is_hole(const struct gmem *gm, unsigned index, uint64_t page)
{
	assert(index < gm->count);
	const struct gm_region *r = &gm->region[index];

	assert(page < r->size / GM_PAGE);
	return r->kind == GM_PRIVATE && r->holes && hole_at(r->holes, page);
}

void gm_set_file(struct gmem *gm, unsigned index, int file, uint64_t off)
{
	assert(index < gm->count);
	gm->region[index].file = file;
	gm->region[index].file_off = off;
}

int gm_file(const struct gmem *gm, gpa_t at, uint64_t len, int *file, uint64_t *off)
{
	const struct gm_region *r = gm_find(gm, at, len);

	if (!r)
		return -EFAULT;
	if (r->file < 0)
		return -ENOTSUP;
	*file = r->file;
	*off = r->file_off + (at.v - r->start);
	return 0;
}

void gm_set_dirty(struct gmem *gm, unsigned index, uint64_t *bitmap)
{
	assert(index < gm->count);
	gm->region[index].dirty = bitmap;
}

uint64_t gm_size(const struct gmem *gm)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < gm->count; i++)
		sum += gm->region[i].size;
	return sum;
}

bool gm_contains(const struct gmem *gm, gpa_t at, uint64_t len)
{
	return gm_find(gm, at, len) != NULL;
}

void gm_mark(const struct gmem *gm, gpa_t at, uint64_t len)
{
	const struct gm_region *r = gm_find(gm, at, len);
	if (!r || !r->dirty || !len)
		return;
	uint64_t first = (at.v - r->start) / GM_PAGE;
	uint64_t last = (at.v - r->start + len - 1) / GM_PAGE;
	for (uint64_t page = first; page <= last; page++)
		__atomic_fetch_or(&r->dirty[page / 64], UINT64_C(1) << page % 64, __ATOMIC_RELAXED);
}

int gm_read(const struct gmem *gm, gpa_t at, void *dst, size_t len)
{
	assert(gm);
	assert(dst);
	const uint8_t *src = gm_span(gm, at, len);
	if (!src)
		return -EFAULT;
	memcpy(dst, src, len);
	PIN_COPY();
	return 0;
}

int gm_write(const struct gmem *gm, gpa_t at, const void *src, size_t len)
{
	assert(gm);
	assert(src);
	uint8_t *dst = gm_span(gm, at, len);
	if (!dst)
		return -EFAULT;
	memcpy(dst, src, len);
	gm_mark(gm, at, len);
	return 0;
}

int gm_zero(const struct gmem *gm, gpa_t at, uint64_t len)
{
	uint8_t *dst = gm_span(gm, at, len);
	if (!dst)
		return -EFAULT;
	memset(dst, 0, len);
	gm_mark(gm, at, len);
	return 0;
}

int gm_load16(const struct gmem *gm, gpa_t at, uint16_t *val)
{
	const void *p = gm_span(gm, at, sizeof(*val));
	if (!p || at.v % sizeof(*val))
		return -EFAULT;
	*val = le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
	return 0;
}

int gm_store16(const struct gmem *gm, gpa_t at, uint16_t val)
{
	void *p = gm_span(gm, at, sizeof(val));
	if (!p || at.v % sizeof(val))
		return -EFAULT;
	__atomic_store_n((uint16_t *)p, htole16(val), __ATOMIC_RELEASE);
	gm_mark(gm, at, sizeof(val));
	return 0;
}

int gm_load32(const struct gmem *gm, gpa_t at, uint32_t *val)
{
	const void *p = gm_span(gm, at, sizeof(*val));
	if (!p || at.v % sizeof(*val))
		return -EFAULT;
	*val = le32toh(__atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE));
	return 0;
}

int gm_store32(const struct gmem *gm, gpa_t at, uint32_t val)
{
	void *p = gm_span(gm, at, sizeof(val));
	if (!p || at.v % sizeof(val))
		return -EFAULT;
	__atomic_store_n((uint32_t *)p, htole32(val), __ATOMIC_RELEASE);
	gm_mark(gm, at, sizeof(val));
	return 0;
}

int gm_iov(const struct gmem *gm, gpa_t at, uint64_t len, struct iovec *iov)
{
	uint8_t *p = gm_span(gm, at, len);
	if (!p)
		return -EFAULT;
	*iov = (struct iovec){.iov_base = p, .iov_len = len};
	return 0;
}

/* --- giving pages back ---------------------------------------------------------------------------- */

static int64_t discard_shared(const struct gm_region *r, uint64_t off, uint64_t len)
{
	if (r->file < 0)
		return 0;
	if (fallocate(r->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)(r->file_off + off), (off_t)len))
		return -errno;
	return (int64_t)len;
}

/* How many pages from `page` on, before `end`, are holes like it, or like it are none. */
static uint64_t hole_run(const struct gm_holes *holes, uint64_t page, uint64_t end)
{
	uint64_t at = page + 1;

	while (at < end && hole_at(holes, at) == hole_at(holes, page))
		at++;
	return at - page;
}

/* How the number of runs changes when [page, page + count) becomes a hole. */
static int holes_more(const struct gm_region *r, uint64_t page, uint64_t count)
{
	bool left = page && hole_at(r->holes, page - 1);
	bool right = page + count < r->size / GM_PAGE && hole_at(r->holes, page + count);

	return 1 - left - right;
}

/*
 * Anonymous memory over a private mapping of a file: MADV_DONTNEED would bring the file's old bytes back.
 * Mappings side by side become one again only with the same flags, hence MADV_DONTDUMP as for all of guest memory.
 */
static int64_t hole_make(const struct gm_region *r, uint64_t page, uint64_t count)
{
	uint8_t *at = r->host + page * GM_PAGE;
	uint64_t len = count * GM_PAGE;
	int more = holes_more(r, page, count);

	if (len < GM_HOLE_MIN || (more > 0 && r->holes->count == GM_HOLES_MAX))
		return 0;
	if (mmap(at, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	madvise(at, len, MADV_DONTDUMP);
	r->holes->count = (uint32_t)((int)r->holes->count + more);
	for (uint64_t i = page; i < page + count; i++)
		r->holes->bit[i / 64] |= UINT64_C(1) << i % 64;
	return (int64_t)len;
}

/* A hole that was filled again is anonymous memory, which becomes zero when it is given back. */
static int64_t hole_empty(const struct gm_region *r, uint64_t page, uint64_t count)
{
	if (madvise(r->host + page * GM_PAGE, count * GM_PAGE, MADV_DONTNEED))
		return -errno;
	return (int64_t)(count * GM_PAGE);
}

static int64_t discard_private(const struct gm_region *r, uint64_t off, uint64_t len)
{
	uint64_t page = off / GM_PAGE, end = page + len / GM_PAGE, count;
	int64_t sum = 0;

	if (!r->holes)
		return 0;
	for (; page < end; page += count) {
		count = hole_run(r->holes, page, end);
		int64_t got = hole_at(r->holes, page) ? hole_empty(r, page, count)
						      : hole_make(r, page, count);
		if (got < 0)
			return got;
		sum += got;
	}
	return sum;
}

int64_t gm_discard(const struct gmem *gm, gpa_t at, uint64_t len)
{
	const struct gm_region *r = gm_find(gm, at, len);

	if (at.v % GM_PAGE || !len || len % GM_PAGE)
		return -EINVAL;
	if (!r)
		return -EFAULT;
	gm_mark(gm, at, len);
	return r->kind == GM_PRIVATE ? discard_private(r, at.v - r->start, len)
				     : discard_shared(r, at.v - r->start, len);
}
