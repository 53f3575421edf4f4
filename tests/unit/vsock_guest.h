/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_guest.h - a guest's vsock for tests: packets by hand over vdriver.h, real unix sockets behind
 *
 * One thread drives everything: the loop, the guest, and the host's ends of sockets (non-blocking).
 */
#ifndef SPORE_TESTS_VSOCK_GUEST_H
#define SPORE_TESTS_VSOCK_GUEST_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "devices/mmio.h"
#include "devices/vsock.h"
#include "tests/unit/vdriver.h"
#include "wire/vsock.h"

#define VG_CID      3u
#define VG_MEM      (32u << 20)
#define VG_RX_LEN   (44u + 4096u * 4)
#define VG_RX_COUNT 128u
#define VG_TX_LEN   (44u + 65536u)
#define VG_TX_COUNT 64u
#define VG_CONN_MAX 1100u
#define VG_READY    1025u
#define VG_FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)
#define VG_PATIENCE (20 * NS_PER_SEC) /* a bound against hangs, nothing else */

struct vg_conn {
	uint32_t guest_port, host_port;
	uint32_t ops;                        /* bit n: operation n was received */
	uint32_t shut;                       /* flags of the host's SHUTDOWNs */
	uint32_t peer_alloc, peer_fwd, sent; /* the device's credit */
	uint32_t alloc, got, fwd;            /* ours */
	bool hold;                           /* bytes are not consumed: no credit goes back */
	uint64_t hash;                       /* of the bytes received */
	uint8_t last[64];                    /* the first bytes received */
	bool echo;                           /* bytes go back */
	uint8_t *queue;                      /* echo: not yet sent back */
	uint32_t queue_len;
};

struct vg {
	struct vd vd;
	struct loop *loop;
	struct mmio *mmio;
	struct dev *dev;
	int irq_fd, listen_fd, ready_fd;
	char dir[64], path[96];
	bool hold_rx; /* used RX buffers are not made available again */
	uint32_t rx_len, rx_count;
	uint64_t events; /* buffers of the event queue that came back */
	uint32_t event_id;
	unsigned count;
	struct vg_conn conn[VG_CONN_MAX];
	struct vsock_hdr last; /* header of the last packet received */
	uint64_t packets, stray;
	uint32_t auto_accept; /* REQUESTs to this port get a RESPONSE */
};

