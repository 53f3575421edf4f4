/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net over one end of a socket pair that speaks passt's framing; the test holds the other end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/net_fault.h"
#include "devices/net_stream.h"
#include "devices/vnet.h"
#include "tests/unit/vdriver.h"
#include "wire/snap_net.h"

#define MEM    (UINT64_C(16) << 20)
#define RX     0
#define TX     1
#define BROKEN 64u
#define HDR    12u

struct rig {
	struct vd_rig r;
	int peer;
	struct net_fault_plan plan;
};

static const uint8_t mac[] = {2, 0, 0, 1, 2, 3};

static struct net_backend *backend(struct rig *t, const struct net_egress *rule)
{
	struct net_backend *net = NULL;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(net_stream_create(&net, pair[0], rule, NULL), 0);
	assert_int_equal(net_fault_create(&net, net, &t->plan), 0);
	t->peer = pair[1];
	return net;
}

static struct rig *make(const struct limiter_cfg *tx, const struct net_egress *rule,
			uint64_t without)
{
	struct rig *t = calloc(1, sizeof(*t));
	struct vnet_cfg cfg = {.id = "eth0", .mtu = 1500};
	struct dev *dev = NULL;

	assert_non_null(t);
	vd_rig_init(&t->r, MEM);
	cfg.backend = backend(t, rule);
	memcpy(cfg.mac, mac, sizeof(cfg.mac));
	if (tx)
		cfg.tx = *tx;
	assert_int_equal(vnet_create(&dev, &cfg, NULL), 0);
	vd_rig_plug(&t->r, dev);
	vd_start(&t->r.vd, t->r.mmio, dev->offered & ~without, 2, 64);
	assert_int_equal(vd_r32(t->r.mmio, 0x70), 15);
	return t;
}

static const struct net_egress all = {.filter = false};

static int setup(void **state)
{
	*state = make(NULL, &all, 0);
	return 0;
}

static int setup_plain(void **state)
{
	*state = make(NULL, &all, NET_F_MRG_RXBUF);
	return 0;
}

static int teardown(void **state)
{
	struct rig *t = *state;

	vd_rig_deinit(&t->r);
	close(t->peer);
	free(t);
	return 0;
}

static uint64_t slot(const struct rig *t, unsigned i)
{
	return t->r.vd.data + i * 0x11000ull;
}

static void *data(const struct rig *t, unsigned i, uint64_t off)
{
	return vd_ptr(&t->r.vd, slot(t, i) + off, 0x10000 - off);
}

/* A frame whose bytes say where they are. */
static void fill(uint8_t *to, uint32_t len, uint8_t salt)
{
	for (uint32_t i = 0; i < len; i++)
		to[i] = (uint8_t)(i * 7 + salt);
}

static void send_frame(struct rig *t, unsigned i, uint32_t len)
{
	const struct vd_seg seg[] = {{slot(t, i), HDR, false}, {slot(t, i) + HDR, len, false}};

	memset(data(t, i, 0), 0, HDR);
	fill(data(t, i, HDR), len, (uint8_t)i);
	vd_add_direct(&t->r.vd, TX, seg, len ? 2 : 1);
}

static void get(const struct rig *t, void *buf, size_t len)
{
	assert_int_equal(recv(t->peer, buf, len, MSG_WAITALL | MSG_DONTWAIT), len);
}

/* The next frame at the peer is the one that send_frame() made of slot i. */
static void expect_frame(const struct rig *t, unsigned i, uint32_t len)
{
	static uint8_t got[NET_FRAME_MAX], want[NET_FRAME_MAX];
	uint8_t head[4];

	get(t, head, 4);
	assert_int_equal(head[0] << 24 | head[1] << 16 | head[2] << 8 | head[3], len);
	get(t, got, len);
	fill(want, len, (uint8_t)i);
	assert_memory_equal(got, want, len);
}

