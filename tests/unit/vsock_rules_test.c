/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock against packets that break the rules, broken rings, resets and pauses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/vsock_host.h"

static int setup_flags(void **state)
{
	struct vg *g = vg_create(0);
	g->auto_accept = PORT;
	vg_start(g, VIRTIO_F_VERSION_1); /* no EVENT_IDX */
	*state = g;
	return 0;
}

static struct vsock_hdr stray_hdr(uint32_t port, uint16_t op)
{
	return (struct vsock_hdr){.src_cid = VG_CID,
				  .dst_cid = VSOCK_CID_HOST,
				  .src_port = port,
				  .dst_port = 7000,
				  .type = VSOCK_TYPE_STREAM,
				  .op = op};
}

static uint64_t dropped(const struct vg *g)
{
	struct vsock_usage u;
	vsock_usage(g->dev, &u);
	return u.dropped;
}

/* --- packets ------------------------------------------------------------------------------------ */
static void vsock__no_such_connection__rst_but_not_to_rst(void **state)
{
	struct vg *g = *state;
	static const uint16_t op[] = {0, 2, 4, 5, 6, 7, 8, 0xffff};

	for (size_t i = 0; i < ARRAY_LEN(op); i++) {
		struct vsock_hdr hdr = stray_hdr(600, op[i]);
		uint64_t before = g->stray;
		vg_send_raw(g, &hdr, sizeof(hdr), NULL, 0);
		VG_UNTIL(g, g->stray == before + 1);
		assert_int_equal(g->last.op, VSOCK_OP_RST);
		assert_int_equal(g->last.src_port, 7000);
		assert_int_equal(g->last.dst_port, 600);
	}
	struct vsock_hdr hdr = stray_hdr(600, VSOCK_OP_RST);
	uint64_t before = g->packets;
	vg_send_raw(g, &hdr, sizeof(hdr), NULL, 0);
	vg_settle(g);
	assert_int_equal(g->packets, before);
}

static void vsock__unknown_type__rst_of_that_type(void **state)
{
	struct vg *g = *state;
	struct vsock_hdr hdr = stray_hdr(600, VSOCK_OP_REQUEST);

	hdr.type = 2;
	vg_send_raw(g, &hdr, sizeof(hdr), NULL, 0);
	VG_UNTIL(g, g->stray == 1);
	assert_int_equal(g->last.op, VSOCK_OP_RST);
	assert_int_equal(g->last.type, 2);
}

static void vsock__foreign_cids_and_short_headers__dropped(void **state)
{
	struct vg *g = *state;
	static const struct {
		uint64_t src, dst;
		uint32_t cut;
	} row[] = {{4, 2, 44}, {3, 3, 44}, {3, 1, 44}, {3, UINT64_C(1) << 32 | 2, 44},
		   {3, 2, 43}, {3, 2, 1}};

	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		struct vsock_hdr hdr = stray_hdr(600, VSOCK_OP_REQUEST);
		hdr.src_cid = row[i].src;
		hdr.dst_cid = row[i].dst;
		vg_send_raw(g, &hdr, row[i].cut, NULL, 0);
		vg_settle(g);
		assert_int_equal(dropped(g), i + 1);
	}
	assert_int_equal(g->packets, 0);
	assert_false(g->dev->broken);
}

/* Each row ends the connection with an RST, and nothing else. */
static void vsock__packet_against_the_rules__rst(void **state)
{
	struct vg *g = *state;
	static const struct {
		uint16_t op;
		uint32_t len, really, before;
	} row[] = {
		{VSOCK_OP_RW, 100, 99, 0},            /* longer than its chain */
		{VSOCK_OP_RW, UINT32_MAX, 64, 0},     /* ... by far */
		{VSOCK_OP_RW, 8, 8, VSOCK_SHUT_SEND}, /* after its own farewell */
		{VSOCK_OP_REQUEST, 0, 0, 0},          /* a second time */
		{VSOCK_OP_RESPONSE, 0, 0, 0},         /* to nothing */
		{VSOCK_OP_INVALID, 0, 0, 0},
		{99, 0, 0, 0},
	};
	for (uint32_t i = 0; i < ARRAY_LEN(row); i++) {
		struct vg_conn *c;
		char text[64];
		int fd = host_open(g, VSOCK_HOST_PORT + i, &c);
		if (row[i].before)
			vg_send(g, c, VSOCK_OP_SHUTDOWN, row[i].before, NULL, 0);
		struct vsock_hdr hdr = vg_hdr(c, (enum vsock_op)row[i].op, row[i].len);
		memset(text, 'x', sizeof(text));
		uint32_t len = row[i].really < sizeof(text) ? row[i].really : sizeof(text);
		vg_send_raw(g, &hdr, sizeof(hdr), text, len);
		VG_UNTIL(g, saw(c, VSOCK_OP_RST));
		expect_closed(g, fd);
		assert_int_equal(conns(g), 0);
		assert_false(g->dev->broken);
	}
}

