/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock with a guest that has no driver but its own: both directions, the doorbell, refusals. */
#include <sys/eventfd.h>

#include "tests/kvm/sock.h"

struct place {
	char dir[64], uds[96], port[128];
};

static struct place place_create(void)
{
	struct place p = {.dir = "/tmp/spore-vsock-XXXXXX"};
	assert_non_null(mkdtemp(p.dir));
	snprintf(p.uds, sizeof(p.uds), "%s/v", p.dir);
	snprintf(p.port, sizeof(p.port), "%s_2000", p.uds);
	return p;
}

static void place_remove(const struct place *p)
{
	unlink(p->uds);
	unlink(p->port);
	rmdir(p->dir);
}

/* Gives the guest its bytes back until it ends the connection. */
static size_t echo_until_end(int fd)
{
	static uint8_t buf[65536];
	size_t total = 0;

	for (;;) {
		sock_wait(fd, POLLIN);
		ssize_t n = sock_take(fd, buf, sizeof(buf));
		if (n < 0)
			return total;
		for (size_t at = 0; at < (size_t)n;) {
			sock_wait(fd, POLLOUT);
			at += sock_give(fd, buf + at, (size_t)n - at);
		}
		total += (size_t)n;
	}
}

static uint8_t *pattern(uint64_t seed)
{
	uint64_t *words = malloc(SOCK_PATTERN);
	assert_non_null(words);
	for (size_t i = 0; i < SOCK_PATTERN / 8; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		words[i] = seed;
	}
	return (uint8_t *)words;
}

/* Sends in pieces of odd sizes and takes at the same time. */
static void send_and_compare(int fd, uint64_t seed)
{
	uint8_t *want = pattern(seed), *got = malloc(SOCK_PATTERN + 1);
	size_t given = 0, taken = 0;

	assert_non_null(got);
	while (taken < SOCK_PATTERN) {
		size_t piece = SOCK_PATTERN - given < 7777 ? SOCK_PATTERN - given : 7777;
		sock_wait(fd, piece ? POLLIN | POLLOUT : POLLIN);
		if (piece)
			given += sock_give(fd, want + given, piece);
		ssize_t n = sock_take(fd, got + taken, SOCK_PATTERN + 1 - taken);
		assert_true(n >= 0);
		taken += (size_t)n;
	}
	assert_int_equal(taken, SOCK_PATTERN);
	assert_memory_equal(got, want, SOCK_PATTERN);
	free(want);
	free(got);
}

static void vsock__both_directions__carry_a_pattern_unchanged(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	struct place p = place_create();
	int host = sock_listen(p.uds), port = sock_listen(p.port);
	int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct vmm_config cfg = vm_config(&vm, "vsock");
	struct vmm_timings times;
	uint64_t rung = 0;

	cfg.cmdline = "seed=20260731";
	cfg.has_vsock = true;
	cfg.vsock = (struct vmm_vsock){.guest_cid = 3,
				       .listen_fd = host,
				       .uds_path = p.uds,
				       .ready_fd = bell,
				       .ready_port = 7777};
	vm_start(&vm, &cfg);
	int conn = sock_accept(port);
	assert_int_equal(echo_until_end(conn), SOCK_PATTERN);
	close(conn);
	assert_int_equal(read(bell, &rung, sizeof(rung)), sizeof(rung));
	assert_int_equal(rung, 1);
	vmm_timings(vm.vmm, &times);
	assert_true(times.ready);
	vm_collect(&vm, strlen("listening\n"));
	conn = sock_connect(p.uds, 1024);
	send_and_compare(conn, 31);
	assert_int_equal(shutdown(conn, SHUT_RDWR), 0);
	vm_collect(&vm, 0);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_RESET); /* takes the last of the output */
	assert_string_equal(vm.text, "listening\ngood\n");
	close(conn);
	close(host);
	close(port);
	close(bell);
	place_remove(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vsock__both_directions__carry_a_pattern_unchanged),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
