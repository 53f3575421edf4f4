/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - the last bytes of a stream, addressed by their position since its beginning
 *
 *            tail                     head
 *   ..........|========================|          head - tail <= cap, always
 *             oldest kept              next to come
 *
 * A position is a uint64_t that never wraps; readers keep one each.  The buffer is allocated at the
 * first write.  Not thread-safe.
 */
#ifndef SPORE_AGENT_RING_H
#define SPORE_AGENT_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ring {
	uint8_t *buf;
	size_t cap;
	uint64_t head, tail;
};

void ring_free(struct ring *ring);
/* Room for `len` bytes (cut at cap) at the head.  Return: entries of iov used, or -ENOMEM. */
int ring_room(struct ring *ring, size_t len, struct iovec iov[2]);
/* `len` bytes were put into that room; the oldest fall out. */
void ring_wrote(struct ring *ring, size_t len);
/* The `len` bytes from position `at`, which must be kept.  Return: entries of iov used. */
int ring_span(const struct ring *ring, uint64_t at, size_t len, struct iovec iov[2]);
/* Copies bytes in.  Return: 0 or -ENOMEM. */
int ring_put(struct ring *ring, const void *src, size_t len);

#endif
