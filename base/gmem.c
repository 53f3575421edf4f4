/* SPDX-License-Identifier: Apache-2.0 */
#include "base/gmem.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

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
