/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out: length, a copy of the frame's head (what the filter has judged is what leaves: guest memory may
 * change meanwhile) and the rest straight from guest memory, in one call.  What the socket does not take of a
 * frame that has begun is copied and goes first the next time, so that lengths and frames stay in step.
 * In: as much as there is, into one buffer; frames are handed out in place.
 */
#include "devices/net_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

#define LENGTH_SIZE 4u
#define IN_SIZE     (2 * (NET_FRAME_MAX + LENGTH_SIZE))

struct stream {
	struct net_backend net;
	struct net_egress rule; /* const */

	size_t in_at, in_end; /* in[in_at..in_end) has been received and not taken */
	size_t tail_at, tail_end;
	uint8_t head[LENGTH_SIZE + NET_EGRESS_HEAD];
	uint8_t tail[NET_FRAME_MAX + LENGTH_SIZE];
	uint8_t in[IN_SIZE];
};

static struct stream *stream_of(struct net_backend *net)
{
	return container_of(net, struct stream, net);
}

/* --- out ---------------------------------------------------------------------------------------- */
/* Return: bytes, or -errno. */
static ssize_t stream_put(const struct stream *s, struct iovec *iov, size_t count)
{
	const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t n = sendmsg(s->net.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? -errno : n;
}

static int stream_flush(struct net_backend *net)
{
	struct stream *s = stream_of(net);

	while (s->tail_at < s->tail_end) {
		struct iovec iov = {s->tail + s->tail_at, s->tail_end - s->tail_at};
		ssize_t n = stream_put(s, &iov, 1);
		if (n < 0)
			return (int)n;
		s->tail_at += (size_t)n;
	}
	return 0;
}

/* Keeps what is behind the first `sent` bytes. */
static void stream_keep(struct stream *s, const struct iovec *iov, unsigned count, size_t sent)
{
	s->tail_at = s->tail_end = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
		memcpy(s->tail + s->tail_end, (const uint8_t *)iov[i].iov_base + skip,
		       iov[i].iov_len - skip);
		s->tail_end += iov[i].iov_len - skip;
		sent -= skip;
	}
}

/* Moves the first bytes of a frame out of guest memory.  Return: the first vector that is left. */
static unsigned stream_take_head(struct stream *s, const struct net_tx *tx, size_t want)
{
	size_t have = 0;
	unsigned i = 0;

	while (have < want) {
		struct iovec *iov = &tx->iov[i];
		size_t n = iov->iov_len < want - have ? iov->iov_len : want - have;
		memcpy(s->head + LENGTH_SIZE + have, iov->iov_base, n);
		iov->iov_base = (uint8_t *)iov->iov_base + n;
		iov->iov_len -= n;
		have += n;
		i += !iov->iov_len;
	}
	return i;
}

static int stream_send(struct net_backend *net, const struct net_tx *tx)
{
	struct stream *s = stream_of(net);
	size_t head = tx->len < NET_EGRESS_HEAD ? tx->len : NET_EGRESS_HEAD;

	int err = stream_flush(net);
	if (err)
		return err;
	/* At most one vector more than the frame has: iov[-1] is ours. */
	struct iovec *iov = tx->iov + stream_take_head(s, tx, head) - 1;
	unsigned count = tx->count - (unsigned)(iov - tx->iov);
	if (!net_egress_allows(&s->rule, s->head + LENGTH_SIZE, head))
		return 0;
	for (unsigned i = 0; i < LENGTH_SIZE; i++)
		s->head[i] = (uint8_t)(tx->len >> (8 * (LENGTH_SIZE - 1 - i)));
	*iov = (struct iovec){s->head, LENGTH_SIZE + head};
	ssize_t n = stream_put(s, iov, count);
	if (n < 0 && n != -EAGAIN)
		return (int)n;
	/* It has been taken apart: a frame that found no room at all is kept as well. */
	stream_keep(s, iov, count, n < 0 ? 0 : (size_t)n);
	return 0;
}

/* --- in ----------------------------------------------------------------------------------------- */
static uint32_t stream_length(const struct stream *s)
{
	uint32_t len = 0;

	for (unsigned i = 0; i < LENGTH_SIZE; i++)
		len = len << 8 | s->in[s->in_at + i];
	return len;
}

/* Is there a whole frame?  1, 0; -EPROTO: no frame is that long or short. */
static int stream_whole(const struct stream *s, uint32_t *len)
{
	if (s->in_end - s->in_at < LENGTH_SIZE)
		return 0;
	*len = stream_length(s);
	if (*len < NET_FRAME_MIN || *len > NET_FRAME_MAX)
		return -EPROTO;
	return s->in_end - s->in_at >= LENGTH_SIZE + *len;
}

/* Return: 1 there is more; 0 there is nothing now; -errno. */
static int stream_fill(struct stream *s)
{
	memmove(s->in, s->in + s->in_at, s->in_end - s->in_at);
	s->in_end -= s->in_at;
	s->in_at = 0;
	ssize_t n = read(s->net.fd, s->in + s->in_end, sizeof(s->in) - s->in_end);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	s->in_end += (size_t)n;
	return n ? 1 : -EPIPE;
}

static int stream_peek(struct net_backend *net, struct net_rx *rx)
{
	struct stream *s = stream_of(net);
	uint32_t len = 0;
	int got, more = 1;

	/* The buffer holds more than a frame: each round ends with one, or brings bytes. */
	while (!(got = stream_whole(s, &len)) && more > 0)
		more = stream_fill(s);
	if (got <= 0)
		return got < 0 ? got : more;
	*rx = (struct net_rx){.frame = s->in + s->in_at + LENGTH_SIZE, .len = len};
	return 1;
}

static void stream_take(struct net_backend *net)
{
	struct stream *s = stream_of(net);
	s->in_at += LENGTH_SIZE + stream_length(s);
}

/* --- life --------------------------------------------------------------------------------------- */
static int stream_set_offload(struct net_backend *net, uint64_t taken)
{
	(void)net;
	return taken ? -EINVAL : 0;
}

static void stream_destroy(struct net_backend *net)
{
	close(net->fd);
	free(stream_of(net));
}

static const struct net_ops stream_ops = {
	.name = "stream",
	.set_offload = stream_set_offload,
	.send = stream_send,
	.flush = stream_flush,
	.peek = stream_peek,
	.take = stream_take,
	.destroy = stream_destroy,
};

int net_stream_create(struct net_backend **out, int fd, const struct net_egress *rule,
		      struct errmsg *why)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return err_set(why, errno, "descriptor %d", fd);
	if (type != SOCK_STREAM)
		return err_set(why, EPROTOTYPE, "descriptor %d is not a stream socket", fd);
	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		return err_set(why, errno, "descriptor %d", fd);
	struct stream *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(why, ENOMEM, "stream backend");
	s->net = (struct net_backend){.ops = &stream_ops, .fd = fd};
	s->rule = *rule;
	*out = &s->net;
	return 0;
}