static void vsock__request_before_response__data_is_rst(void **state)
{
	struct vg *g = *state;
	int fd = vg_client(g);

	say(fd, "CONNECT 99\n");
	VG_UNTIL(g, g->count == 1);
	vg_send(g, &g->conn[0], VSOCK_OP_RW, 0, "early", 5);
	VG_UNTIL(g, saw(&g->conn[0], VSOCK_OP_RST));
	expect_closed(g, fd);
}

static void vsock__credit_request__answered(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	vg_send(g, c, VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
	VG_UNTIL(g, saw(c, VSOCK_OP_CREDIT_UPDATE));
	assert_int_equal(c->peer_alloc, VSOCK_CREDIT_LARGE);
	close(fd);
}

static void vsock__tiny_rx_buffers__skipped(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	g->rx_len = 44; /* a header and no more, from now on */
	say(fd, "hello");
	VG_UNTIL(g, c->got == 5);
	for (unsigned i = 0; i < 10; i++)
		vg_settle(g);
	assert_false(g->dev->broken);
	g->rx_len = VG_RX_LEN;
	close(fd);
	VG_UNTIL(g, c->shut == VSOCK_SHUT_BOTH);
}

/* --- rings -------------------------------------------------------------------------------------- */
static void vsock__broken_tx_ring__device_breaks_and_resets(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	vd_fill(&g->vd, g->vd.q[1].desc, 3, &(struct vd_seg){.at = 1, .len = 44}, -1);
	vd_publish(&g->vd, &g->vd.q[1], 3); /* an address outside memory */
	vd_kick(g->mmio, 1);
	VG_UNTIL(g, g->dev->broken);
	assert_true(vd_r32(g->mmio, 0x70) & 64);
	expect_closed(g, fd);
	g->count = 0;
	vd_w32(g->mmio, 0x70, 0);
	vg_start(g, VG_FEATURES);
	assert_false(g->dev->broken);
	fd = host_open(g, VSOCK_HOST_PORT + 1, &c);
	close(fd);
}

static void vsock__broken_rx_ring__device_breaks(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	*vd_u16(&g->vd, g->vd.q[0].avail + 2) += 1000;
	say(fd, "x");
	VG_UNTIL(g, g->dev->broken);
	expect_closed(g, fd);
}

/* --- resets and pauses -------------------------------------------------------------------------- */
static void vsock__driver_resets__connections_dropped(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	assert_int_equal(write(fd, "in flight", 9), 9);
	vg_send(g, c, VSOCK_OP_RW, 0, "x", 1);
	vd_w32(g->mmio, 0x70, 0);
	assert_int_equal(conns(g), 0);
	expect_closed(g, fd);
	g->count = 0;
	vg_start(g, VG_FEATURES);
	assert_int_equal(g->packets, 1); /* the REQUEST of the first session */
	fd = host_open(g, VSOCK_HOST_PORT + 1, &c);
	close(fd);
}

static void vsock__transport_reset__nothing_before_event_is_taken(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);
	uint64_t packets = g->packets;

	g->event_id = 99;
	vsock_transport_reset(g->dev);
	expect_closed(g, fd);
	VG_UNTIL(g, g->events == 1);
	assert_int_equal(g->event_id, VSOCK_EVENT_TRANSPORT_RESET);
	fd = vg_client(g);
	say(fd, "CONNECT 52\n");
	struct vsock_hdr hdr = stray_hdr(600, VSOCK_OP_RW);
	vg_send_raw(g, &hdr, sizeof(hdr), NULL, 0);
	vg_settle(g);
	assert_int_equal(g->packets, packets); /* no RST, no RW, no REQUEST */
	vg_give_event(g, 0);                   /* taken */
	vd_kick(g->mmio, 2);
	expect_ok(g, fd, VSOCK_HOST_PORT + 1);
	assert_int_equal(g->stray, 1);
	assert_int_equal(g->events, 1);
	close(fd);
}

