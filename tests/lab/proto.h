/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames between labc (on the machine) and labd (in the lab), over one TCP connection a command.
 *
 * A frame is a header of 8 bytes, little-endian, and its payload.  The first frame of a
 * connection is HELLO with the lab's token; then START with the command, or nothing (a ping).
 * Stdin is sent one DATA frame at a time, each answered by ACK: labd never holds more than one.
 * Both ends are built from this tree and run on x86-64: no version, no byte swapping.
 */
#ifndef TESTS_LAB_PROTO_H
#define TESTS_LAB_PROTO_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum lab_frame {
	LAB_HELLO = 1, /* to the lab: LAB_TOKEN_BYTES of token */
	LAB_START,     /* to the lab: cwd\0 count\0 argument\0... variable=value\0... */
	LAB_STDIN,     /* to the lab: bytes; empty: end of file */
	LAB_SIGNAL,    /* to the lab: uint32 number, sent to the command's process group */
	LAB_KILL,      /* to the lab: kill the command and all that it started */
	LAB_READY,     /* from the lab: HELLO was right */
	LAB_ACK,       /* from the lab: the last STDIN has been taken */
	LAB_STDOUT,    /* from the lab: bytes */
	LAB_STDERR,    /* from the lab: bytes */
	LAB_EXIT,      /* from the lab: uint32 exit status as a shell gives it; the last frame */
};

#define LAB_TOKEN_BYTES     32
#define LAB_CHUNK           (64u << 10) /* bytes of payload in one data frame, at most */
#define LAB_START_BYTES_MAX (4u << 20)  /* bytes of START: arguments and environment */
#define LAB_PORT            7

struct lab_head {
	uint32_t type;
	uint32_t len;
};

/* A buffer that is filled from one fd and emptied into another; start..end is what is inside. */
struct lab_buf {
	uint8_t *data;
	size_t size, start, end;
};

static inline size_t lab_buf_len(const struct lab_buf *b)
{
	return b->end - b->start;
}

/* Read once into the free end.  Return: bytes, 0 at end of file, -1 with errno. */
static inline ssize_t lab_buf_fill(struct lab_buf *b, int fd)
{
	if (b->start) {
		memmove(b->data, b->data + b->start, lab_buf_len(b));
		b->end -= b->start;
		b->start = 0;
	}
	ssize_t n = read(fd, b->data + b->end, b->size - b->end);
	if (n > 0)
		b->end += (size_t)n;
	return n;
}

/* Write once, at most max bytes.  Return: 0, or -1 with errno for anything but "try again". */
static inline int lab_buf_drain(struct lab_buf *b, int fd, size_t max)
{
	size_t len = lab_buf_len(b) < max ? lab_buf_len(b) : max;
	ssize_t n = write(fd, b->data + b->start, len);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	b->start += (size_t)n;
	if (b->start == b->end)
		b->start = b->end = 0;
	return 0;
}

/* Append a frame; the caller has made sure that it fits. */
static inline void lab_buf_frame(struct lab_buf *b, uint32_t type, const void *payload,
				 uint32_t len)
{
	struct lab_head h = {.type = type, .len = len};

	memcpy(b->data + b->end, &h, sizeof(h));
	if (len)
		memcpy(b->data + b->end + sizeof(h), payload, len);
	b->end += sizeof(h) + len;
}

/*
 * lab_buf_peek() - the frame at the front
 * @h:   out: its header
 * @bad: out: true when the frame can never fit
 * Return: its payload, or NULL while it is not complete.
 */
static inline uint8_t *lab_buf_peek(const struct lab_buf *b, struct lab_head *h, bool *bad)
{
	if (lab_buf_len(b) < sizeof(*h))
		return NULL;
	memcpy(h, b->data + b->start, sizeof(*h));
	*bad = h->len > b->size - sizeof(*h);
	if (*bad || lab_buf_len(b) < sizeof(*h) + h->len)
		return NULL;
	return b->data + b->start + sizeof(*h);
}

static inline void lab_buf_take(struct lab_buf *b, const struct lab_head *h)
{
	b->start += sizeof(*h) + h->len;
	if (b->start == b->end)
		b->start = b->end = 0;
}

#endif
