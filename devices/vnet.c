/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net: one queue of buffers for frames that come in, one of frames that go out.
 *
 *   kick TX -> limiter -> pop, check the header, send from guest memory -> push      EAGAIN: unpop, poll
 *   fd ready -> limiter -> peek, pop buffers, copy header and frame -> push them all at once -> take
 *
 * A frame that finds no buffers stays with the backend until the driver kicks the receive queue.  A frame
 * that is no frame (too short, too long, an offload that was not negotiated) is dropped: only a ring that
 * cannot be read breaks the device.  No request outlives a turn, so quiesce has nothing to wait for but
 * polls and timers.  A dead backend takes the link down; the guest sees it.
 *
 * Thread: io; vnet_config_read() any.
 */
#include "devices/vnet.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/snap_net.h"

enum { QUEUE_RX, QUEUE_TX, QUEUES };

#define STATUS_LINK_UP 1u

/* Header flags and segment types, 5.1.6. */
enum { HDR_NEEDS_CSUM = 1, HDR_DATA_VALID = 2 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80 };

#define GUEST_OFFLOADS (NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6)

struct vnet_config {
	uint8_t mac[NET_MAC_LEN];
	uint16_t status, max_pairs, mtu;
};
_Static_assert(sizeof(struct vnet_config) == 12, "virtio 1.2, 5.1.4");

/* --- state -------------------------------------------------------------------------------------- */
/* One direction: it waits for its descriptor or for its limiter, never for both. */
struct vnet_way {
	struct vnet *net;
	struct limiter limit;
	struct loop_op poll;
	struct loop_timer due;
	struct loop_task again; /* the turn's share was used up */
};

struct vnet {
	struct dev dev;
	struct net_backend *backend; /* io */
	uint8_t mac[NET_MAC_LEN];    /* const but for a load */
	uint16_t mtu;                /* the same */
	bool link_up;                /* atomic */
	bool quiet;                  /* io: between quiesce and unquiesce */
	struct vnet_way way[QUEUES];
	struct iovec iov[NET_IOV_MAX + 1]; /* [0] is the backend's */
	struct vq_req tx;
	struct vq_req rx[VNET_CHAINS_MAX];
};

static struct vnet *vnet_of(const struct dev *dev)
{
	return container_of((struct dev *)(uintptr_t)dev, struct vnet, dev);
}

static bool vnet_has(const struct vnet *net, uint64_t feature)
{
	return net->dev.acked & feature;
}

static bool vnet_works(const struct vnet *net)
{
	return net->dev.active && !net->quiet;
}

static bool link_is_up(const struct vnet *net)
{
	return __atomic_load_n(&net->link_up, __ATOMIC_RELAXED);
}

static void link_set(struct vnet *net, bool up)
{
	if (link_is_up(net) == up)
		return;
	__atomic_store_n(&net->link_up, up, __ATOMIC_RELAXED);
	dev_config_changed(&net->dev);
}

static void link_lost(struct vnet *net, int err)
{
	dev_log(&net->dev, "link-down backend=%s error=\"%s\"", net->backend->ops->name,
		strerror(-err));
	link_set(net, false);
}

/* --- waiting ------------------------------------------------------------------------------------ */
static void way_wait(struct vnet_way *way, short events)
{
	const struct vnet *net = way->net;

	if (!way->poll.busy)
		loop_poll(net->dev.loop, &way->poll, net->backend->fd, events);
}

/* May a frame go this way now?  Else its time comes. */
static bool way_open(struct vnet_way *way)
{
	uint64_t now = clock_now();

	if (way->due.op.busy)
		return false;
	if (limiter_ready(&way->limit, now))
		return true;
	loop_timer(way->net->dev.loop, &way->due, limiter_due(&way->limit, now));
	return false;
}