static void pause_resume(struct vg *g, int fd, struct vg_conn *c)
{
	uint8_t buf[8];

	mmio_quiesce(g->mmio);
	uint32_t got = c->got;
	uint64_t packets = g->packets;
	say(fd, "to guest");
	vg_send(g, c, VSOCK_OP_RW, 0, "to host!", 8);
	vg_settle(g);
	assert_int_equal(c->got, got);
	assert_int_equal(g->packets, packets);
	assert_true(read(fd, buf, 1) < 0 && errno == EAGAIN);
	mmio_unquiesce(g->mmio);
	VG_UNTIL(g, c->got == got + 8);
	host_read_all(g, fd, buf, 8);
	assert_memory_equal(buf, "to host!", 8);
}

static void vsock__pause_and_resume__connections_go_on(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	for (unsigned i = 0; i < 10; i++)
		pause_resume(g, fd, c);
	/* A client that comes while paused is served afterwards. */
	mmio_quiesce(g->mmio);
	int late = vg_client(g);
	say(late, "CONNECT 52\n");
	vg_settle(g);
	assert_int_equal(g->count, 1);
	mmio_unquiesce(g->mmio);
	expect_ok(g, late, VSOCK_HOST_PORT + 1);
	close(late);
	close(fd);
}

static void vsock__pause_with_slow_reader__returns_and_goes_on(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	static uint8_t out[1 << 18], in[1 << 18];
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + (i >> 8));
	for (size_t at = 0; at < sizeof(out); at += 65536)
		vg_send(g, c, VSOCK_OP_RW, 0, out + at, 65536);
	mmio_quiesce(g->mmio);
	vg_settle(g);
	mmio_unquiesce(g->mmio);
	host_read_all(g, fd, in, sizeof(in));
	assert_memory_equal(in, out, sizeof(out));
	close(fd);
}

/* --- create ------------------------------------------------------------------------------------- */
static void vsock_create__bad_config__says_what(void **state)
{
	struct errmsg why;
	struct dev *dev = NULL;
	char path[VSOCK_PATH_MAX + 1];
	struct vsock_cfg cfg = {.guest_cid = 2, .listen_fd = -1, .ready_fd = -1};

	(void)state;
	assert_int_equal(vsock_create(&dev, &cfg, &why), -EINVAL);
	assert_string_equal(why.text,
			    "vsock: guest CID 2 is not in 3..4294967294: Invalid argument");
	cfg.guest_cid = 3;
	memset(path, 'p', sizeof(path));
	path[VSOCK_PATH_MAX] = 0;
	cfg.uds_path = path;
	assert_int_equal(vsock_create(&dev, &cfg, &why), -ENAMETOOLONG);
	cfg.uds_path = NULL;
	cfg.listen_fd = 1000;
	assert_int_equal(vsock_create(&dev, &cfg, &why), -EBADF);
	assert_string_equal(why.text,
			    "vsock: duplicate the listening fd 1000: Bad file descriptor");
	assert_null(dev);
}

static void vsock_config__any_access__cid_then_zeros(void **state)
{
	struct vg *g = *state;
	uint8_t buf[16];

	g->dev->ops->config_read(g->dev, 0, buf, 16);
	assert_memory_equal(buf, "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	g->dev->ops->config_read(g->dev, 4000, buf, 4);
	assert_memory_equal(buf, "\0\0\0\0", 4);
}

#define ROW(test, set) cmocka_unit_test_setup_teardown(test, set, teardown)

static const struct CMUnitTest tests[] = {
	ROW(vsock__no_such_connection__rst_but_not_to_rst, setup),
	ROW(vsock__unknown_type__rst_of_that_type, setup),
	ROW(vsock__foreign_cids_and_short_headers__dropped, setup),
	ROW(vsock__packet_against_the_rules__rst, setup),
	ROW(vsock__request_before_response__data_is_rst, setup),
	ROW(vsock__credit_request__answered, setup),
	ROW(vsock__tiny_rx_buffers__skipped, setup),
	ROW(vsock__broken_tx_ring__device_breaks_and_resets, setup),
	ROW(vsock__broken_rx_ring__device_breaks, setup),
	ROW(vsock__driver_resets__connections_dropped, setup),
	ROW(vsock__transport_reset__nothing_before_event_is_taken, setup),
	ROW(vsock__transport_reset__nothing_before_event_is_taken, setup_flags),
	ROW(vsock__pause_and_resume__connections_go_on, setup),
	ROW(vsock__pause_with_slow_reader__returns_and_goes_on, setup),
	cmocka_unit_test(vsock_create__bad_config__says_what),
	ROW(vsock_config__any_access__cid_then_zeros, setup),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