static bool peer_has_nothing(const struct rig *t)
{
	uint8_t b;
	return recv(t->peer, &b, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void put(const struct rig *t, uint32_t len, uint8_t salt)
{
	static uint8_t buf[4 + NET_FRAME_MAX];

	for (unsigned i = 0; i < 4; i++)
		buf[i] = (uint8_t)(len >> (24 - 8 * i));
	fill(buf + 4, len, salt);
	assert_int_equal(send(t->peer, buf, 4 + len, 0), 4 + len);
}

static void give_buffer(struct rig *t, unsigned i, uint32_t len)
{
	const struct vd_seg seg = {slot(t, i), len, true};
	vd_add_direct(&t->r.vd, RX, &seg, 1);
}

static unsigned used(struct rig *t, unsigned queue, uint32_t len[], unsigned most)
{
	unsigned n = 0;
	uint32_t id;

	while (n < most && vd_used(&t->r.vd, queue, &id, &len[n]))
		n++;
	return n;
}

/* --- configuration ------------------------------------------------------------------------------ */
static void vnet_config__mac_link_and_mtu(void **state)
{
	struct rig *t = *state;

	assert_int_equal(vd_r32(t->r.mmio, 0x08), 1);
	assert_int_equal(vd_r32(t->r.mmio, 0x100), 0x01000002);
	assert_int_equal(vd_r32(t->r.mmio, 0x104), 0x00010302); /* mac[4..6), link up */
	assert_int_equal(vd_r32(t->r.mmio, 0x108), 1500 << 16 | 1);
	/* What the backend cannot do is not offered. */
	assert_int_equal(t->r.dev->offered & (NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_HOST_TSO4), 0);
}

static void vnet_create__bad_mac_or_mtu__refused(void **state)
{
	struct vnet_cfg cfg = {.id = "x"};
	struct rig t = {.peer = -1};
	struct dev *dev;

	(void)state;
	cfg.backend = backend(&t, &all);
	assert_int_equal(vnet_create(&dev, &cfg, NULL), -EINVAL); /* zero */
	cfg.mac[0] = 3;
	assert_int_equal(vnet_create(&dev, &cfg, NULL), -EINVAL); /* a group's */
	cfg.mac[0] = 2;
	cfg.mtu = 67;
	assert_int_equal(vnet_create(&dev, &cfg, NULL), -EINVAL);
	net_destroy(cfg.backend);
	close(t.peer);
}

/* --- out ---------------------------------------------------------------------------------------- */
static void vnet_tx__frames__arrive_whole_and_in_order(void **state)
{
	struct rig *t = *state;
	const uint32_t sizes[] = {14, 63, 64, 65, 1514, 40000};
	uint32_t len[8];

	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++)
		send_frame(t, i, sizes[i]);
	vd_kick(t->r.mmio, TX);
	vd_turns(&t->r, 3);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++)
		expect_frame(t, i, sizes[i]);
	assert_int_equal(used(t, TX, len, 8), ARRAY_LEN(sizes));
	assert_true(vd_irqs(&t->r) >= 1);
}

static void vnet_tx__header_split_and_many_segments__one_frame(void **state)
{
	struct rig *t = *state;
	struct vd_seg seg[24];
	uint64_t at = slot(t, 0);

	memset(data(t, 0, 0), 0, HDR);
	fill(data(t, 0, HDR), 24 * 13 - HDR, 0);
	for (unsigned i = 0; i < ARRAY_LEN(seg); i++, at += 13)
		seg[i] = (struct vd_seg){at, 13, false};
	vd_add_direct(&t->r.vd, TX, seg, 24);
	vd_kick(t->r.mmio, TX);
	vd_turns(&t->r, 2);
	expect_frame(t, 0, 24 * 13 - HDR);
}

