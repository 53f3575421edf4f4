/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_host.h - the host's side of the vsock tests: fixtures, clients, listeners.  After cmocka.h. */
#ifndef SPORE_TESTS_VSOCK_HOST_H
#define SPORE_TESTS_VSOCK_HOST_H

#include "tests/unit/vsock_guest.h"

#define PORT 52u /* the guest listens here */

static inline int setup(void **state)
{
	struct vg *g = vg_create(0);
	g->auto_accept = PORT;
	vg_start(g, VG_FEATURES);
	*state = g;
	return 0;
}

/* Time-outs of 60 ms: for tests that wait for them. */
static inline int setup_hasty(void **state)
{
	struct vg *g = vg_create(60);
	g->auto_accept = PORT;
	vg_start(g, VG_FEATURES);
	*state = g;
	return 0;
}

static inline int teardown(void **state)
{
	vg_destroy(*state);
	return 0;
}

static inline int host_listener(const struct vg *g, uint32_t port)
{
	char path[128];
	snprintf(path, sizeof(path), "%s_%u", g->path, port);
	return vg_listener(path, 4096);
}

static inline unsigned conns(const struct vg *g)
{
	struct vsock_usage u;
	vsock_usage(g->dev, &u);
	return u.conns;
}

static inline uint64_t buffered(const struct vg *g)
{
	struct vsock_usage u;
	vsock_usage(g->dev, &u);
	return u.buffered;
}

/* Waits for `len` bytes at most; 0 = end of file. */
static inline ssize_t host_read(struct vg *g, int fd, void *buf, size_t len)
{
	ssize_t n = -1;
	VG_UNTIL(g, (n = read(fd, buf, len)) >= 0 || errno != EAGAIN);
	return n;
}

static inline void host_read_all(struct vg *g, int fd, void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = host_read(g, fd, (char *)buf + at, len - at);
		assert_true(n > 0);
		at += (size_t)n;
	}
}

static inline void say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static inline void expect_ok(struct vg *g, int fd, uint32_t port)
{
	char want[32], got[32] = "";
	snprintf(want, sizeof(want), "OK %u\n", port);
	host_read_all(g, fd, got, strlen(want));
	assert_string_equal(got, want);
}

/* A client that went through the greeting. */
static inline int host_open(struct vg *g, uint32_t expect_port, struct vg_conn **c)
{
	int fd = vg_client(g);
	say(fd, "CONNECT 52\n");
	expect_ok(g, fd, expect_port);
	*c = vg_find(g, PORT, expect_port);
	assert_non_null(*c);
	return fd;
}

static inline void expect_closed(struct vg *g, int fd)
{
	char byte;
	ssize_t n = host_read(g, fd, &byte, 1);
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
	close(fd);
}

static inline bool saw(const struct vg_conn *c, enum vsock_op op)
{
	return c->ops & (1u << op);
}

#endif
