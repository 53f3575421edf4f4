/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - little-endian numbers in byte buffers, and bounded cursors over hostile bytes
 *
 * A reader never runs past its end: the first read that would not fit sets `bad`, yields 0 and makes
 * every later read yield 0 too, so that a decoder reads all its fields and checks `bad` once.
 */
#ifndef SPORE_BASE_BYTES_H
#define SPORE_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t le16_load(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t le32_load(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t le64_load(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void le16_store(void *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void le32_store(void *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void le64_store(void *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static inline bool bytes_zero(const void *p, size_t len)
{
	const uint8_t *byte = p;

	for (size_t i = 0; i < len; i++)
		if (byte[i])
			return false;
	return true;
}

struct bytes_in {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static inline struct bytes_in bytes_in(const void *buf, size_t len)
{
	return (struct bytes_in){.at = buf, .left = len};
}

/* The next `len` bytes in place, or NULL when they are not all there. */
static inline const uint8_t *bytes_take(struct bytes_in *in, size_t len)
{
	if (in->bad || len > in->left) {
		in->bad = true;
		return NULL;
	}
	const uint8_t *p = in->at;
	in->at += len;
	in->left -= len;
	return p;
}

static inline uint8_t bytes_u8(struct bytes_in *in)
{
	const uint8_t *p = bytes_take(in, 1);
	return p ? *p : 0;
}

static inline uint16_t bytes_u16(struct bytes_in *in)
{
	const uint8_t *p = bytes_take(in, 2);
	return p ? le16_load(p) : 0;
}

static inline uint32_t bytes_u32(struct bytes_in *in)
{
	const uint8_t *p = bytes_take(in, 4);
	return p ? le32_load(p) : 0;
}

static inline uint64_t bytes_u64(struct bytes_in *in)
{
	const uint8_t *p = bytes_take(in, 8);
	return p ? le64_load(p) : 0;
}

/* A writer into a fixed buffer: the first write that does not fit sets `full`; later ones do nothing. */
struct bytes_out {
	uint8_t *buf;
	size_t len, cap;
	bool full;
};

static inline struct bytes_out bytes_out(void *buf, size_t cap)
{
	return (struct bytes_out){.buf = buf, .cap = cap};
}

static inline void bytes_put(struct bytes_out *out, const void *src, size_t len)
{
	if (out->full || len > out->cap - out->len) {
		out->full = true;
		return;
	}
	if (len)
		memcpy(out->buf + out->len, src, len);
	out->len += len;
}

static inline void bytes_put_u8(struct bytes_out *out, uint8_t v)
{
	bytes_put(out, &v, 1);
}

static inline void bytes_put_u16(struct bytes_out *out, uint16_t v)
{
	v = htole16(v);
	bytes_put(out, &v, sizeof(v));
}

static inline void bytes_put_u32(struct bytes_out *out, uint32_t v)
{
	v = htole32(v);
	bytes_put(out, &v, sizeof(v));
}

static inline void bytes_put_u64(struct bytes_out *out, uint64_t v)
{
	v = htole64(v);
	bytes_put(out, &v, sizeof(v));
}

#endif