/* --- out ---------------------------------------------------------------------------------------- */
/* Is the header one that the negotiated offloads allow?  Clears what they leave undefined. */
static bool tx_header_ok(const struct vnet *net, struct net_hdr *hdr)
{
	uint8_t gso = hdr->gso_type & (uint8_t)~GSO_ECN;

	hdr->num_buffers = 0;
	if (!vnet_has(net, NET_F_CSUM)) {
		memset(hdr, 0, sizeof(*hdr));
		return true;
	}
	if (hdr->flags & ~HDR_NEEDS_CSUM || hdr->gso_type & GSO_ECN)
		return false;
	if (gso == GSO_NONE)
		return true;
	return (gso == GSO_TCPV4 && vnet_has(net, NET_F_HOST_TSO4)) ||
	       (gso == GSO_TCPV6 && vnet_has(net, NET_F_HOST_TSO6));
}

/* Sends the popped frame.  Return: as net_ops.send; 0 also for what is no frame. */
static int tx_send(struct vnet *net, uint32_t *len)
{
	const struct vq *vq = &net->dev.queue[QUEUE_TX];
	struct net_tx tx = {.iov = net->iov + 1};
	uint64_t bytes = net->tx.readable_bytes;

	*len = 0;
	if (bytes < sizeof(tx.hdr) + NET_FRAME_MIN || bytes > sizeof(tx.hdr) + NET_FRAME_MAX)
		return 0;
	if (vq_read(vq, &net->tx, 0, &tx.hdr, sizeof(tx.hdr)) != sizeof(tx.hdr) ||
	    !tx_header_ok(net, &tx.hdr))
		return 0;
	tx.len = (uint32_t)(bytes - sizeof(tx.hdr));
	int count = vq_iov_readable(vq, &net->tx, sizeof(tx.hdr), tx.len, tx.iov, NET_IOV_MAX);
	if (count < 0)
		return 0;
	*len = tx.len;
	tx.count = (unsigned)count;
	return link_is_up(net) ? net_send(net->backend, &tx) : 0;
}

/* Takes one frame off the ring.  Return: true when there may be more. */
static bool tx_one(struct vnet *net, uint32_t *bytes)
{
	struct vnet_way *way = &net->way[QUEUE_TX];
	struct vq *vq = &net->dev.queue[QUEUE_TX];
	uint32_t len;

	int got = vq_pop(vq, &net->tx);
	if (got < 0)
		dev_break(&net->dev, "transmit queue: malformed ring or descriptor chain");
	if (got <= 0)
		return !got && vq_want_kicks(vq, true);
	int err = tx_send(net, &len);
	if (err == -EAGAIN) {
		vq_unpop(vq, &net->tx);
		way_wait(way, POLLOUT);
		return false;
	}
	if (err)
		link_lost(net, err);
	limiter_spend(&way->limit, len);
	*bytes += len;
	if (vq_push(vq, &net->tx, 0) == -EFAULT)
		dev_break(&net->dev, "transmit queue: the used ring left memory");
	return net->dev.active;
}

/* Is the backend done with what it was given?  Else it is polled, and the ring waits. */
static bool tx_flushed(struct vnet *net)
{
	int err = link_is_up(net) ? net_flush(net->backend) : 0;

	if (err == -EAGAIN)
		way_wait(&net->way[QUEUE_TX], POLLOUT);
	else if (err)
		link_lost(net, err);
	return err != -EAGAIN;
}

static void tx_serve(struct vnet *net)
{
	struct vnet_way *way = &net->way[QUEUE_TX];
	uint32_t bytes = 0;
	bool more = true;

	if (way->poll.busy || !tx_flushed(net))
		return;
	vq_want_kicks(&net->dev.queue[QUEUE_TX], false);
	for (unsigned n = 0; n < VNET_TURN_FRAMES && bytes < VNET_TURN_BYTES && more; n++)
		more = way_open(way) && tx_one(net, &bytes);
	if (tx_flushed(net) && more)
		loop_defer(net->dev.loop, &way->again);
	dev_signal(&net->dev, QUEUE_TX);
}

