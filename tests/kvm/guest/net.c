/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives virtio-net: gives buffers, sends one frame, and sends back whatever comes, until a frame that begins
 * with 'Q' has come.  Frames larger than a buffer come in several.
 */
#include "tests/kvm/guest/virtio.h"

enum { RX, TX };
#define MRG_RXBUF (1ull << 15)
#define HDR       12u
#define BUFFER    1526u
#define BUFFERS   8u

static struct vio net;

static volatile uint8_t *buffer(unsigned i)
{
	return (volatile uint8_t *)(VIO_DATA + 0x1000ull * i);
}

static void give(unsigned i)
{
	struct vio_seg seg = {buffer(i), BUFFER, 1};
	vio_add(&net.q[RX], &seg, 1);
}

/* Header in front; the frame is `len` bytes. */
static void send(volatile uint8_t *at, uint32_t len)
{
	struct vio_seg seg[2] = {{at, HDR, 0}, {at + HDR, len, 0}};

	for (unsigned i = 0; i < HDR; i++)
		at[i] = 0;
	vio_add(&net.q[TX], seg, 2);
	vio_kick(&net, TX);
	vio_wait(&net.q[TX]);
}

/* Puts the frame together in the last area.  Return: its length. */
static uint32_t receive(volatile uint8_t *to)
{
	unsigned count = 1;
	uint32_t len = 0;

	for (unsigned n = 0; n < count; n++) {
		struct vio_used used = vio_wait(&net.q[RX]);
		volatile uint8_t *at = buffer(used.id % BUFFERS);
		unsigned skip = n ? 0 : HDR;
		if (!n)
			count = at[10] | (unsigned)at[11] << 8;
		for (uint32_t i = skip; i < used.len; i++)
			to[HDR + len++] = at[i];
		give(used.id % BUFFERS);
	}
	vio_kick(&net, RX);
	return len;
}

void guest_main(const void *zero_page)
{
	volatile uint8_t *area = buffer(BUFFERS + 1);
	uint32_t len;

	(void)zero_page;
	CHECK(vio_start(&net, 0, 2, VIO_VERSION_1 | MRG_RXBUF));
	CHECK(vio_get(&net, 0x08) == 1);
	CHECK(vio_get(&net, 0x100) == 0x01000002u);
	for (unsigned i = 0; i < BUFFERS; i++)
		give(i);
	vio_kick(&net, RX);
	for (unsigned i = 0; i < 60; i++)
		area[HDR + i] = (uint8_t)i;
	send(area, 60);
	do {
		len = receive(area);
		send(area, len);
	} while (area[HDR] != 'Q');
	guest_verdict();
}
