/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: a program of bytes drives the guest's rings and the host's sockets at once.
 *
 * Each step is one byte of operation and a few of arguments; ports and identifiers come from small sets,
 * so that packets meet connections.  After each input the driver resets: nothing may be left.
 */
#include <signal.h>
#include <stdio.h>

#include "base/bytes.h"
#include "devices/vsock_priv.h"
#include "tests/unit/vsock_guest.h"

#define SOCKETS 8

static struct vg *g;
static int client[SOCKETS], listener = -1;
static bool torn; /* the rings were scribbled on: the driver cannot read them either */

static void cleanup(void)
{
	char path[128];
	snprintf(path, sizeof(path), "%s_7000", g->path);
	unlink(path);
	unlink(g->path);
	rmdir(g->dir);
}

static void init(void)
{
	char path[128];

	g = vg_create(3);
	snprintf(path, sizeof(path), "%s_7000", g->path);
	listener = vg_listener(path, 64);
	for (unsigned i = 0; i < SOCKETS; i++)
		client[i] = -1;
	atexit(cleanup);
}

static void step(unsigned count)
{
	uint32_t id, len;

	for (unsigned i = 0; i < count; i++)
		VERIFY(loop_step(g->loop, LOOP_POLL) == 0);
	/* Completed heads are free again. */
	for (unsigned q = 0; q < 3; q++)
		while (!torn && vd_used(&g->vd, q, &id, &len))
			;
}

static void op_rx(struct bytes_in *in)
{
	unsigned n = bytes_u8(in) % 16;
	uint32_t len = bytes_u16(in);

	for (; n && vd_free_count(&g->vd.q[0]) > 2; n--) {
		struct vd_seg seg[2] = {{.at = vg_rx_at(g, n), .len = 44, .writable = true},
					{.at = vg_rx_at(g, n) + 64, .len = len, .writable = true}};
		vd_add_direct(&g->vd, 0, seg, 2);
	}
	vd_kick(g->mmio, 0);
}

static uint32_t pick_port(uint8_t which)
{
	static const uint32_t port[] = {52, 53, 7000, 7001, VG_READY, 600, 601, 602};
	return which < 128 ? port[which % 8] : VSOCK_HOST_PORT + which % 16;
}

static void op_packet(struct bytes_in *in)
{
	uint8_t kind = bytes_u8(in), wild = bytes_u8(in);
	struct vsock_hdr hdr = {.src_cid = wild == 1 ? 9 : VG_CID,
				.dst_cid = wild == 2 ? 9 : VSOCK_CID_HOST,
				.src_port = pick_port(bytes_u8(in)),
				.dst_port = pick_port(bytes_u8(in)),
				.type = wild == 3 ? 2 : VSOCK_TYPE_STREAM,
				.op = kind & 15,
				.flags = kind >> 4,
				.buf_alloc = (uint32_t)bytes_u16(in) << 4,
				.fwd_cnt = bytes_u16(in)};
	uint32_t len = bytes_u16(in);
	uint64_t at = vg_tx_at(g, wild % 64);
	struct vd_seg seg[2] = {{.at = at, .len = wild == 4 ? len % 44 + 1 : 44},
				{.at = at + 64, .len = len}};

	hdr.len = wild == 5 ? len + 1 : wild == 6 ? UINT32_MAX : len;
	if (vd_free_count(&g->vd.q[1]) < 2)
		return;
	memcpy(vd_ptr(&g->vd, at, sizeof(hdr)), &hdr, sizeof(hdr));
	vd_add_direct(&g->vd, 1, seg, len ? 2 : 1);
	vd_kick(g->mmio, 1);
}