/* --- in ----------------------------------------------------------------------------------------- */
/* Takes buffers for `need` bytes.  Return: how many; 0 too few are there, none is taken; -EPROTO. */
static int rx_pop(struct vnet *net, uint64_t need)
{
	struct vq *vq = &net->dev.queue[QUEUE_RX];
	unsigned most = vnet_has(net, NET_F_MRG_RXBUF) ? VNET_CHAINS_MAX : 1;
	uint64_t room = 0;
	unsigned count = 0;
	int got = 1;

	while (room < need && count < most && (got = vq_pop(vq, &net->rx[count])) == 1)
		room += net->rx[count++].writable_bytes;
	if (got < 0)
		return got;
	if (room >= need || count == most)
		return (int)count; /* not enough room in them: the frame is dropped */
	while (count)
		vq_unpop(vq, &net->rx[--count]);
	return 0;
}

/* Copies header and frame into the buffers.  Fills what each holds.  Return: true when all found room. */
static bool rx_fill(struct vnet *net, const struct net_rx *frame, unsigned count,
		    uint32_t written[])
{
	const struct vq *vq = &net->dev.queue[QUEUE_RX];
	struct net_hdr hdr = frame->hdr;
	uint32_t done = 0;

	hdr.num_buffers = htole16((uint16_t)count);
	memset(written, 0, count * sizeof(written[0]));
	if (net->rx[0].writable_bytes < sizeof(hdr) ||
	    vq_write(vq, &net->rx[0], 0, &hdr, sizeof(hdr)) != sizeof(hdr))
		return false;
	for (unsigned i = 0; i < count; i++) {
		uint32_t skip = i ? 0 : sizeof(hdr);
		size_t put =
			vq_write(vq, &net->rx[i], skip, frame->frame + done, frame->len - done);
		done += (uint32_t)put;
		written[i] = skip + (uint32_t)put;
	}
	return done == frame->len;
}

/* What the backend says of a frame, cut to what the driver understands. */
static void rx_header(const struct vnet *net, struct net_hdr *hdr)
{
	if (!vnet_has(net, GUEST_OFFLOADS))
		memset(hdr, 0, sizeof(*hdr));
}

/* Brings one frame in.  Return: true when there may be more. */
static bool rx_one(struct vnet *net, uint32_t *bytes)
{
	struct vnet_way *way = &net->way[QUEUE_RX];
	struct vq *vq = &net->dev.queue[QUEUE_RX];
	uint32_t written[VNET_CHAINS_MAX];
	struct net_rx frame;

	int got = net_peek(net->backend, &frame);
	if (got < 0)
		link_lost(net, got);
	else if (!got)
		way_wait(way, POLLIN);
	if (got <= 0)
		return false;
	rx_header(net, &frame.hdr);
	int count = rx_pop(net, sizeof(frame.hdr) + (uint64_t)frame.len);
	if (count < 0)
		dev_break(&net->dev, "receive queue: malformed ring or descriptor chain");
	if (count <= 0)
		return !count && vq_want_kicks(vq, true);
	if (!rx_fill(net, &frame, (unsigned)count, written)) {
		/* Buffers too small for it: they go back untouched, and the frame is lost. */
		for (int i = count; i-- > 0;)
			vq_unpop(vq, &net->rx[i]);
	} else if (vq_push_all(vq, net->rx, written, (unsigned)count) == -EFAULT) {
		dev_break(&net->dev, "receive queue: the used ring left memory");
	}
	net_take(net->backend);
	limiter_spend(&way->limit, frame.len);
	*bytes += frame.len;
	return net->dev.active;
}

static void rx_serve(struct vnet *net)
{
	struct vnet_way *way = &net->way[QUEUE_RX];
	uint32_t bytes = 0;
	bool more = true;

	if (way->poll.busy || !link_is_up(net))
		return;
	vq_want_kicks(&net->dev.queue[QUEUE_RX], false);
	for (unsigned n = 0; n < VNET_TURN_FRAMES && bytes < VNET_TURN_BYTES && more; n++)
		more = way_open(way) && rx_one(net, &bytes);
	if (more)
		loop_defer(net->dev.loop, &way->again);
	dev_signal(&net->dev, QUEUE_RX);
}