static void vnet_tx__no_frame__dropped_and_given_back(void **state)
{
	struct rig *t = *state;
	const struct vd_seg huge[] = {{slot(t, 0), 0xffff, false}, {slot(t, 2), 0xffff, false}};
	const struct vd_seg writable = {slot(t, 0), 100, true};
	uint32_t len[8];

	send_frame(t, 0, 0);
	send_frame(t, 1, 13);
	vd_add_direct(&t->r.vd, TX, huge, 2);
	vd_add_direct(&t->r.vd, TX, &writable, 1);
	send_frame(t, 3, 60);
	vd_kick(t->r.mmio, TX);
	vd_turns(&t->r, 2);
	expect_frame(t, 3, 60);
	assert_true(peer_has_nothing(t));
	assert_int_equal(used(t, TX, len, 8), 5);
	assert_int_equal(vd_r32(t->r.mmio, 0x70), 15);
}

static void vnet_tx__peer_reads_slowly__nothing_is_lost_or_torn(void **state)
{
	struct rig *t = *state;
	const unsigned count = 24; /* of 60 000 bytes: more than a socket holds */
	unsigned got = 0;
	uint32_t len[32];

	for (unsigned i = 0; i < count; i++)
		send_frame(t, i, 60000);
	vd_kick(t->r.mmio, TX);
	vd_turns(&t->r, 3);
	assert_true(used(t, TX, len, 32) < count);
	for (unsigned turns = 0; got < count && turns < 1000; turns++) {
		uint8_t b[4];
		static uint8_t frame[60000];
		/* All of a frame, with turns of the device between its pieces. */
		while (recv(t->peer, b, 4, MSG_PEEK | MSG_DONTWAIT) != 4)
			vd_turns(&t->r, 1);
		get(t, b, 4);
		for (size_t have = 0; have < sizeof(frame);) {
			ssize_t n = recv(t->peer, frame + have, sizeof(frame) - have, MSG_DONTWAIT);
			if (n > 0)
				have += (size_t)n;
			else
				vd_turns(&t->r, 1);
		}
		static uint8_t want[60000];
		fill(want, sizeof(want), (uint8_t)got);
		assert_memory_equal(frame, want, sizeof(want));
		got++;
	}
	assert_int_equal(got, count);
}

static void vnet_tx__backend_full__request_stays_in_the_ring(void **state)
{
	struct rig *t = *state;
	uint32_t len[2];

	t->plan.full = 1;
	send_frame(t, 0, 100);
	vd_kick(t->r.mmio, TX);
	assert_int_equal(used(t, TX, len, 2), 0);
	vd_turns(&t->r, 3); /* the socket can be written: the poll comes at once */
	expect_frame(t, 0, 100);
	assert_int_equal(used(t, TX, len, 2), 1);
}

static void vnet_tx__limited__waits_and_goes_on(void **state)
{
	const struct limiter_cfg slow = {.ops = {.size = 2, .refill_ms = 20}};
	struct rig *t = make(&slow, &all, 0);
	unsigned got = 0, waits = 0;
	uint32_t len[8];

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		send_frame(t, i, 60);
	vd_kick(t->r.mmio, TX);
	for (got = used(t, TX, len, 8); got < 6; waits++) {
		assert_int_equal(loop_step(t->r.loop, LOOP_WAIT), 0);
		got += used(t, TX, len, 8);
	}
	assert_true(waits >= 1);
	for (unsigned i = 0; i < 6; i++)
		expect_frame(t, i, 60);
	*state = t;
	teardown(state);
}

static void vnet_tx__filtered__stays(void **state)
{
	const struct net_egress rule = {.filter = true};
	struct rig *t = make(NULL, &rule, 0);
	uint8_t *frame;

	for (unsigned i = 0; i < 2; i++) {
		send_frame(t, i, 60);
		frame = data(t, i, HDR);
		memset(frame, 0, 60);
		frame[12] = 8;
		frame[14] = 0x45;
		memcpy(frame + 30, i ? "\x08\x08\x08\x08" : "\x0a\x00\x00\x01", 4);
	}
	vd_kick(t->r.mmio, TX);
	vd_turns(&t->r, 2);
	uint8_t got[64];
	get(t, got, sizeof(got));
	assert_memory_equal(got + 4 + 30, "\x08\x08\x08\x08", 4);
	assert_true(peer_has_nothing(t));
	*state = t;
	teardown(state);
}

