/* SPDX-License-Identifier: Apache-2.0 */
/* The envelope of a machine's state: what goes in comes out, and what was touched is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/codec.h"

#define TAG_A SNAP_TAG('T', 'S', 'T', 'A')
#define TAG_B SNAP_TAG('T', 'S', 'T', 'B')

/* RFC 3720, B.4, and the check value that every description of CRC-32C gives. */
static void crc32c__known_inputs__known_sums(void **state)
{
	(void)state;
	uint8_t zero[32] = {0}, ones[32], up[32];

	memset(ones, 0xff, sizeof(ones));
	for (unsigned i = 0; i < sizeof(up); i++)
		up[i] = (uint8_t)i;
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(zero, sizeof(zero)), 0x8a9136aa);
	assert_int_equal(crc32c(ones, sizeof(ones)), 0x62a8ab43);
	assert_int_equal(crc32c(up, sizeof(up)), 0x46dd794e);
	for (size_t cut = 0; cut <= 9; cut++)
		assert_int_equal(crc32c_more(crc32c("123456789", cut), &"123456789"[cut], 9 - cut),
				 0xe3069283);
}

static void fill(struct snap_out *out)
{
	uint8_t *p = snap_put(out, TAG_A, 1, 0, 5);
	memcpy(p, "hello", 5);
	p = snap_put(out, TAG_A, 1, 7, 16);
	memset(p, 0x77, 16);
	p = snap_put(out, TAG_B, 3, 0, 100);
	memset(p, 0xbb, 100);
	snap_put_cut(out, 9);
	assert_non_null(snap_put(out, TAG_B, 3, 1, 0));
}

static void codec__round_trip__all_sections_as_put(void **state)
{
	(void)state;
	struct snap_out out;
	struct snap_in in;
	struct errmsg why = {""};
	uint8_t bytes[16];
	uint32_t version;
	size_t len;

	assert_int_equal(snap_out_init(&out), 0);
	fill(&out);
	assert_int_equal(snap_out_finish(&out, &why), 0);
	assert_null(snap_put(&out, TAG_A, 1, 9, 1));
	assert_int_equal(snap_in_open(&in, out.buf, out.len, &why), 0);
	assert_int_equal(in.count, 4);
	assert_int_equal(snap_count(&in, TAG_A), 2);
	assert_int_equal(snap_take(&in, TAG_A, 1, 0, bytes, 5, &why), 0);
	assert_memory_equal(bytes, "hello", 5);
	const uint8_t *cut = snap_find(&in, TAG_B, 0, &version, &len);
	assert_non_null(cut);
	assert_int_equal(version, 3);
	assert_int_equal(len, 9);
	assert_int_equal(cut[8], 0xbb);
	assert_null(snap_find(&in, TAG_A, 1, &version, &len));
	assert_int_equal(snap_take(&in, TAG_A, 1, 1, bytes, 5, &why), -EBADMSG);
	assert_string_equal(why.text, "machine state: no section TSTA 1: Bad message");
	assert_int_equal(snap_take(&in, TAG_A, 2, 0, bytes, 5, &why), -EBADMSG);
	assert_int_equal(snap_take(&in, TAG_A, 1, 0, bytes, 6, &why), -EBADMSG);
	snap_out_free(&out);
}

static void codec__every_bit_flipped__refused(void **state)
{
	(void)state;
	struct snap_out out;
	struct snap_in in;

	assert_int_equal(snap_out_init(&out), 0);
	fill(&out);
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	for (size_t bit = 0; bit < out.len * 8; bit++) {
		out.buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), -EBADMSG);
		out.buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t len = 0; len < out.len; len++)
		assert_int_equal(snap_in_open(&in, out.buf, len, NULL), -EBADMSG);
	assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), 0);
	snap_out_free(&out);
}

/* Rewrites the checksum after a change, as who means harm would. */
static void sign(struct snap_out *out)
{
	struct snap_state_head head;

	memcpy(&head, out->buf, sizeof(head));
	head.crc = 0;
	memcpy(out->buf, &head, sizeof(head));
	head.crc = crc32c(out->buf, out->len);
	memcpy(out->buf, &head, sizeof(head));
}

static void codec__signed_lies__refused(void **state)
{
	(void)state;
	struct snap_out out;
	struct snap_in in;
	struct snap_state_head head;

	assert_int_equal(snap_out_init(&out), 0);
	fill(&out);
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	memcpy(&head, out.buf, sizeof(head));
	struct snap_section *table = (void *)(out.buf + head.table_off);
	const struct snap_section lies[] = {
		{.tag = TAG_A, .version = 1, .off = head.table_off, .len = 8},
		{.tag = TAG_A, .version = 1, .off = 40, .len = UINT64_MAX},
		{.tag = TAG_A, .version = 1, .off = 44, .len = 1},
		{.tag = TAG_A, .version = 1, .off = 0, .len = 8},
		{.tag = TAG_A, .version = 1, .off = 40, .len = 9},
		{.tag = TAG_A, .version = 1, .off = 40, .len = 5, .rsvd = 1},
		{.tag = TAG_A, .version = 1, .instance = 7, .off = 40, .len = 5},
		{.tag = TAG_A, .version = 1, .off = UINT64_MAX - 7, .len = 8},
	};
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		struct snap_section old = table[0];
		table[0] = lies[i];
		sign(&out);
		assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), -EBADMSG);
		table[0] = old;
	}
	sign(&out);
	assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), 0);
	snap_out_free(&out);
}

static void codec__too_much__one_error_at_the_end(void **state)
{
	(void)state;
	struct snap_out out;

	assert_int_equal(snap_out_init(&out), 0);
	for (unsigned i = 0; i <= SNAP_SECTION_MAX; i++)
		snap_put(&out, TAG_A, 1, i, 1);
	assert_int_equal(snap_out_finish(&out, NULL), -E2BIG);
	snap_out_reset(&out);
	assert_null(snap_put(&out, TAG_A, 1, 0, SNAP_STATE_MAX));
	assert_int_equal(snap_out_finish(&out, NULL), -E2BIG);
	snap_out_reset(&out);
	assert_null(snap_put(&out, TAG_A, 1, 0, SIZE_MAX));
	assert_int_equal(snap_out_finish(&out, NULL), -E2BIG);
	snap_out_reset(&out);
	for (unsigned i = 0; i < 6; i++)
		assert_non_null(snap_put(&out, TAG_A, 1, i, 1u << 20));
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	snap_out_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc32c__known_inputs__known_sums),
		cmocka_unit_test(codec__round_trip__all_sections_as_put),
		cmocka_unit_test(codec__every_bit_flipped__refused),
		cmocka_unit_test(codec__signed_lies__refused),
		cmocka_unit_test(codec__too_much__one_error_at_the_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
