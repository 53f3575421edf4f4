/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/ring.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void life_ring_put(struct life_ring *ring, const char *data, size_t len)
{
	assert(ring->cap);
	for (size_t i = 0; i < len; i++)
		ring->buf[ring->total++ % ring->cap] = data[i];
}

static char byte_at(const struct life_ring *ring, uint64_t at)
{
	return ring->buf[at % ring->cap];
}

static size_t cost(char c)
{
	return (unsigned char)c < 0x20 || (unsigned char)c >= 0x7f ? 4 : 1;
}

/* True for bytes that are shown as they are. */
static int plain(char c)
{
	return c == '\n' || c == '\t' || cost(c) == 1;
}

/* Where the tail begins: at most `lines` lines and `room` escaped bytes before the end. */
static uint64_t tail_begin(const struct life_ring *ring, unsigned lines, size_t room)
{
	uint64_t oldest = ring->total > ring->cap ? ring->total - ring->cap : 0;
	uint64_t at = ring->total;

	while (at > oldest) {
		char c = byte_at(ring, at - 1);
		if (c == '\n' && at != ring->total && !--lines)
			break;
		size_t need = plain(c) ? 1 : cost(c);
		if (need > room)
			break;
		room -= need;
		at--;
	}
	return at;
}

void life_ring_tail(const struct life_ring *ring, unsigned lines, char *text, size_t cap)
{
	size_t len = 0;

	assert(cap && lines);
	for (uint64_t at = tail_begin(ring, lines, cap - 1); at < ring->total; at++) {
		char c = byte_at(ring, at);
		if (c == '\r' && at + 1 < ring->total && byte_at(ring, at + 1) == '\n')
			continue;
		if (plain(c))
			text[len++] = c;
		else
			len += (size_t)sprintf(text + len, "\\x%02x", (unsigned char)c);
	}
	text[len] = '\0';
}
