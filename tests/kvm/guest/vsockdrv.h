/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsockdrv.h - virtio-vsock of a tiny guest: one connection at a time, both credits kept exactly
 *
 * What comes in is kept in a ring of VS_RING bytes, which is the credit advertised; it is given back as
 * the guest takes bytes out.  Packets are sent one at a time.
 */
#ifndef SPORE_TESTS_GUEST_VSOCKDRV_H
#define SPORE_TESTS_GUEST_VSOCKDRV_H

#include "tests/kvm/guest/virtio.h"

enum { VS_REQUEST = 1, VS_RESPONSE, VS_RST, VS_SHUTDOWN, VS_RW, VS_CREDIT, VS_CREDIT_ASK };
enum { VS_IDLE, VS_ASKED, VS_OPEN, VS_ENDING, VS_CLOSED };

#define VS_RING   65536u
#define VS_BUF    4096u /* payload of one receive buffer */
#define VS_BUFS   16u
#define VS_BYTES  ((volatile uint8_t *)VIO_DATA)
#define VS_RX(i)  (VIO_DATA + 0x100000ull + (i)*0x2000ull)
#define VS_HOST   2u
#define VS_STREAM 1u

struct vs_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, credit, taken;
} __attribute__((packed));

struct vs {
	struct vio dev;
	uint64_t cid;
	uint32_t state, port, host_port;
	uint32_t sent, host_credit, host_taken;
	uint32_t head, tail; /* bytes ever received, ever taken out */
	uint8_t of_head[VIO_SIZE];
};

static inline void vs_offer(struct vs *s, unsigned buf)
{
	struct vio_seg seg = {(volatile void *)VS_RX(buf), sizeof(struct vs_hdr) + VS_BUF, 1};
	s->of_head[vio_add(&s->dev.q[0], &seg, 1)] = (uint8_t)buf;
}

static inline int vs_start(struct vs *s, unsigned index)
{
	if (!vio_start(&s->dev, index, 3, VIO_VERSION_1))
		return 0;
	s->cid = vio_get(&s->dev, 0x100);
	for (unsigned i = 0; i < VS_BUFS; i++)
		vs_offer(s, i);
	vio_kick(&s->dev, 0);
	return 1;
}

static inline void vs_send(struct vs *s, uint16_t op, const volatile void *data, uint32_t len)
{
	static struct vs_hdr hdr;
	struct vio_seg seg[2] = {{&hdr, sizeof(hdr), 0}, {data, len, 0}};

	hdr = (struct vs_hdr){s->cid,    VS_HOST, s->port, s->host_port, len,
			      VS_STREAM, op,      0,       VS_RING,      s->tail};
	s->sent += len;
	vio_add(&s->dev.q[1], seg, len ? 2 : 1);
	vio_kick(&s->dev, 1);
	vio_wait(&s->dev.q[1]);
}

static inline void vs_copy(volatile uint8_t *to, const volatile uint8_t *from, uint32_t len)
{
	for (; len >= 8; len -= 8, to += 8, from += 8)
		*(volatile uint64_t *)to = *(const volatile uint64_t *)from;
	while (len--)
		*to++ = *from++;
}

static inline void vs_keep(struct vs *s, const volatile uint8_t *data, uint32_t len)
{
	CHECK(len <= VS_BUF &&
	      len <= VS_RING - (s->head - s->tail)); /* the device keeps to our credit */
	uint32_t at = s->head % VS_RING;
	uint32_t first = len < VS_RING - at ? len : VS_RING - at;

	vs_copy(VS_BYTES + at, data, first);
	vs_copy(VS_BYTES, data + first, len - first);
	s->head += len;
}

static inline void vs_take(struct vs *s, const volatile struct vs_hdr *hdr)
{
	CHECK(hdr->src_cid == VS_HOST && hdr->dst_cid == s->cid && hdr->type == VS_STREAM);
	if (hdr->dst_port != s->port)
		return; /* late news of a connection that has ended */
	s->host_credit = hdr->credit;
	s->host_taken = hdr->taken;
	switch (hdr->op) {
	case VS_REQUEST:
		CHECK(s->state == VS_IDLE);
		s->host_port = hdr->src_port;
		s->state = VS_OPEN;
		vs_send(s, VS_RESPONSE, 0, 0);
		break;
	case VS_RESPONSE:
		CHECK(s->state == VS_ASKED);
		s->state = VS_OPEN;
		break;
	case VS_RST: s->state = VS_CLOSED; break;
	case VS_SHUTDOWN: s->state = VS_ENDING; break;
	case VS_RW: vs_keep(s, (const volatile uint8_t *)(hdr + 1), hdr->len); break;
	case VS_CREDIT_ASK: vs_send(s, VS_CREDIT, 0, 0); break;
	default: CHECK(hdr->op == VS_CREDIT);
	}
}

/* Takes every packet that is there. */
static inline void vs_poll(struct vs *s)
{
	while (vio_has_used(&s->dev.q[0])) {
		struct vio_used used = vio_wait(&s->dev.q[0]);
		unsigned buf = s->of_head[used.id % VIO_SIZE];
		const volatile struct vs_hdr *hdr = (volatile struct vs_hdr *)VS_RX(buf);
		CHECK(used.len == sizeof(*hdr) + (hdr->op == VS_RW ? hdr->len : 0));
		vs_take(s, hdr);
		vs_offer(s, buf);
		vio_kick(&s->dev, 0);
	}
}

static inline void vs_begin(struct vs *s, uint32_t state, uint32_t port, uint32_t host_port)
{
	s->state = state;
	s->port = port;
	s->host_port = host_port;
	s->sent = s->host_credit = s->host_taken = s->head = s->tail = 0;
}

/* Asks the host's port.  Return: 1 open, 0 reset. */
static inline int vs_connect(struct vs *s, uint32_t port, uint32_t host_port)
{
	vs_begin(s, VS_ASKED, port, host_port);
	vs_send(s, VS_REQUEST, 0, 0);
	while (s->state == VS_ASKED)
		vs_poll(s);
	return s->state == VS_OPEN;
}

static inline uint32_t vs_room(const struct vs *s)
{
	uint32_t room = s->host_credit - (s->sent - s->host_taken);
	return room < 16384 ? room : 16384;
}

/* Sends back what has come, as far as the host's credit goes. */
static inline void vs_echo(struct vs *s)
{
	uint32_t at = s->tail % VS_RING, len = s->head - s->tail, room = vs_room(s);

	if (len > VS_RING - at)
		len = VS_RING - at;
	if (len > room)
		len = room;
	if (!len)
		return;
	s->tail += len;
	vs_send(s, VS_RW, VS_BYTES + at, len);
}

/* Answers a SHUTDOWN once all is echoed. */
static inline void vs_end(struct vs *s)
{
	if (s->state != VS_CLOSED)
		vs_send(s, VS_RST, 0, 0);
	s->state = VS_CLOSED;
}

#endif
