/* SPDX-License-Identifier: Apache-2.0 */
/* aml.c - see aml.h */
#include "vmm/aml.h"

#include <assert.h>
#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_EXT = 0x5b,
	OP_EXT_DEVICE = 0x82,
	OP_NOTIFY = 0x86,
	ROOT_PREFIX = '\\',
};

enum {
	RES_IO = 0x47,
	RES_END = 0x79,
	RES_MEMORY32 = 0x86,
	RES_INTERRUPT = 0x89,
	RES_INTERRUPT_EDGE_CONSUMER = 3, /* consumer, edge, active high, exclusive */
};

#define PKG_LEN_MAX 4u /* bytes of a length */

static void put_name(struct bytes_out *out, const char name[static 4])
{
	assert(strlen(name) == 4);
	bytes_put(out, name, 4);
}

/* A length counts itself: with n bytes it is body + n (20.2.4). */
static size_t pkg_length(uint8_t raw[static PKG_LEN_MAX], size_t body)
{
	if (body + 1 < 0x40) {
		raw[0] = (uint8_t)(body + 1);
		return 1;
	}
	size_t n = body + 2 < 1u << 12 ? 2 : body + 3 < 1u << 20 ? 3 : 4;
	size_t len = body + n;
	assert(len < 1u << 28);
	raw[0] = (uint8_t)((n - 1) << 6 | (len & 0xf));
	for (size_t i = 1; i < n; i++)
		raw[i] = (uint8_t)(len >> (4 + 8 * (i - 1)));
	return n;
}

size_t aml_scope(struct bytes_out *out, const char *root_name)
{
	bytes_put_u8(out, OP_SCOPE);
	size_t begin = out->len;
	bytes_put_u8(out, ROOT_PREFIX);
	put_name(out, root_name);
	return begin;
}

size_t aml_device(struct bytes_out *out, const char name[static 4])
{
	bytes_put_u8(out, OP_EXT);
	bytes_put_u8(out, OP_EXT_DEVICE);
	size_t begin = out->len;
	put_name(out, name);
	return begin;
}

void aml_end(struct bytes_out *out, size_t begin)
{
	uint8_t raw[PKG_LEN_MAX];
	uint8_t room[PKG_LEN_MAX] = {0};

	if (out->full)
		return;
	size_t body = out->len - begin;
	size_t n = pkg_length(raw, body);
	bytes_put(out, room, n);
	if (out->full)
		return;
	memmove(out->buf + begin + n, out->buf + begin, body);
	memcpy(out->buf + begin, raw, n);
}

static void put_int(struct bytes_out *out, uint64_t val)
{
	if (val <= 1) {
		bytes_put_u8(out, val ? OP_ONE : OP_ZERO);
	} else if (val <= UINT8_MAX) {
		bytes_put_u8(out, OP_BYTE);
		bytes_put_u8(out, (uint8_t)val);
	} else if (val <= UINT16_MAX) {
		bytes_put_u8(out, OP_WORD);
		bytes_put_u16(out, (uint16_t)val);
	} else if (val <= UINT32_MAX) {
		bytes_put_u8(out, OP_DWORD);
		bytes_put_u32(out, (uint32_t)val);
	} else {
		bytes_put_u8(out, OP_QWORD);
		bytes_put_u64(out, val);
	}
}

static void put_name_op(struct bytes_out *out, const char name[static 4])
{
	bytes_put_u8(out, OP_NAME);
	put_name(out, name);
}

void aml_name_int(struct bytes_out *out, const char name[static 4], uint64_t val)
{
	put_name_op(out, name);
	put_int(out, val);
}

void aml_name_str(struct bytes_out *out, const char name[static 4], const char *val)
{
	put_name_op(out, name);
	bytes_put_u8(out, OP_STRING);
	bytes_put(out, val, strlen(val) + 1);
}

static unsigned hex_digit(char c)
{
	assert((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
	return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_name_eisa(struct bytes_out *out, const char name[static 4], const char id[static 7])
{
	unsigned vendor = 0, product = 0;

	for (unsigned i = 0; i < 3; i++)
		vendor = vendor << 5 | (unsigned)(id[i] - 'A' + 1);
	for (unsigned i = 3; i < 7; i++)
		product = product << 4 | hex_digit(id[i]);
	/* Big-endian in memory; AML integers are little-endian. */
	put_name_op(out, name);
	put_int(out, __builtin_bswap32(vendor << 16 | product));
}

void aml_name_package(struct bytes_out *out, const char name[static 4], const uint64_t *val,
		      uint8_t count)
{
	put_name_op(out, name);
	bytes_put_u8(out, OP_PACKAGE);
	size_t begin = out->len;
	bytes_put_u8(out, count);
	for (unsigned i = 0; i < count; i++)
		put_int(out, val[i]);
	aml_end(out, begin);
}

#define METHOD_ARGS_MAX   7u
#define METHOD_SERIALIZED 8u

size_t aml_method(struct bytes_out *out, const char name[static 4], unsigned args)
{
	assert(args <= METHOD_ARGS_MAX);
	bytes_put_u8(out, OP_METHOD);
	size_t begin = out->len;
	put_name(out, name);
	bytes_put_u8(out, (uint8_t)(args | METHOD_SERIALIZED));
	return begin;
}

void aml_notify(struct bytes_out *out, const char scope[static 4], const char name[static 4],
		uint8_t value)
{
	bytes_put_u8(out, OP_NOTIFY);
	bytes_put_u8(out, ROOT_PREFIX);
	bytes_put_u8(out, OP_DUAL_NAME);
	put_name(out, scope);
	put_name(out, name);
	put_int(out, value);
}

void aml_crs_init(struct aml_crs *crs)
{
	crs->out = bytes_out(crs->raw, sizeof(crs->raw));
}

void aml_crs_memory32(struct aml_crs *crs, uint32_t addr, uint32_t size)
{
	bytes_put_u8(&crs->out, RES_MEMORY32);
	bytes_put_u16(&crs->out, 9);
	bytes_put_u8(&crs->out, 1); /* read-write */
	bytes_put_u32(&crs->out, addr);
	bytes_put_u32(&crs->out, size);
}

void aml_crs_io(struct aml_crs *crs, uint16_t port, uint8_t size)
{
	bytes_put_u8(&crs->out, RES_IO);
	bytes_put_u8(&crs->out, 1); /* decodes 16 bits */
	bytes_put_u16(&crs->out, port);
	bytes_put_u16(&crs->out, port);
	bytes_put_u8(&crs->out, 1); /* alignment */
	bytes_put_u8(&crs->out, size);
}

void aml_crs_interrupt(struct aml_crs *crs, uint32_t gsi)
{
	bytes_put_u8(&crs->out, RES_INTERRUPT);
	bytes_put_u16(&crs->out, 6);
	bytes_put_u8(&crs->out, RES_INTERRUPT_EDGE_CONSUMER);
	bytes_put_u8(&crs->out, 1); /* one interrupt */
	bytes_put_u32(&crs->out, gsi);
}

void aml_name_crs(struct bytes_out *out, struct aml_crs *crs)
{
	bytes_put_u8(&crs->out, RES_END);
	bytes_put_u8(&crs->out, 0); /* "checksum is not used" */
	assert(!crs->out.full);

	put_name_op(out, "_CRS");
	bytes_put_u8(out, OP_BUFFER);
	size_t begin = out->len;
	put_int(out, crs->out.len);
	bytes_put(out, crs->raw, crs->out.len);
	aml_end(out, begin);
}