/* --- turns -------------------------------------------------------------------------------------- */
static void way_serve(struct vnet_way *way)
{
	struct vnet *net = way->net;

	if (!vnet_works(net))
		return;
	if (way == &net->way[QUEUE_RX])
		rx_serve(net);
	else
		tx_serve(net);
}

static void way_polled(struct loop_op *op, int res)
{
	if (res != -ECANCELED)
		way_serve(container_of(op, struct vnet_way, poll));
}

static void way_due(struct loop_op *op, int res)
{
	if (res != -ECANCELED)
		way_serve(container_of(op, struct vnet_way, due.op));
}

static void way_again(struct loop_task *task)
{
	way_serve(container_of(task, struct vnet_way, again));
}

static void vnet_kick(struct dev *dev, unsigned queue)
{
	assert(queue < QUEUES);
	way_serve(&vnet_of(dev)->way[queue]);
}

static void vnet_activate(struct dev *dev)
{
	struct vnet *net = vnet_of(dev);

	int err = net->backend->ops->set_offload(net->backend, dev->acked & net->backend->features);
	if (err)
		link_lost(net, err);
	rx_serve(net);
}

static void vnet_config_read(const struct dev *dev, uint32_t off, void *buf, uint32_t len)
{
	const struct vnet *net = vnet_of(dev);
	struct vnet_config config = {.status = htole16(link_is_up(net) ? STATUS_LINK_UP : 0),
				     .max_pairs = htole16(1),
				     .mtu = htole16(net->mtu)};

	memcpy(config.mac, net->mac, sizeof(config.mac));
	if (off < sizeof(config))
		memcpy(buf, (const uint8_t *)&config + off,
		       len < sizeof(config) - off ? len : sizeof(config) - off);
}

/* --- host side ---------------------------------------------------------------------------------- */
static void way_stop(struct vnet_way *way)
{
	struct loop *loop = way->net->dev.loop;

	loop_cancel(loop, &way->poll);
	loop_cancel(loop, &way->due.op);
	while (way->poll.busy || way->due.op.busy || way->again.queued)
		VERIFY(loop_step(loop, LOOP_WAIT) == 0);
}

static void vnet_quiesce(struct dev *dev)
{
	struct vnet *net = vnet_of(dev);

	net->quiet = true;
	for (unsigned i = 0; i < QUEUES; i++)
		way_stop(&net->way[i]);
}

static void vnet_unquiesce(struct dev *dev)
{
	struct vnet *net = vnet_of(dev);

	net->quiet = false;
	for (unsigned i = 0; i < QUEUES; i++)
		way_serve(&net->way[i]);
}

static void vnet_reset(struct dev *dev)
{
	bool was = vnet_of(dev)->quiet;

	vnet_quiesce(dev);
	vnet_of(dev)->quiet = was;
}

int vnet_set_backend(struct dev *dev, struct net_backend *backend, struct errmsg *why)
{
	struct vnet *net = vnet_of(dev);
	uint64_t need = net->backend->features & dev->offered & ~backend->features;
	bool was = net->quiet;

	if (need)
		return err_set(why, ENOTSUP,
			       "device %s: backend %s lacks offloads that the guest was offered",
			       dev->id, backend->ops->name);
	if (!was)
		vnet_quiesce(dev);
	net_destroy(net->backend);
	net->backend = backend;
	backend->ops->set_offload(backend, dev->acked & backend->features);
	link_set(net, true);
	if (!was)
		vnet_unquiesce(dev);
	return 0;
}

int vnet_random_mac(uint8_t mac[NET_MAC_LEN])
{
	if (getrandom(mac, NET_MAC_LEN, 0) != (ssize_t)NET_MAC_LEN)
		return -EIO;
	mac[0] = (uint8_t)((mac[0] & ~1) | 2);
	return 0;
}

static void vnet_save(const struct dev *dev, struct snap_out *out, uint32_t instance)
{
	struct vnet *net = vnet_of(dev);
	struct snap_vnet *to = snap_put(out, SNAP_VNET, SNAP_VNET_VERSION, instance, sizeof(*to));

	if (!to)
		return;
	memcpy(to->mac, net->mac, sizeof(to->mac));
	to->mtu = net->mtu;
	limiter_save(&net->way[QUEUE_RX].limit, &to->rx, clock_now());
	limiter_save(&net->way[QUEUE_TX].limit, &to->tx, clock_now());
}

