/* SPDX-License-Identifier: Apache-2.0 */
/* ring.c - see ring.h */
#include "agent/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ring_free(struct ring *ring)
{
	free(ring->buf);
	*ring = (struct ring){.cap = ring->cap};
}

static int split(const struct ring *ring, uint64_t at, size_t len, struct iovec iov[2])
{
	size_t start = (size_t)(at % ring->cap);
	size_t first = len < ring->cap - start ? len : ring->cap - start;

	assert(len <= ring->cap);
	iov[0] = (struct iovec){ring->buf + start, first};
	iov[1] = (struct iovec){ring->buf, len - first};
	return len > first ? 2 : 1;
}

int ring_room(struct ring *ring, size_t len, struct iovec iov[2])
{
	if (!ring->buf) {
		ring->buf = malloc(ring->cap);
		if (!ring->buf)
			return -ENOMEM;
	}
	return split(ring, ring->head, len < ring->cap ? len : ring->cap, iov);
}

void ring_wrote(struct ring *ring, size_t len)
{
	assert(len <= ring->cap);
	ring->head += len;
	if (ring->head - ring->tail > ring->cap)
		ring->tail = ring->head - ring->cap;
}

int ring_span(const struct ring *ring, uint64_t at, size_t len, struct iovec iov[2])
{
	assert(at >= ring->tail);
	assert(len <= ring->head - at);
	return split(ring, at, len, iov);
}

int ring_put(struct ring *ring, const void *src, size_t len)
{
	struct iovec iov[2];
	const uint8_t *from = src;
	int count = ring_room(ring, len, iov);

	if (count < 0)
		return count;
	assert(len <= ring->cap);
	memcpy(iov[0].iov_base, from, iov[0].iov_len);
	if (count > 1)
		memcpy(iov[1].iov_base, from + iov[0].iov_len, iov[1].iov_len);
	ring_wrote(ring, len);
	return 0;
}
