/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/codec.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"

#define ALIGN     8u
#define FIRST_CAP (256u << 10)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the structs are the format: a big-endian port swaps here"
#endif

/* --- out ---------------------------------------------------------------------------------------- */

void snap_out_reset(struct snap_out *out)
{
	out->len = sizeof(struct snap_state_head);
	out->count = 0;
	out->err = 0;
}

int snap_out_init(struct snap_out *out)
{
	*out = (struct snap_out){.cap = FIRST_CAP};
	out->buf = malloc(out->cap);
	out->section = malloc(SNAP_SECTION_MAX * sizeof(*out->section));
	if (!out->buf || !out->section) {
		snap_out_free(out);
		return -ENOMEM;
	}
	snap_out_reset(out);
	return 0;
}

void snap_out_free(struct snap_out *out)
{
	free(out->buf);
	free(out->section);
	*out = (struct snap_out){.err = -ENOMEM};
}

/* Room for `len` more bytes, and for the largest table behind them. */
static int out_reserve(struct snap_out *out, size_t len)
{
	size_t table = SNAP_SECTION_MAX * sizeof(struct snap_section);

	if (len > SNAP_STATE_MAX || out->len + len > SNAP_STATE_MAX - table)
		return -E2BIG;
	if (out->len + len + table <= out->cap)
		return 0;
	size_t cap = 2 * (out->len + len + table);
	uint8_t *buf = realloc(out->buf, cap);
	if (!buf)
		return -ENOMEM;
	out->buf = buf;
	out->cap = cap;
	return 0;
}