static void op_client(struct bytes_in *in)
{
	static uint8_t buf[65536];
	uint8_t arg = bytes_u8(in);
	int *fd = &client[arg % SOCKETS];
	ssize_t n = 0;

	switch (arg / SOCKETS % 8) {
	case 0:
	case 1:
		if (*fd < 0)
			*fd = vg_client(g);
		n = write(*fd, "CONNECT 52\nabc", arg & 64 ? 14 : 11);
		break;
	case 2: /* words of the fuzzer's own */
		if (*fd < 0)
			*fd = vg_client(g);
		size_t len = in->left < 40 ? in->left : 40;
		n = write(*fd, in->at, len);
		break;
	case 3: n = *fd >= 0 ? write(*fd, buf, bytes_u16(in)) : 0; break;
	case 4: n = *fd >= 0 ? read(*fd, buf, bytes_u16(in)) : 0; break;
	case 5: n = *fd >= 0 ? shutdown(*fd, arg & 64 ? SHUT_WR : SHUT_RD) : 0; break;
	case 6:
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		break;
	default:
		if (*fd < 0)
			*fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	}
	(void)n;
}

/* A word anywhere in a ring of some queue. */
static void op_ring(struct bytes_in *in)
{
	const struct vd_queue *q = &g->vd.q[bytes_u8(in) % 3];
	uint64_t off = bytes_u16(in) & 0x1ffe;

	torn = true;
	*vd_u16(&g->vd, q->desc + off * 2) = bytes_u16(in);
	vd_kick(g->mmio, 0);
	vd_kick(g->mmio, 1);
	vd_kick(g->mmio, 2);
}

static void op_life(uint8_t arg)
{
	switch (arg % 8) {
	case 0: vsock_transport_reset(g->dev); break;
	case 1:
		mmio_quiesce(g->mmio);
		step(2);
		mmio_unquiesce(g->mmio);
		break;
	case 2:
		torn = false;
		vd_w32(g->mmio, 0x70, 0);
		vd_start(&g->vd, g->mmio, arg & 8 ? VG_FEATURES : VIRTIO_F_VERSION_1, 3,
			 VQ_SIZE_MAX);
		break;
	case 3:
		for (unsigned i = 0; i < 3 && vd_free_count(&g->vd.q[2]); i++)
			vd_add_direct(&g->vd, 2,
				      &(struct vd_seg){
					      .at = vg_rx_at(g, 200), .len = 4, .writable = true},
				      1);
		vd_kick(g->mmio, 2);
		break;
	case 4: poll(NULL, 0, 4); break; /* deadlines pass */
	default: step(arg >> 3); break;
	}
}

static void finish(void)
{
	struct vsock_usage usage;
	struct pollfd waiting = {.fd = g->listen_fd, .events = POLLIN};

	vd_w32(g->mmio, 0x70, 0);
	for (unsigned i = 0; i < SOCKETS; i++) {
		if (client[i] >= 0)
			close(client[i]);
		client[i] = -1;
	}
	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
		close(fd);
	uint64_t until = clock_now() + 5 * NS_PER_SEC;
	do {
		VERIFY(loop_step(g->loop, LOOP_POLL) == 0);
		vsock_usage(g->dev, &usage);
		VERIFY(clock_now() < until);
	} while (usage.conns || poll(&waiting, 1, 0) > 0);
	VERIFY(usage.buffered == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes_in in = bytes_in(data, size);

	if (!g) {
		signal(SIGPIPE, SIG_IGN); /* the clients' own writes */
		init();
	}
	torn = false;
	vsock_of(g->dev)->next_port = VSOCK_HOST_PORT; /* so that ports can be guessed */
	vd_start(&g->vd, g->mmio, VG_FEATURES, 3, VQ_SIZE_MAX);
	for (unsigned n = 0; in.left && n < 400; n++) {
		switch (bytes_u8(&in) % 8) {
		case 0: op_rx(&in); break;
		case 1:
		case 2:
		case 3: op_packet(&in); break;
		case 4:
		case 5: op_client(&in); break;
		case 6: op_life(bytes_u8(&in)); break;
		default: op_ring(&in); break;
		}
		if (n % 4 == 3)
			step(1);
	}
	step(3);
	finish();
	return 0;
}
