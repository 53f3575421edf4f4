/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock under pressure: credit, slow peers, ends of connections, resets, pauses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/vsock_host.h"

static const uint8_t zeros[1 << 16];

static int setup_flags(void **state)
{
	struct vg *g = vg_create(0);
	g->auto_accept = PORT;
	vg_start(g, VIRTIO_F_VERSION_1); /* no EVENT_IDX */
	*state = g;
	return 0;
}

/* Numbers itself: every byte tells its place. */
static void pattern(uint8_t *buf, size_t len, uint64_t at)
{
	for (size_t i = 0; i < len; i++, at++)
		buf[i] = (uint8_t)(at * 31 + (at >> 9));
}

/* --- limits ------------------------------------------------------------------------------------- */
static void vsock__1024th_connection__refused(void **state)
{
	struct vg *g = *state;
	int listener = host_listener(g, 7000), extra = host_listener(g, 7001);
	static int fd[VSOCK_CONN_MAX];
	char byte;

	for (uint32_t i = 0; i < VSOCK_CONN_MAX; i++)
		vg_open(g, 1 + i, 7000, listener, &fd[i]);
	assert_int_equal(conns(g), VSOCK_CONN_MAX);
	struct vg_conn *c = vg_track(g, 5000, 7001);
	vg_send(g, c, VSOCK_OP_REQUEST, 0, NULL, 0);
	VG_UNTIL(g, saw(c, VSOCK_OP_RST));
	int client = vg_client(g);
	expect_closed(g, client);
	/* One goes, one may come. */
	vg_send(g, &g->conn[500], VSOCK_OP_RST, 0, NULL, 0);
	assert_int_equal(host_read(g, fd[500], &byte, 1), 0);
	c = vg_open(g, 5001, 7001, extra, &client);
	assert_true(saw(c, VSOCK_OP_RESPONSE));
	close(client);
	for (uint32_t i = 0; i < VSOCK_CONN_MAX; i++)
		close(fd[i]);
	close(listener);
	close(extra);
}

static void vsock__request_flood_without_rx_buffers__bounded_then_answered(void **state)
{
	struct vg *g = *state;
	struct vsock_usage u;
	struct vsock_hdr hdr = {.src_cid = VG_CID,
				.dst_cid = VSOCK_CID_HOST,
				.type = VSOCK_TYPE_STREAM,
				.op = VSOCK_OP_REQUEST};
	uint32_t sent = 0, id, len;

	g->hold_rx = true;
	for (; sent < 20000; sent++) {
		while (vd_used(&g->vd, 1, &id, &len))
			;
		if (vd_free_count(&g->vd.q[1]) <= VQ_SIZE_MAX - VG_TX_COUNT)
			break; /* the device takes no more: it may not owe for ever */
		hdr.src_port = sent;
		vg_send_raw(g, &hdr, sizeof(hdr), NULL, 0);
		vg_settle(g);
	}
	vsock_usage(g->dev, &u);
	assert_true(u.resets < 2048);
	assert_true(sent < 2048 + VG_TX_COUNT + VG_RX_COUNT);
	assert_int_equal(u.conns, 0);
	g->hold_rx = false;
	for (unsigned i = 0; i < VG_RX_COUNT; i++)
		if (!g->vd.q[0].taken[i])
			vg_give_rx(g, i);
	vd_kick(g->mmio, 0);
	VG_UNTIL(g, g->packets == sent);
}

/* --- credit ------------------------------------------------------------------------------------- */
static void vsock__slow_host_reader__guest_held_by_credit(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);
	static uint8_t out[4096], in[65536];
	uint64_t sent = 0, got = 0, hash_out = 1, hash_in = 1;

	for (unsigned idle = 0; idle < 50;) {
		uint32_t len = vg_credit(c) < sizeof(out) ? vg_credit(c) : sizeof(out);
		idle = len ? 0 : idle + 1;
		if (len) {
			pattern(out, len, sent);
			hash_out = vg_hash(hash_out, out, len);
			vg_send(g, c, VSOCK_OP_RW, 0, out, len);
			sent += len;
		}
		vg_step(g);
	}
	assert_int_equal(vg_credit(c), 0);
	assert_true(buffered(g) <= VSOCK_CREDIT_LARGE); /* never more than was advertised ... */
	assert_true(buffered(g) >= VSOCK_CREDIT_LARGE * 3 / 4); /* ... and used */
	while (got < sent) {
		ssize_t n = host_read(g, fd, in, sizeof(in));
		assert_true(n > 0);
		hash_in = vg_hash(hash_in, in, (size_t)n);
		got += (uint64_t)n;
	}
	assert_int_equal(hash_in, hash_out);
	VG_UNTIL(g, vg_credit(c) >= VSOCK_CREDIT_LARGE * 3 / 4); /* and it is told */
	assert_int_equal(buffered(g), 0);
	close(fd);
}

