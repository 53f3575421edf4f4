/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages over a real socket: bodies, many descriptors, and what is refused without a leak. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/ctlsock.h"

static int sock[2];
static struct ctl_msg msg;

static int setup(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sock);
}

static int teardown(void **state)
{
	(void)state;
	ctl_msg_clear(&msg);
	close(sock[0]);
	close(sock[1]);
	return 0;
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static ino_t inode(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static void ctl_msg__body_and_status__arrive(void **state)
{
	(void)state;
	const struct ctl_settle body = {.sequence = 7, .outcome = CTL_SETTLE_KEPT};

	assert_int_equal(ctl_msg_send(sock[0], CTL_SETTLE, 0, &body, sizeof(body), NULL, 0, NULL),
			 0);
	assert_int_equal(ctl_msg_recv(sock[1], &msg, NULL), 1);
	assert_int_equal(msg.head.type, CTL_SETTLE);
	assert_int_equal(msg.head.len, sizeof(body));
	assert_memory_equal(msg.body, &body, sizeof(body));
	ctl_msg_clear(&msg);
	assert_int_equal(ctl_msg_send(sock[1], CTL_LOAD, -EBADMSG, "no", 2, NULL, 0, NULL), 0);
	assert_int_equal(ctl_msg_recv(sock[0], &msg, NULL), 1);
	assert_int_equal(msg.head.status, -EBADMSG);
	assert_string_equal((const char *)msg.body, "no");
	assert_int_equal(ctl_msg_recv(sock[0], &msg, NULL), -EAGAIN);
	close(sock[1]);
	sock[1] = -1;
	assert_int_equal(ctl_msg_recv(sock[0], &msg, NULL), -EPIPE);
}

static void ctl_msg__more_descriptors_than_a_packet_holds__all_in_order(void **state)
{
	(void)state;
	enum { COUNT = 300 };
	int fd[COUNT];
	unsigned before = open_fds();

	for (unsigned i = 0; i < COUNT; i++)
		fd[i] = memfd_create("x", MFD_CLOEXEC);
	assert_int_equal(ctl_msg_send(sock[0], CTL_LOAD, 0, "body", 4, fd, COUNT, NULL), 0);
	assert_int_equal(ctl_msg_recv(sock[1], &msg, NULL), 0);
	assert_int_equal(ctl_msg_recv(sock[1], &msg, NULL), 0);
	assert_int_equal(ctl_msg_recv(sock[1], &msg, NULL), 1);
	assert_int_equal(msg.fd_count, COUNT);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(inode(msg.fd[i]), inode(fd[i]));
	assert_true(fcntl(msg.fd[0], F_GETFD) & FD_CLOEXEC);
	int taken = ctl_msg_take(&msg, 3);
	assert_int_equal(inode(taken), inode(fd[3]));
	assert_int_equal(ctl_msg_take(&msg, 3), -1);
	assert_int_equal(ctl_msg_take(&msg, COUNT), -1);
	close(taken);
	for (unsigned i = 0; i < COUNT; i++)
		close(fd[i]);
	ctl_msg_clear(&msg);
	assert_int_equal(open_fds(), before);
}

static void ctl_msg__against_the_protocol__refused_and_nothing_leaks(void **state)
{
	(void)state;
	const struct ctl_head good = {
		.magic = CTL_MAGIC, .version = CTL_VERSION, .type = CTL_PAUSE};
	struct ctl_head bad[8];
	unsigned before = open_fds();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		bad[i] = good;
	bad[0].magic = 1;
	bad[1].version = 2;
	bad[2].type = 0;
	bad[3].type = CTL_TYPES;
	bad[4].len = 1;
	bad[5].len = UINT32_MAX;
	bad[6].status = 1;
	bad[7].type = UINT16_MAX;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(send(sock[0], &bad[i], sizeof(bad[i]), 0), sizeof(bad[i]));
		assert_int_equal(ctl_msg_recv(sock[1], &msg, NULL), -EPROTO);
		ctl_msg_clear(&msg);
	}
	for (size_t len = 1; len < sizeof(good); len++) {
		assert_int_equal(send(sock[0], &good, len, 0), len);
		assert_int_equal(ctl_msg_recv(sock[1], &msg, NULL), -EPROTO);
		ctl_msg_clear(&msg);
	}
	char large[sizeof(good) + CTL_BODY_MAX + 1] = {0};
	memcpy(large, &good, sizeof(good));
	assert_int_equal(send(sock[0], large, sizeof(large), 0), sizeof(large));
	assert_int_equal(ctl_msg_recv(sock[1], &msg, NULL), -EPROTO);
	ctl_msg_clear(&msg);
	assert_int_equal(open_fds(), before);
}

static void ctl_msg__too_many_descriptors__refused_and_nothing_leaks(void **state)
{
	(void)state;
	int fd[CTL_FDS_PER_MESSAGE], got = 0;
	unsigned before = open_fds();

	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = sock[0];
	assert_int_equal(ctl_msg_send(sock[0], CTL_LOAD, 0, NULL, 0, fd, CTL_FDS_MAX + 1, NULL),
			 -E2BIG);
	for (unsigned i = 0; got == 0 && i < 100; i++) {
		struct ctl_head fds = {.magic = CTL_MAGIC, .version = CTL_VERSION, .type = CTL_FDS};
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(fd))];
		} ctl = {.align = {.cmsg_level = SOL_SOCKET,
				   .cmsg_type = SCM_RIGHTS,
				   .cmsg_len = CMSG_LEN(sizeof(fd))}};
		struct iovec iov = {&fds, sizeof(fds)};
		struct msghdr hdr = {.msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = ctl.bytes,
				     .msg_controllen = sizeof(ctl.bytes)};
		memcpy(CMSG_DATA(&ctl.align), fd, sizeof(fd));
		assert_true(sendmsg(sock[0], &hdr, 0) > 0);
		got = ctl_msg_recv(sock[1], &msg, NULL);
	}
	assert_int_equal(got, -E2BIG);
	ctl_msg_clear(&msg);
	assert_int_equal(open_fds(), before);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(ctl_msg__body_and_status__arrive),
		CASE(ctl_msg__more_descriptors_than_a_packet_holds__all_in_order),
		CASE(ctl_msg__against_the_protocol__refused_and_nothing_leaks),
		CASE(ctl_msg__too_many_descriptors__refused_and_nothing_leaks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