static bool mac_ok(const uint8_t mac[NET_MAC_LEN])
{
	static const uint8_t zero[NET_MAC_LEN];
	return !(mac[0] & 1) && memcmp(mac, zero, NET_MAC_LEN) != 0;
}

static bool mtu_ok(uint16_t mtu)
{
	return !mtu || mtu >= VNET_MTU_MIN;
}

/* The transport has loaded the features before. */
static int vnet_load(struct dev *dev, const struct snap_in *in, uint32_t instance,
		     struct errmsg *why)
{
	struct vnet *net = vnet_of(dev);
	struct snap_vnet from;

	int err = snap_take(in, SNAP_VNET, SNAP_VNET_VERSION, instance, &from, sizeof(from), why);
	if (err)
		return err;
	if (from.rsvd || !mac_ok(from.mac) || !mtu_ok(from.mtu))
		return err_set(why, EBADMSG, "device %s: no such MAC or MTU", dev->id);
	memcpy(net->mac, from.mac, sizeof(net->mac));
	net->mtu = from.mtu;
	limiter_load(&net->way[QUEUE_RX].limit, &from.rx, clock_now());
	limiter_load(&net->way[QUEUE_TX].limit, &from.tx, clock_now());
	net->quiet = true; /* until the machine goes on */
	err = net->backend->ops->set_offload(net->backend, dev->acked & net->backend->features);
	return err ? err_set(why, err, "device %s: offloads", dev->id) : 0;
}

static void vnet_destroy(struct dev *dev)
{
	net_destroy(vnet_of(dev)->backend);
	free(vnet_of(dev));
}

static void vnet_init(struct vnet *net, const struct vnet_cfg *cfg)
{
	const struct limiter_cfg *limits[QUEUES] = {&cfg->rx, &cfg->tx};

	net->dev.ops = &vnet_ops;
	net->dev.offered = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
			   NET_F_MAC | NET_F_STATUS | NET_F_MRG_RXBUF | cfg->backend->features |
			   (cfg->mtu ? NET_F_MTU : 0);
	strncpy(net->dev.id, cfg->id, sizeof(net->dev.id) - 1);
	memcpy(net->mac, cfg->mac, sizeof(net->mac));
	net->mtu = cfg->mtu;
	net->backend = cfg->backend;
	net->link_up = true;
	for (unsigned i = 0; i < QUEUES; i++) {
		struct vnet_way *way = &net->way[i];
		way->net = net;
		way->poll.done = way_polled;
		way->due.op.done = way_due;
		way->again.run = way_again;
		limiter_init(&way->limit, limits[i], clock_now());
	}
}

int vnet_create(struct dev **out, const struct vnet_cfg *cfg, struct errmsg *why)
{
	if (!mac_ok(cfg->mac))
		return err_set(why, 0, "interface %s: a MAC is neither zero nor a group's",
			       cfg->id);
	if (!mtu_ok(cfg->mtu))
		return err_set(why, 0, "interface %s: an MTU is %d or more", cfg->id, VNET_MTU_MIN);
	struct vnet *net = calloc(1, sizeof(*net));
	if (!net)
		return err_set(why, ENOMEM, "interface %s", cfg->id);
	vnet_init(net, cfg);
	*out = &net->dev;
	return 0;
}

/* --- table -------------------------------------------------------------------------------------- */
const struct dev_ops vnet_ops = {
	.name = "net",
	.snap_tag = SNAP_VNET,
	.virtio_id = 1,
	.queue_count = QUEUES,
	.queue_size = VNET_QUEUE_SIZE,
	.config_read = vnet_config_read,
	.activate = vnet_activate,
	.kick = vnet_kick,
	.reset = vnet_reset,
	.quiesce = vnet_quiesce,
	.unquiesce = vnet_unquiesce,
	.save = vnet_save,
	.load = vnet_load,
	.destroy = vnet_destroy,
};
