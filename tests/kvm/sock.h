/* SPDX-License-Identifier: Apache-2.0 */
/* sock.h - unix sockets of the hybrid vsock protocol for tests: all waiting is bounded by VM_LIMIT_MS. */
#ifndef SPORE_TESTS_SOCK_H
#define SPORE_TESTS_SOCK_H

#include <sys/socket.h>
#include <sys/un.h>

#include "tests/kvm/vm.h"

#define SOCK_PATTERN (256u * 1024)

static inline struct sockaddr_un sock_address(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	assert_true(strlen(path) < sizeof(to.sun_path));
	memcpy(to.sun_path, path, strlen(path));
	return to;
}

static inline int sock_listen(const char *path)
{
	struct sockaddr_un at = sock_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static inline void sock_wait(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	if (poll(&p, 1, VM_LIMIT_MS) != 1)
		fail_msg("nothing on a socket for %d ms", VM_LIMIT_MS);
}

static inline int sock_accept(int fd)
{
	sock_wait(fd, POLLIN);
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(conn >= 0);
	return conn;
}

/* "CONNECT port", and its "OK" taken.  Return: the connection, non-blocking. */
static inline int sock_connect(const char *path, unsigned port)
{
	struct sockaddr_un to = sock_address(path);
	char line[32];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	int len = snprintf(line, sizeof(line), "CONNECT %u\n", port);
	assert_int_equal(write(fd, line, (size_t)len), len);
	for (size_t n = 0;; n++) {
		assert_true(n < sizeof(line) - 1);
		sock_wait(fd, POLLIN);
		assert_int_equal(read(fd, line + n, 1), 1);
		if (line[n] == '\n')
			break;
	}
	assert_memory_equal(line, "OK ", 3);
	return fd;
}

/* Reads what is there, at most `len`.  Return: bytes; 0: nothing now; -1: the end. */
static inline ssize_t sock_take(int fd, void *to, size_t len)
{
	ssize_t n = read(fd, to, len);
	if (n < 0 && errno != EAGAIN)
		fail_msg("read from a socket: %s", strerror(errno));
	return n == 0 ? -1 : n < 0 ? 0 : n;
}

static inline size_t sock_give(int fd, const void *from, size_t len)
{
	ssize_t n = send(fd, from, len, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		fail_msg("write to a socket: %s", strerror(errno));
	return n < 0 ? 0 : (size_t)n;
}

/* The peer's end of its stream. */
static inline void sock_expect_end(int fd)
{
	char byte;
	sock_wait(fd, POLLIN);
	assert_int_equal(read(fd, &byte, 1), 0);
}

#endif