static size_t aligned(size_t len)
{
	return (len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

void *snap_put(struct snap_out *out, uint32_t tag, uint32_t version, uint32_t instance, size_t len)
{
	if (!out->err && out->count == SNAP_SECTION_MAX)
		out->err = -E2BIG;
	if (!out->err)
		out->err = out_reserve(out, aligned(len > SNAP_STATE_MAX ? SNAP_STATE_MAX : len));
	if (out->err)
		return NULL;
	uint8_t *payload = out->buf + out->len;
	memset(payload, 0, aligned(len));
	out->section[out->count++] = (struct snap_section){
		.tag = tag, .version = version, .instance = instance, .off = out->len, .len = len};
	out->len += aligned(len);
	return payload;
}

void snap_put_cut(struct snap_out *out, size_t len)
{
	if (out->err)
		return;
	struct snap_section *last = &out->section[out->count - 1];
	VERIFY(len <= last->len);
	last->len = len;
	out->len = last->off + aligned(len);
	memset(out->buf + last->off + len, 0, aligned(len) - len);
}

int snap_out_finish(struct snap_out *out, struct errmsg *why)
{
	if (out->err)
		return err_set(why, out->err, "the machine's state");
	struct snap_state_head head = {
		.version = SNAP_STATE_VERSION,
		.count = out->count,
		.table_off = out->len,
		.len = out->len + out->count * sizeof(*out->section),
	};
	memcpy(head.magic, SNAP_STATE_MAGIC, sizeof(head.magic));
	memcpy(out->buf, &head, sizeof(head));
	memcpy(out->buf + head.table_off, out->section, out->count * sizeof(*out->section));
	out->len = head.len;
	head.crc = crc32c(out->buf, out->len);
	memcpy(out->buf, &head, sizeof(head));
	out->err = -EALREADY;
	return 0;
}

/* --- in ----------------------------------------------------------------------------------------- */

static int bad(struct errmsg *why, const char *what)
{
	return err_set(why, EBADMSG, "machine state: %s", what);
}

static int check_head(const struct snap_state_head *head, size_t len, struct errmsg *why)
{
	if (memcmp(head->magic, SNAP_STATE_MAGIC, sizeof(head->magic)) != 0)
		return bad(why, "not one");
	if (head->version != SNAP_STATE_VERSION)
		return err_set(why, EBADMSG, "machine state: version %u, only %u is known",
			       head->version, SNAP_STATE_VERSION);
	if (head->len != len || head->rsvd)
		return bad(why, "its length differs");
	if (head->count > SNAP_SECTION_MAX || head->table_off % ALIGN ||
	    head->table_off < sizeof(*head) || head->table_off > len ||
	    len - head->table_off != head->count * sizeof(struct snap_section))
		return bad(why, "its table lies outside");
	return 0;
}

static int check_crc(const uint8_t *blob, size_t len, const struct snap_state_head *head,
		     struct errmsg *why)
{
	struct snap_state_head copy = *head;

	copy.crc = 0;
	uint32_t crc =
		crc32c_more(crc32c(&copy, sizeof(copy)), blob + sizeof(copy), len - sizeof(copy));
	return crc == head->crc ? 0 : bad(why, "damaged (checksum)");
}

/* In the order in which they were put, so that none can lie over another. */
static int check_sections(const struct snap_in *in, uint64_t end, struct errmsg *why)
{
	uint64_t from = sizeof(struct snap_state_head);

	for (uint32_t i = 0; i < in->count; i++) {
		const struct snap_section *s = &in->table[i];
		uint32_t version;
		size_t len;
		if (s->rsvd || s->off % ALIGN || s->off < from || s->off > end ||
		    s->len > end - s->off)
			return bad(why, "a section lies outside or over another");
		from = s->off + s->len;
		if (snap_find(in, s->tag, s->instance, &version, &len) != in->blob + s->off)
			return bad(why, "a section stands there twice");
	}
	return 0;
}

int snap_in_open(struct snap_in *in, const void *blob, size_t len, struct errmsg *why)
{
	struct snap_state_head head;

	if ((uintptr_t)blob % ALIGN)
		return err_set(why, EINVAL, "machine state: not aligned");
	if (len < sizeof(head) || len > SNAP_STATE_MAX)
		return bad(why, "cut short or too large");
	memcpy(&head, blob, sizeof(head));
	int err = check_head(&head, len, why);
	if (!err)
		err = check_crc(blob, len, &head, why);
	if (err)
		return err;
	const uint8_t *bytes = blob;
	struct snap_in to = {.blob = bytes,
			     .table = (const void *)(bytes + head.table_off),
			     .count = head.count};
	err = check_sections(&to, head.table_off, why);
	if (!err)
		*in = to;
	return err;
}

const void *snap_find(const struct snap_in *in, uint32_t tag, uint32_t instance, uint32_t *version,
		      size_t *len)
{
	for (uint32_t i = 0; i < in->count; i++) {
		const struct snap_section *s = &in->table[i];
		if (s->tag != tag || s->instance != instance)
			continue;
		*version = s->version;
		*len = s->len;
		return in->blob + s->off;
	}
	return NULL;
}

int snap_take(const struct snap_in *in, uint32_t tag, uint32_t version, uint32_t instance, void *to,
	      size_t len, struct errmsg *why)
{
	uint32_t have;
	size_t have_len;
	const void *payload = snap_find(in, tag, instance, &have, &have_len);

	if (!payload)
		return err_set(why, EBADMSG, "machine state: no section %s %u",
			       snap_tag_text(tag).text, instance);
	if (have != version)
		return err_set(why, EBADMSG,
			       "machine state: section %s has version %u, only %u is known",
			       snap_tag_text(tag).text, have, version);
	if (have_len != len)
		return err_set(why, EBADMSG, "machine state: section %s %u has %zu bytes, not %zu",
			       snap_tag_text(tag).text, instance, have_len, len);
	memcpy(to, payload, len);
	return 0;
}

uint32_t snap_count(const struct snap_in *in, uint32_t tag)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < in->count; i++)
		count += in->table[i].tag == tag;
	return count;
}

struct snap_tag_text snap_tag_text(uint32_t tag)
{
	struct snap_tag_text out = {""};

	for (unsigned i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)(tag >> (8 * i));
		out.text[i] = isalnum(c) ? (char)c : '.';
	}
	return out;
}