/* --- in ----------------------------------------------------------------------------------------- */
static void vnet_rx__small_frame__one_buffer(void **state)
{
	struct rig *t = *state;
	uint8_t want[100];
	uint32_t len[2];

	give_buffer(t, 0, 2048);
	put(t, 100, 9);
	vd_kick(t->r.mmio, RX);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 2), 1);
	assert_int_equal(len[0], HDR + 100);
	fill(want, 100, 9);
	assert_memory_equal(data(t, 0, HDR), want, 100);
	assert_int_equal(le16_load(data(t, 0, 10)), 1);
	assert_true(vd_irqs(&t->r) >= 1);
}

static void vnet_rx__large_frame__several_buffers_at_once(void **state)
{
	struct rig *t = *state;
	static uint8_t want[5000];
	uint32_t len[8];
	unsigned at = 0;

	put(t, 5000, 3);
	for (unsigned i = 0; i < 3; i++)
		give_buffer(t, i, 1500);
	vd_kick(t->r.mmio, RX);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 8), 0); /* 4500 bytes: none is taken */
	give_buffer(t, 3, 1500);
	vd_kick(t->r.mmio, RX);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 8), 4);
	assert_int_equal(le16_load(data(t, 0, 10)), 4);
	fill(want, sizeof(want), 3);
	for (unsigned i = 0; i < 4; i++) {
		unsigned skip = i ? 0 : HDR;
		assert_memory_equal(data(t, i, skip), want + at, len[i] - skip);
		at += len[i] - skip;
	}
	assert_int_equal(at, 5000);
}

static void vnet_rx__not_mergeable_and_too_large__dropped(void **state)
{
	struct rig *t = *state;
	uint32_t len[4];

	give_buffer(t, 0, 1000);
	put(t, 1000, 1);
	put(t, 900, 2);
	vd_kick(t->r.mmio, RX);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 4), 1);
	assert_int_equal(len[0], HDR + 900);
	assert_int_equal(*(uint8_t *)data(t, 0, HDR), 2);
}

static void vnet_rx__no_buffers__frames_wait_for_the_driver(void **state)
{
	struct rig *t = *state;
	uint32_t len[40];

	for (unsigned i = 0; i < 20; i++)
		put(t, 200, (uint8_t)i);
	vd_turns(&t->r, 3);
	for (unsigned i = 0; i < 20; i++)
		give_buffer(t, i, 2048);
	vd_kick(t->r.mmio, RX);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 40), 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(*(uint8_t *)data(t, i, HDR), i);
}

static void vnet_rx__peer_sends_nonsense__link_goes_down(void **state)
{
	struct rig *t = *state;

	assert_int_equal(send(t->peer, "\xff\xff\xff\xff....", 8, 0), 8);
	vd_kick(t->r.mmio, RX);
	vd_turns(&t->r, 3);
	assert_int_equal(vd_r32(t->r.mmio, 0x104) >> 16, 0);
	assert_int_equal(vd_r32(t->r.mmio, 0x70), 15);
	send_frame(t, 0, 100); /* goes nowhere, and comes back */
	vd_kick(t->r.mmio, TX);
	vd_turns(&t->r, 2);
	uint32_t len;
	assert_int_equal(used(t, TX, &len, 1), 1);
}

static void vnet_rx__peer_dies__link_goes_down_until_another_backend(void **state)
{
	struct rig *t = *state;
	uint32_t len[2];

	close(t->peer);
	vd_turns(&t->r, 3);
	assert_int_equal(vd_r32(t->r.mmio, 0x104) >> 16, 0);
	give_buffer(t, 0, 2048);
	assert_int_equal(vnet_set_backend(t->r.dev, backend(t, &all), NULL), 0);
	assert_int_equal(vd_r32(t->r.mmio, 0x104) >> 16, 1);
	put(t, 77, 5);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 2), 1);
	assert_int_equal(len[0], HDR + 77);
}