static void vsock__beyond_credit__rst(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	for (unsigned i = 0; i < 64 && !saw(c, VSOCK_OP_RST); i++) {
		vg_send(g, c, VSOCK_OP_RW, 0, zeros, sizeof(zeros));
		vg_settle(g);
	}
	assert_true(saw(c, VSOCK_OP_RST));
	assert_int_equal(conns(g), 0);
	assert_int_equal(buffered(g), 0);
	close(fd);
}

static size_t write_until_full(struct vg *g, int fd)
{
	size_t total = 0;

	for (unsigned idle = 0; idle < 50;) {
		ssize_t n = write(fd, zeros, sizeof(zeros));
		idle = n > 0 ? 0 : idle + 1;
		total += n > 0 ? (size_t)n : 0;
		vg_step(g);
	}
	return total;
}

static void vsock__slow_guest__socket_not_read(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	c->hold = true;
	size_t total = write_until_full(g, fd);
	assert_int_equal(c->got, c->alloc);
	assert_true(total > c->alloc && total < c->alloc + (4u << 20));
	assert_true(saw(c, VSOCK_OP_CREDIT_REQUEST));
	assert_int_equal(buffered(g), 0); /* we hold nothing for it */
	c->hold = false;
	c->fwd = c->got;
	vg_send(g, c, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	VG_UNTIL(g, c->got == total);
	close(fd);
}

static void vsock__no_rx_buffers__socket_not_read(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	g->hold_rx = true;
	size_t total = write_until_full(g, fd);
	assert_true(c->got <= VG_RX_COUNT * (VG_RX_LEN - 44));
	assert_true(total < c->got + (1u << 20));
	g->hold_rx = false;
	for (unsigned i = 0; i < VG_RX_COUNT; i++)
		if (!g->vd.q[0].taken[i])
			vg_give_rx(g, i);
	vd_kick(g->mmio, 0);
	VG_UNTIL(g, c->got == total);
	close(fd);
}

static void vsock__bulk_beside_small__small_not_starved(void **state)
{
	struct vg *g = *state;
	struct vg_conn *bulk, *small;
	int fd = host_open(g, VSOCK_HOST_PORT, &bulk);
	int fd2 = host_open(g, VSOCK_HOST_PORT + 1, &small);

	bulk->alloc = 1u << 30;
	vg_send(g, bulk, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	bulk = &g->conn[0];
	for (unsigned i = 0; i < 20; i++) {
		while (write(fd, zeros, sizeof(zeros)) > 0)
			;
		uint32_t before = bulk->got;
		assert_int_equal(write(fd2, "x", 1), 1);
		VG_UNTIL(g, small->got == i + 1);
		assert_true(bulk->got - before <= 16 * (VG_RX_LEN - 44));
	}
	close(fd);
	close(fd2);
}

/* --- ends --------------------------------------------------------------------------------------- */
static void vsock__guest_half_closes__host_reads_eof_and_answers(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	char buf[16];
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	vg_send(g, c, VSOCK_OP_RW, 0, "question", 8);
	vg_send(g, c, VSOCK_OP_SHUTDOWN, VSOCK_SHUT_SEND, NULL, 0);
	host_read_all(g, fd, buf, 8);
	assert_memory_equal(buf, "question", 8);
	assert_int_equal(host_read(g, fd, buf, 1), 0);
	say(fd, "answer");
	VG_UNTIL(g, c->got == 6);
	assert_memory_equal(c->last, "answer", 6);
	close(fd);
	VG_UNTIL(g, c->shut == VSOCK_SHUT_BOTH);
	vg_send(g, c, VSOCK_OP_RST, 0, NULL, 0);
	VG_UNTIL(g, conns(g) == 0);
}

static void vsock__host_half_closes__guest_answers(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	char buf[16];
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	say(fd, "question");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	VG_UNTIL(g, c->shut);
	assert_int_equal(c->got, 8);
	assert_int_equal(c->shut, VSOCK_SHUT_SEND);
	vg_send(g, c, VSOCK_OP_RW, 0, "answer", 6);
	host_read_all(g, fd, buf, 6);
	assert_memory_equal(buf, "answer", 6);
	vg_send(g, c, VSOCK_OP_SHUTDOWN, VSOCK_SHUT_BOTH, NULL, 0);
	assert_int_equal(host_read(g, fd, buf, 1), 0);
	VG_UNTIL(g, saw(c, VSOCK_OP_RST));
	assert_int_equal(conns(g), 0);
	close(fd);
}

static void vsock__guest_stops_receiving__host_gets_epipe(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	vg_send(g, c, VSOCK_OP_SHUTDOWN, VSOCK_SHUT_RCV, NULL, 0);
	VG_UNTIL(g, send(fd, "x", 1, MSG_NOSIGNAL) < 0);
	assert_int_equal(errno, EPIPE);
	uint32_t got = c->got;
	vg_settle(g);
	assert_int_equal(c->got, got);
	close(fd);
	VG_UNTIL(g, c->shut == VSOCK_SHUT_BOTH);
}

static void vsock__host_closes_with_bytes_in_flight__all_before_shutdown(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	c->hold = true;
	size_t total = write_until_full(g, fd);
	close(fd);
	vg_settle(g);
	assert_int_equal(c->shut, 0); /* not while bytes of the host wait for credit */
	c->hold = false;
	c->fwd = c->got;
	vg_send(g, c, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	VG_UNTIL(g, c->shut == VSOCK_SHUT_BOTH);
	assert_int_equal(c->got, total);
}

static void vsock__guest_closes_before_slow_reader__all_bytes_delivered(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	static uint8_t want[1 << 18], got[1 << 18];
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	pattern(want, sizeof(want), 7);
	for (size_t at = 0; at < sizeof(want); at += 65536) {
		vg_send(g, c, VSOCK_OP_RW, 0, want + at, 65536);
		vg_settle(g);
	}
	assert_true(buffered(g) > 0);
	vg_send(g, c, VSOCK_OP_SHUTDOWN, VSOCK_SHUT_BOTH, NULL, 0);
	VG_UNTIL(g, saw(c, VSOCK_OP_RST));
	assert_int_equal(conns(g), 1); /* its last bytes */
	host_read_all(g, fd, got, sizeof(got));
	assert_memory_equal(got, want, sizeof(want));
	assert_int_equal(host_read(g, fd, got, 1), 0);
	assert_int_equal(conns(g), 0);
	assert_int_equal(buffered(g), 0);
	close(fd);
}

static void vsock__guest_rst_mid_stream__host_reads_eof(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	char buf[8];
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	vg_send(g, c, VSOCK_OP_RW, 0, "some", 4);
	vg_send(g, c, VSOCK_OP_RST, 0, NULL, 0);
	host_read_all(g, fd, buf, 4);
	expect_closed(g, fd);
	assert_int_equal(conns(g), 0);
	uint64_t packets = g->packets;
	vg_settle(g);
	assert_int_equal(g->packets, packets); /* an RST is not answered */
}

static void vsock__host_gone_while_guest_sends__told_and_killed_in_time(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	for (unsigned i = 0; i < 4; i++)
		vg_send(g, c, VSOCK_OP_RW, 0, zeros, sizeof(zeros));
	vg_settle(g);
	close(fd); /* with unread bytes in it */
	VG_UNTIL(g, c->shut == VSOCK_SHUT_BOTH);
	assert_int_equal(buffered(g), 0);
	assert_false(saw(c, VSOCK_OP_RST));
	VG_UNTIL(g, saw(c, VSOCK_OP_RST)); /* we never said RST: the time-out does */
	assert_int_equal(conns(g), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(vsock__1024th_connection__refused, setup, teardown),
	cmocka_unit_test_setup_teardown(
		vsock__request_flood_without_rx_buffers__bounded_then_answered, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__slow_host_reader__guest_held_by_credit, setup,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__beyond_credit__rst, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__slow_guest__socket_not_read, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__no_rx_buffers__socket_not_read, setup_flags,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__bulk_beside_small__small_not_starved, setup,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__guest_half_closes__host_reads_eof_and_answers, setup,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__host_half_closes__guest_answers, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__guest_stops_receiving__host_gets_epipe, setup,
					teardown),
	cmocka_unit_test_setup_teardown(
		vsock__host_closes_with_bytes_in_flight__all_before_shutdown, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__guest_closes_before_slow_reader__all_bytes_delivered,
					setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__guest_rst_mid_stream__host_reads_eof, setup,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__host_gone_while_guest_sends__told_and_killed_in_time,
					setup_hasty, teardown),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