static inline uint64_t vg_hash(uint64_t hash, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ data[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static inline uint64_t vg_rx_at(const struct vg *g, unsigned i)
{
	return g->vd.data + (uint64_t)i * 32768;
}

static inline uint64_t vg_tx_at(const struct vg *g, unsigned i)
{
	return g->vd.data + (uint64_t)VQ_SIZE_MAX * 32768 + (uint64_t)i * 131072;
}

static inline void vg_give_rx(struct vg *g, unsigned slot)
{
	struct vd_seg seg = {.at = vg_rx_at(g, slot), .len = g->rx_len, .writable = true};
	struct vd_queue *q = &g->vd.q[0];

	VERIFY(!q->taken[slot]);
	q->taken[slot] = true;
	q->chain_len[slot] = 1;
	vd_fill(&g->vd, q->desc, slot, &seg, -1);
	vd_publish(&g->vd, q, (uint16_t)slot);
}

static inline struct vg_conn *vg_find(struct vg *g, uint32_t guest_port, uint32_t host_port)
{
	for (unsigned i = 0; i < g->count; i++)
		if (g->conn[i].guest_port == guest_port && g->conn[i].host_port == host_port)
			return &g->conn[i];
	return NULL;
}

static inline struct vg_conn *vg_track(struct vg *g, uint32_t guest_port, uint32_t host_port)
{
	VERIFY(g->count < VG_CONN_MAX);
	struct vg_conn *c = &g->conn[g->count++];
	*c = (struct vg_conn){.guest_port = guest_port,
			      .host_port = host_port,
			      .alloc = 256 << 10,
			      .hash = UINT64_C(0xcbf29ce484222325)};
	return c;
}

/* A chain on the TX queue: header and payload apart.  `cut`: bytes of the header that are really there. */
static inline void vg_send_raw(struct vg *g, const struct vsock_hdr *hdr, uint32_t cut,
			       const void *data, uint32_t len)
{
	struct vd_queue *q = &g->vd.q[1];
	unsigned slot = 0;
	uint32_t id, used;

	for (;;) {
		while (vd_used(&g->vd, 1, &id, &used))
			VERIFY(used == 0);
		while (slot < VG_TX_COUNT && (q->taken[2 * slot] || q->taken[2 * slot + 1]))
			slot++;
		if (slot < VG_TX_COUNT)
			break;
		slot = 0;
		VERIFY(loop_step(g->loop, LOOP_POLL) == 0);
	}
	uint64_t at = vg_tx_at(g, slot);
	memcpy(vd_ptr(&g->vd, at, sizeof(*hdr)), hdr, sizeof(*hdr));
	if (len)
		memcpy(vd_ptr(&g->vd, at + 64, len), data, len);
	/* Heads by hand, so that a slot owns its two descriptors. */
	struct vd_seg seg[2] = {{.at = at, .len = cut}, {.at = at + 64, .len = len}};
	unsigned d = 2 * slot;
	q->taken[d] = true;
	q->chain_len[d] = len ? 2 : 1;
	if (len)
		q->taken[d + 1] = true;
	vd_fill(&g->vd, q->desc, d, &seg[0], len ? (int)d + 1 : -1);
	vd_fill(&g->vd, q->desc, d + 1, &seg[1], -1);
	vd_publish(&g->vd, q, (uint16_t)d);
	vd_kick(g->mmio, 1);
}

static inline struct vsock_hdr vg_hdr(const struct vg_conn *c, enum vsock_op op, uint32_t len)
{
	return (struct vsock_hdr){.src_cid = VG_CID,
				  .dst_cid = VSOCK_CID_HOST,
				  .src_port = c->guest_port,
				  .dst_port = c->host_port,
				  .len = len,
				  .type = VSOCK_TYPE_STREAM,
				  .op = (uint16_t)op,
				  .buf_alloc = c->alloc,
				  .fwd_cnt = c->fwd};
}

static inline void vg_send(struct vg *g, struct vg_conn *c, enum vsock_op op, uint32_t flags,
			   const void *data, uint32_t len)
{
	struct vsock_hdr hdr = vg_hdr(c, op, len);
	hdr.flags = flags;
	c->sent += len;
	vg_send_raw(g, &hdr, sizeof(hdr), data, len);
}

static inline uint32_t vg_credit(const struct vg_conn *c)
{
	uint32_t used = c->sent - c->peer_fwd;
	return c->peer_alloc > used ? c->peer_alloc - used : 0;
}

static inline void vg_rw(struct vg *g, struct vg_conn *c, const uint8_t *data, uint32_t len)
{
	if (!c->hold)
		c->fwd = c->got;
	if (c->got < sizeof(c->last))
		memcpy(c->last + c->got, data,
		       len < sizeof(c->last) - c->got ? len : sizeof(c->last) - c->got);
	c->hash = vg_hash(c->hash, data, len);
	c->got += len;
	VERIFY(c->got - c->fwd <= c->alloc); /* never beyond our credit */
	if (c->echo) {
		if (!c->queue)
			c->queue = malloc(c->alloc);
		VERIFY(c->queue_len + len <= c->alloc);
		memcpy(c->queue + c->queue_len, data, len);
		c->queue_len += len;
	} else if (!c->hold) {
		c->fwd = c->got;
		vg_send(g, c, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	}
}

static inline void vg_packet(struct vg *g, const uint8_t *bytes, uint32_t len)
{
	struct vsock_hdr hdr;
	VERIFY(len >= sizeof(hdr));
	memcpy(&hdr, bytes, sizeof(hdr));
	VERIFY(len == sizeof(hdr) + hdr.len);
	VERIFY(hdr.src_cid == VSOCK_CID_HOST && hdr.dst_cid == VG_CID);
	g->last = hdr;
	g->packets++;
	struct vg_conn *c = vg_find(g, hdr.dst_port, hdr.src_port);
	if (!c && hdr.op == VSOCK_OP_REQUEST)
		c = vg_track(g, hdr.dst_port, hdr.src_port);
	if (!c) {
		g->stray++;
		return;
	}
	c->ops |= 1u << hdr.op;
	c->peer_alloc = hdr.buf_alloc;
	c->peer_fwd = hdr.fwd_cnt;
	if (hdr.op == VSOCK_OP_SHUTDOWN)
		c->shut |= hdr.flags;
	if (hdr.op == VSOCK_OP_REQUEST && g->auto_accept && hdr.dst_port == g->auto_accept)
		vg_send(g, c, VSOCK_OP_RESPONSE, 0, NULL, 0);
	if (hdr.op == VSOCK_OP_RW)
		vg_rw(g, c, bytes + sizeof(hdr), hdr.len);
}

static inline void vg_flush_echo(struct vg *g, struct vg_conn *c)
{
	while (c->queue_len && vg_credit(c)) {
		uint32_t len = c->queue_len;
		if (len > vg_credit(c))
			len = vg_credit(c);
		if (len > 65536)
			len = 65536;
		c->fwd += len;
		vg_send(g, c, VSOCK_OP_RW, 0, c->queue, len);
		memmove(c->queue, c->queue + len, c->queue_len - len);
		c->queue_len -= len;
	}
}

/* One turn of device and guest. */
static inline void vg_step(struct vg *g)
{
	uint32_t id, len;
	bool gave = false;

	VERIFY(loop_step(g->loop, LOOP_POLL) == 0);
	while (vd_used(&g->vd, 0, &id, &len)) {
		if (len)
			vg_packet(g, vd_ptr(&g->vd, vg_rx_at(g, id), len), len);
		if (g->hold_rx)
			continue;
		vg_give_rx(g, id);
		gave = true;
	}
	if (gave)
		vd_kick(g->mmio, 0);
	while (vd_used(&g->vd, 1, &id, &len))
		VERIFY(len == 0);
	while (vd_used(&g->vd, 2, &id, &len)) {
		g->events++;
		memcpy(&g->event_id, vd_ptr(&g->vd, vg_rx_at(g, 200 + id), 4), 4);
	}
	for (unsigned i = 0; i < g->count; i++)
		if (g->conn[i].queue_len)
			vg_flush_echo(g, &g->conn[i]);
}

static inline void vg_settle(struct vg *g)
{
	for (unsigned i = 0; i < 30; i++)
		vg_step(g);
}

/* Steps until `cond`, or aborts the test after VG_PATIENCE. */
#define VG_UNTIL(g, cond)                                                                         \
	do {                                                                                      \
		uint64_t until_ = clock_now() + VG_PATIENCE;                                      \
		while (!(cond)) {                                                                 \
			if (clock_now() > until_) {                                               \
				fprintf(stderr, "%s:%d: never: %s\n", __FILE__, __LINE__, #cond); \
				abort();                                                          \
			}                                                                         \
			vg_step(g);                                                               \
		}                                                                                 \
	} while (0)

static inline void vg_give_event(struct vg *g, unsigned slot)
{
	struct vd_seg seg = {.at = vg_rx_at(g, 200 + slot), .len = 4, .writable = true};
	VERIFY(vd_add_direct(&g->vd, 2, &seg, 1) == slot);
}

static inline void vg_start(struct vg *g, uint64_t features)
{
	vd_start(&g->vd, g->mmio, features, 3, VQ_SIZE_MAX);
	for (unsigned i = 0; i < g->rx_count; i++)
		vg_give_rx(g, i);
	for (unsigned i = 0; i < 8; i++)
		vg_give_event(g, i);
	vd_kick(g->mmio, 0);
	vg_settle(g);
}

static inline int vg_listener(const char *path, int backlog)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	VERIFY(fd >= 0);
	VERIFY(strlen(path) < sizeof(addr.sun_path));
	memcpy(addr.sun_path, path, strlen(path) + 1);
	VERIFY(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	VERIFY(listen(fd, backlog) == 0);
	return fd;
}

static inline int vg_client(const struct vg *g)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	VERIFY(fd >= 0);
	memcpy(addr.sun_path, g->path, sizeof(g->path));
	VERIFY(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	return fd;
}

/* A device with a listening socket, no driver yet. */
static inline struct vg *vg_create(uint32_t timeout_ms)
{
	struct vg *g = calloc(1, sizeof(*g));
	struct errmsg why = {""};

	VERIFY(g);
	g->rx_len = VG_RX_LEN;
	g->rx_count = VG_RX_COUNT;
	vd_init(&g->vd, VG_MEM);
	snprintf(g->dir, sizeof(g->dir), "/tmp/vsock-test-XXXXXX");
	VERIFY(mkdtemp(g->dir));
	snprintf(g->path, sizeof(g->path), "%s/v", g->dir);
	g->listen_fd = vg_listener(g->path, 4096);
	g->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	VERIFY(loop_create(&g->loop, 256, &why) == 0);
	VERIFY(loop_step(g->loop, LOOP_POLL) == 0);
	struct vsock_cfg cfg = {.guest_cid = VG_CID,
				.listen_fd = g->listen_fd,
				.uds_path = g->path,
				.ready_fd = g->ready_fd,
				.ready_port = VG_READY,
				.timeout_ms = timeout_ms};
	VERIFY(vsock_create(&g->dev, &cfg, &why) == 0);
	VERIFY(mmio_create(&g->mmio, g->dev, &g->vd.gm, g->loop, g->irq_fd, &why) == 0);
	return g;
}

static inline void vg_destroy(struct vg *g)
{
	char cmd[96];

	loop_destroy(g->loop);
	mmio_destroy(g->mmio);
	close(g->listen_fd);
	close(g->irq_fd);
	close(g->ready_fd);
	vd_free(&g->vd);
	for (unsigned i = 0; i < g->count; i++)
		free(g->conn[i].queue);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", g->dir);
	VERIFY(system(cmd) == 0);
	free(g);
}

/* A connection that the guest opens to a listener of the host; *host is the accepted socket. */
static inline struct vg_conn *vg_open(struct vg *g, uint32_t guest_port, uint32_t host_port,
				      int listener, int *host)
{
	struct vg_conn *c = vg_track(g, guest_port, host_port);

	vg_send(g, c, VSOCK_OP_REQUEST, 0, NULL, 0);
	VG_UNTIL(g, c->ops & (1u << VSOCK_OP_RESPONSE));
	*host = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	VERIFY(*host >= 0);
	return c;
}

#endif
