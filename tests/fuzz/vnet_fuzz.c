/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver and a hostile peer against virtio-net.
 * Input: records {what, length (2), offset, count}: chains for either queue, bytes from the peer, turns.
 */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "devices/net_stream.h"
#include "devices/vnet.h"
#include "tests/unit/vdriver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORD  5u
#define RECORDS 40u

static int peer = -1;

static struct net_backend *backend(const struct net_egress *rule)
{
	struct net_backend *net;
	int pair[2];

	if (peer >= 0)
		close(peer);
	VERIFY(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	VERIFY(net_stream_create(&net, pair[0], rule, NULL) == 0);
	peer = pair[1];
	return net;
}

static struct vd_rig *rig(void)
{
	static struct vd_rig r;
	struct vnet_cfg cfg = {.id = "eth0", .mac = {2}, .mtu = 1500};
	struct dev *dev;

	if (r.mmio)
		return &r;
	vd_rig_init(&r, UINT64_C(8) << 20);
	cfg.backend = backend(&(struct net_egress){.filter = true});
	VERIFY(vnet_create(&dev, &cfg, NULL) == 0);
	vd_rig_plug(&r, dev);
	return &r;
}

static void chain(struct vd_rig *r, const uint8_t *p)
{
	unsigned queue = p[0] & 1, count = 1 + p[4] % VD_SEG_MAX;
	struct vd_seg seg[VD_SEG_MAX];

	if (vd_free_count(&r->vd.q[queue]) < count)
		return;
	for (unsigned i = 0; i < count; i++)
		seg[i] = (struct vd_seg){r->vd.data + p[3] * 64u, 1 + le16_load(p + 1) / count,
					 !queue != !(p[0] & 2)};
	if (p[0] & 4)
		seg[count - 1].at = ~(uint64_t)p[3];
	if (p[0] & 8)
		vd_add_indirect(&r->vd, queue, seg, count);
	else
		vd_add_direct(&r->vd, queue, seg, count);
}

/* A frame, or bytes that are none. */
static void peer_sends(const uint8_t *p, const uint8_t *rest, size_t left)
{
	static uint8_t buf[4 + 0x10000];
	uint32_t len = le16_load(p + 1);

	buf[2] = (uint8_t)(len >> 8);
	buf[3] = (uint8_t)len;
	buf[1] = p[0] & 2 ? p[3] : 0;
	memcpy(buf + 4, rest, left < len ? left : len);
	(void)!send(peer, buf, p[0] & 4 ? p[4] : 4 + len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void peer_reads(void)
{
	static uint8_t buf[65536];
	(void)!recv(peer, buf, sizeof(buf), MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vd_rig *r = rig();

	if (size < 1)
		return 0;
	VERIFY(vnet_set_backend(r->dev, backend(&(struct net_egress){.filter = data[0] & 1}),
				NULL) == 0);
	vd_start(&r->vd, r->mmio, r->dev->offered & ~(data[0] & 2 ? NET_F_MRG_RXBUF : 0), 2, 64);
	unsigned n = 0;
	for (size_t i = 1; i + RECORD <= size && n < RECORDS; i += RECORD, n++) {
		const uint8_t *p = data + i;
		if (p[0] & 16)
			peer_sends(p, p + RECORD, size - i - RECORD);
		else
			chain(r, p);
		if (p[0] & 32)
			vd_kick(r->mmio, p[0] & 1);
		if (p[0] & 64)
			peer_reads();
		if (p[0] & 128)
			VERIFY(loop_step(r->loop, LOOP_POLL) == 0);
	}
	vd_kick(r->mmio, 0);
	vd_kick(r->mmio, 1);
	vd_turns(r, 2);
	mmio_quiesce(r->mmio);
	mmio_unquiesce(r->mmio);
	vd_w32(r->mmio, 0x70, 0);
	return 0;
}
