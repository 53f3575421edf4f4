/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock against a guest driver by hand and real unix sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/vsock_host.h"

/* --- both ways ---------------------------------------------------------------------------------- */
#define ECHO_BYTES (20u << 20)

/* Random pieces in, the same bytes back: through `fd`, from a guest that echoes. */
static void echo_run(struct vg *g, int fd, uint64_t seed)
{
	uint8_t *out = malloc(1 << 17), *in = malloc(1 << 17);
	uint64_t rng = seed, hash_out = 1, hash_in = 1, sent = 0, got = 0;
	uint64_t give_up = clock_now() + 60 * NS_PER_SEC;

	assert_true(out && in);
	while (got < ECHO_BYTES) {
		assert_true(clock_now() < give_up);
		size_t len = 1 + vd_rand(&rng) % (1 << 17);
		if (len > ECHO_BYTES - sent)
			len = ECHO_BYTES - sent;
		for (size_t i = 0; i < len; i += 8) {
			uint64_t r = vd_rand(&rng);
			memcpy(out + i, &r, len - i < 8 ? len - i : 8);
		}
		ssize_t n = len ? write(fd, out, len) : 0;
		if (n > 0) {
			hash_out = vg_hash(hash_out, out, (size_t)n);
			sent += (uint64_t)n;
		}
		vg_step(g);
		n = read(fd, in, 1 + vd_rand(&rng) % (1 << 17));
		if (n > 0) {
			hash_in = vg_hash(hash_in, in, (size_t)n);
			got += (uint64_t)n;
		}
	}
	assert_int_equal(sent, got);
	assert_int_equal(hash_out, hash_in);
	free(out);
	free(in);
}

static void vsock__echo_host_initiated__same_bytes(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);

	c->echo = true;
	echo_run(g, fd, 0x5eed1);
	assert_int_equal(c->got, ECHO_BYTES);
	close(fd);
}

static void vsock__echo_guest_initiated__same_bytes(void **state)
{
	struct vg *g = *state;
	int listener = host_listener(g, 7000), fd;
	struct vg_conn *c = vg_open(g, 40000, 7000, listener, &fd);

	c->echo = true;
	echo_run(g, fd, 0x5eed2);
	close(fd);
	close(listener);
}

/* --- the line ----------------------------------------------------------------------------------- */
static void vsock__line_in_pieces__accepted(void **state)
{
	struct vg *g = *state;
	const char *line = "cOnNeCt 52\n";
	int fd = vg_client(g);

	for (const char *p = line; *p; p++) {
		assert_int_equal(write(fd, p, 1), 1);
		vg_settle(g);
	}
	expect_ok(g, fd, VSOCK_HOST_PORT);
	close(fd);
}

static void vsock__bytes_behind_line__belong_to_stream(void **state)
{
	struct vg *g = *state;
	int fd = vg_client(g);

	say(fd, "CONNECT 52\nfirst bytes that are longer than the line may be");
	expect_ok(g, fd, VSOCK_HOST_PORT);
	struct vg_conn *c = vg_find(g, PORT, VSOCK_HOST_PORT);
	VG_UNTIL(g, c->got == 48);
	assert_memory_equal(c->last, "first bytes that are longer than the line may be", 48);
	close(fd);
}

static void vsock__bad_lines__closed_silently(void **state)
{
	struct vg *g = *state;
	static const char *const bad[] = {
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT  \n",
		"CONNECT -1\n",
		"CONNECT 4294967296\n",
		"CONNECT 99999999999999999999\n",
		"CONNECT 52 53\n",
		"CONNECT 52x\n",
		"CONNEXION 52\n",
		"GET / HTTP/1.0\r\n",
		"CONNECT 52                       \n",
		"\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int fd = vg_client(g);
		say(fd, bad[i]);
		expect_closed(g, fd);
	}
	assert_int_equal(g->count, 0); /* the guest heard of none */
	assert_int_equal(conns(g), 0);
}

static void vsock__refused_by_guest__closed_silently(void **state)
{
	struct vg *g = *state;
	int fd = vg_client(g);

	say(fd, "CONNECT 99\n");
	VG_UNTIL(g, g->count == 1);
	vg_send(g, &g->conn[0], VSOCK_OP_RST, 0, NULL, 0);
	expect_closed(g, fd);
	assert_int_equal(conns(g), 0);
}

static void vsock__guest_never_answers__reset_and_closed(void **state)
{
	struct vg *g = *state;
	int fd = vg_client(g);

	say(fd, "CONNECT 99\n");
	expect_closed(g, fd);
	VG_UNTIL(g, saw(&g->conn[0], VSOCK_OP_RST));
	assert_int_equal(conns(g), 0);
}

static void vsock__client_without_line__closed_in_time(void **state)
{
	struct vg *g = *state;
	int fd[VSOCK_HELLO_MAX + 8];

	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = vg_client(g);
	vg_settle(g);
	assert_true(conns(g) <= VSOCK_HELLO_MAX);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		expect_closed(g, fd[i]);
	assert_int_equal(conns(g), 0);
}

/* --- the guest's connections -------------------------------------------------------------------- */
static void vsock__no_listener__rst(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c = vg_track(g, 40000, 7001);

	vg_send(g, c, VSOCK_OP_REQUEST, 0, NULL, 0);
	VG_UNTIL(g, saw(c, VSOCK_OP_RST));
	assert_false(saw(c, VSOCK_OP_RESPONSE));
	assert_int_equal(conns(g), 0);
}

static void vsock__doorbell__rung_once_and_reset(void **state)
{
	struct vg *g = *state;
	uint64_t rings = 0;

	for (uint32_t i = 0; i < 3; i++) {
		struct vg_conn *c = vg_track(g, 40000 + i, VG_READY);
		vg_send(g, c, VSOCK_OP_REQUEST, 0, NULL, 0);
		VG_UNTIL(g, saw(c, VSOCK_OP_RST));
	}
	assert_int_equal(read(g->ready_fd, &rings, sizeof(rings)), sizeof(rings));
	assert_int_equal(rings, 1);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(vsock__echo_host_initiated__same_bytes, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__echo_guest_initiated__same_bytes, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__line_in_pieces__accepted, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__bytes_behind_line__belong_to_stream, setup,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__bad_lines__closed_silently, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__refused_by_guest__closed_silently, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__guest_never_answers__reset_and_closed, setup_hasty,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__client_without_line__closed_in_time, setup_hasty,
					teardown),
	cmocka_unit_test_setup_teardown(vsock__no_listener__rst, setup, teardown),
	cmocka_unit_test_setup_teardown(vsock__doorbell__rung_once_and_reset, setup, teardown),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