/* --- hostile rings, pause, snapshot ------------------------------------------------------------- */
static void vnet_ring__malformed__breaks_this_device_only(void **state)
{
	struct rig *t = *state;
	const struct vd_seg bad = {~UINT64_C(4095), 2000, true};

	for (unsigned queue = RX; queue <= TX; queue++) {
		vd_add_direct(&t->r.vd, queue, &bad, 1);
		put(t, 100, 1);
		vd_kick(t->r.mmio, queue);
		vd_turns(&t->r, 3);
		if (!(vd_r32(t->r.mmio, 0x70) & BROKEN))
			fail_msg("queue %u", queue);
		vd_start(&t->r.vd, t->r.mmio, t->r.dev->offered, 2, 64);
		assert_int_equal(vd_r32(t->r.mmio, 0x70), 15);
	}
}

static void vnet_quiesce__nothing_moves_until_unquiesce(void **state)
{
	struct rig *t = *state;
	uint32_t len[2];

	give_buffer(t, 0, 2048);
	mmio_quiesce(t->r.mmio);
	put(t, 100, 1);
	send_frame(t, 1, 60);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 2), 0);
	assert_true(peer_has_nothing(t));
	mmio_unquiesce(t->r.mmio);
	vd_turns(&t->r, 3);
	assert_int_equal(used(t, RX, len, 2), 1);
	expect_frame(t, 1, 60);
}

static void vnet_save__loaded_elsewhere__same_mac(void **state)
{
	struct rig *t = *state, *other = make(NULL, &all, 0);
	struct snap_out out;
	struct snap_in in;

	mmio_quiesce(t->r.mmio);
	mmio_quiesce(other->r.mmio);
	assert_int_equal(snap_out_init(&out), 0);
	vnet_ops.save(t->r.dev, &out, 3);
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), 0);
	assert_int_equal(vnet_ops.load(other->r.dev, &in, 3, NULL), 0);
	assert_int_equal(vnet_ops.load(other->r.dev, &in, 2, NULL), -EBADMSG);
	/* The same bytes with a group's address: refused. */
	snap_out_reset(&out);
	struct snap_vnet *bad = snap_put(&out, SNAP_VNET, SNAP_VNET_VERSION, 3, sizeof(*bad));
	bad->mac[0] = 1;
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), 0);
	assert_int_equal(vnet_ops.load(other->r.dev, &in, 3, NULL), -EBADMSG);
	snap_out_free(&out);
	void *also = other;
	teardown(&also);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define PLAIN(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		PLAIN(vnet_config__mac_link_and_mtu),
		cmocka_unit_test(vnet_create__bad_mac_or_mtu__refused),
		PLAIN(vnet_tx__frames__arrive_whole_and_in_order),
		PLAIN(vnet_tx__header_split_and_many_segments__one_frame),
		PLAIN(vnet_tx__no_frame__dropped_and_given_back),
		PLAIN(vnet_tx__peer_reads_slowly__nothing_is_lost_or_torn),
		PLAIN(vnet_tx__backend_full__request_stays_in_the_ring),
		cmocka_unit_test(vnet_tx__limited__waits_and_goes_on),
		cmocka_unit_test(vnet_tx__filtered__stays),
		PLAIN(vnet_rx__small_frame__one_buffer),
		PLAIN(vnet_rx__large_frame__several_buffers_at_once),
		cmocka_unit_test_setup_teardown(vnet_rx__not_mergeable_and_too_large__dropped,
						setup_plain, teardown),
		PLAIN(vnet_rx__no_buffers__frames_wait_for_the_driver),
		PLAIN(vnet_rx__peer_sends_nonsense__link_goes_down),
		PLAIN(vnet_rx__peer_dies__link_goes_down_until_another_backend),
		PLAIN(vnet_ring__malformed__breaks_this_device_only),
		PLAIN(vnet_quiesce__nothing_moves_until_unquiesce),
		PLAIN(vnet_save__loaded_elsewhere__same_mac),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
