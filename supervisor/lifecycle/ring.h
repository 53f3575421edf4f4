/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - the last bytes of a stream
 * Thread: the caller's lock.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_RING_H
#define SPORE_SUPERVISOR_LIFECYCLE_RING_H

#include <stddef.h>
#include <stdint.h>

struct life_ring {
	char *buf;      /* cap bytes */
	size_t cap;     /* > 0 */
	uint64_t total; /* bytes ever put; the last min(total, cap) are kept */
};

void life_ring_put(struct life_ring *ring, const char *data, size_t len);

/*
 * life_ring_tail() - the last lines, fit for a terminal
 * @text: NUL-terminated; control bytes other than newline and tab are written as \xHH, CR before LF is
 *        dropped; lines that do not fit are cut from the front
 */
void life_ring_tail(const struct life_ring *ring, unsigned lines, char *text, size_t cap);

#endif
