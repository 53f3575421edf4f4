/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net with a guest that has no driver but its own; the test is what passt would be. */
#include <sys/socket.h>

#include "tests/kvm/sock.h"
#include "tests/kvm/vm.h"

static void give_all(int fd, const uint8_t *from, size_t len)
{
	for (size_t at = 0; at < len;) {
		sock_wait(fd, POLLOUT);
		at += sock_give(fd, from + at, len - at);
	}
}

static void take_all(int fd, uint8_t *to, size_t len)
{
	for (size_t at = 0; at < len;) {
		sock_wait(fd, POLLIN);
		ssize_t n = sock_take(fd, to + at, len - at);
		assert_true(n > 0);
		at += (size_t)n;
	}
}

static uint32_t take_frame(int fd, uint8_t *to, size_t cap)
{
	uint8_t head[4];

	take_all(fd, head, 4);
	uint32_t len = (uint32_t)head[2] << 8 | head[3];
	assert_int_equal(head[0] | head[1], 0);
	assert_true(len <= cap);
	take_all(fd, to, len);
	return len;
}

static void echo(int fd, uint32_t len, uint8_t first)
{
	static uint8_t out[4 + 9000], in[9000];

	out[2] = (uint8_t)(len >> 8);
	out[3] = (uint8_t)len;
	for (uint32_t i = 0; i < len; i++)
		out[4 + i] = (uint8_t)(first + i * 3);
	give_all(fd, out, 4 + len);
	assert_int_equal(take_frame(fd, in, sizeof(in)), len);
	assert_memory_equal(in, out + 4, len);
}

static void net__frames_of_all_sizes__come_back(void **state)
{
	struct vm vm;
	struct vmm_error text;
	struct vmm_config cfg = vm_config(&vm, "net");
	uint8_t frame[100];
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
	cfg.net[0] = (struct vmm_net){
		.id = "eth0", .kind = VMM_NET_STREAM, .fd = pair[0], .mac = {2, 0, 0, 1, 2, 3}};
	cfg.net_count = 1;
	vm_start(&vm, &cfg);
	close(pair[0]);
	assert_int_equal(take_frame(pair[1], frame, sizeof(frame)), 60);
	assert_int_equal(frame[59], 59);
	echo(pair[1], 14, 1);
	echo(pair[1], 1514, 2);
	echo(pair[1], 1515, 3);
	/* A pause between two frames changes nothing. */
	assert_int_equal(vmm_pause(vm.vmm, &text), 0);
	assert_int_equal(vmm_resume(vm.vmm, &text), 0);
	echo(pair[1], 4000, 4);
	echo(pair[1], 100, 'Q');
	vm_collect(&vm, 0);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_RESET);
	assert_string_equal(vm.text, "good\n");
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(net__frames_of_all_sizes__come_back),
	};

	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
