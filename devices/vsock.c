/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: the device as the transport sees it.  The parts are drawn in vsock_priv.h.
 *
 * Idle, the device holds one poll of its listening socket and one of each connection's socket, and no
 * buffer at all.
 *
 * Thread: io, but for create, destroy and config_read.
 */
#include "devices/vsock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/vsock_priv.h"
#include "wire/snap_dev.h"

static_assert(DEV_QUEUE_MAX > VSOCK_EVQ, "three queues");
static_assert(VSOCK_RST_HIGH + VSOCK_CONN_MAX < VSOCK_RST_MAX,
	      "every connection may end in an RST");

/* --- transfers ---------------------------------------------------------------------------------- */
struct vsock_xfer *vsock_xfer_get(struct vsock *vs)
{
	struct vsock_xfer *x = vs->xfers;

	if (vs->xfers_busy == VSOCK_XFER_MAX)
		return NULL;
	if (x) {
		vs->xfers = x->next;
		vs->xfers_idle--;
	} else {
		x = malloc(sizeof(*x));
		if (!x && !vs->xfers_busy)
			vsock_again(vs); /* nothing in flight would resume us */
	}
	vs->xfers_busy += x != NULL;
	return x;
}

void vsock_xfer_put(struct vsock *vs, struct vsock_xfer *x)
{
	vs->xfers_busy--;
	if (vs->xfers_idle == VSOCK_XFER_KEEP) {
		free(x);
		return;
	}
	x->next = vs->xfers;
	vs->xfers = x;
	vs->xfers_idle++;
}

/* --- turns -------------------------------------------------------------------------------------- */
void vsock_again(struct vsock *vs)
{
	if (!vs->again.op.busy)
		loop_timer(vs->dev.loop, &vs->again, 0);
}

void vsock_resume(struct vsock *vs)
{
	if (vs->tx_stalled)
		vsock_tx_run(vs);
	vsock_rx_pump(vs);
}

void vsock_fault(struct vsock *vs, const char *why)
{
	dev_break(&vs->dev, why);
	vsock_again(vs);
}

static void vsock_again_done(struct loop_op *op, int res)
{
	struct vsock *vs = container_of(op, struct vsock, again.op);

	(void)res;
	if (__atomic_load_n(&vs->dev.broken, __ATOMIC_ACQUIRE) && !vs->dev.active)
		conn_kill_all(vs);
	vsock_resume(vs);
}

/* --- the transport reset event ------------------------------------------------------------------ */
/* Asks to be kicked for what the driver adds from now on.  True when it has already added something. */
static bool event_watch(struct vsock *vs)
{
	struct vq later = vs->dev.queue[VSOCK_EVQ];

	later.next_avail = vs->gate_idx; /* buffers that wait already say nothing */
	return vq_want_kicks(&later, true);
}

static void event_send(struct vsock *vs)
{
	struct vq *vq = &vs->dev.queue[VSOCK_EVQ];
	uint32_t id = VSOCK_EVENT_TRANSPORT_RESET;
	struct vq_req req;
	int got = vq_pop(vq, &req);

	if (!got && vq_want_kicks(vq, true))
		got = vq_pop(vq, &req);
	if (!got)
		return;
	if (got < 0 || vq_write(vq, &req, 0, &id, sizeof(id)) < sizeof(id) ||
	    gm_load16(vq->gm, gpa_add(vq->avail, 2), &vs->gate_idx) ||
	    vq_push(vq, &req, sizeof(id))) {
		vsock_fault(vs, "vsock event queue: malformed ring or buffer");
		return;
	}
	vs->event_owed = false;
	vs->event_gate = true;
	dev_signal(&vs->dev, VSOCK_EVQ);
}

static void event_run(struct vsock *vs)
{
	if (!vsock_live(vs))
		return;
	if (vs->event_owed)
		event_send(vs);
	if (vs->event_gate && event_watch(vs))
		vs->event_gate = false;
}

void vsock_transport_reset(struct dev *dev)
{
	struct vsock *vs = vsock_of(dev);

	conn_kill_all(vs);
	vs->rst_count = 0;
	vs->event_owed = true;
	vs->event_gate = false;
	event_run(vs);
}

/* --- driver's session --------------------------------------------------------------------------- */
static void vsock_kick(struct dev *dev, unsigned queue)
{
	struct vsock *vs = vsock_of(dev);

	if (queue == VSOCK_TXQ)
		vsock_tx_run(vs);
	if (queue == VSOCK_EVQ)
		event_run(vs);
	vsock_rx_pump(vs);
}

static void vsock_start(struct vsock *vs)
{
	event_run(vs);
	vsock_accept_next(vs);
	vsock_tx_run(vs);
	vsock_rx_pump(vs);
}

static void vsock_activate(struct dev *dev)
{
	vq_want_kicks(&dev->queue[VSOCK_RXQ], false);
	vsock_start(vsock_of(dev));
}

/* Requests that carry buffers end at once: the sockets are non-blocking. */
static void vsock_drain(struct vsock *vs)
{
	while (vs->in_flight)
		VERIFY(loop_step(vs->dev.loop, LOOP_WAIT) == 0);
}

/* Looks at everything that completions could not move on while quiet. */
static void vsock_wake(struct vsock *vs)
{
	conn_advance_all(vs);
	if (!vs->timer.op.busy)
		vsock_timer_done(&vs->timer.op, 0);
	vs->rx_starved = false; /* look at the ring first */
	vsock_start(vs);
}

static void vsock_reset(struct dev *dev)
{
	struct vsock *vs = vsock_of(dev);
	bool quiet = vs->quiet;

	vs->quiet = true;
	conn_kill_all(vs);
	vsock_drain(vs);
	vs->quiet = quiet;
	vs->rst_count = 0;
	vs->tx_stalled = false;
	vs->event_owed = false;
	vs->event_gate = false;
	if (!quiet)
		vsock_wake(vs); /* a client may have come while it drained */
}

/* Polls and timers stay in flight; until unquiesce their callbacks only note what they were told. */
static void vsock_quiesce(struct dev *dev)
{
	vsock_of(dev)->quiet = true;
	vsock_drain(vsock_of(dev));
}

static void vsock_unquiesce(struct dev *dev)
{
	struct vsock *vs = vsock_of(dev);

	vs->quiet = false;
	vsock_wake(vs);
}

static void vsock_config_read(const struct dev *dev, uint32_t off, void *buf, uint32_t len)
{
	uint8_t config[8];

	le64_store(config, vsock_of_const(dev)->guest_cid);
	memset(buf, 0, len);
	if (off < sizeof(config))
		memcpy(buf, config + off, len < sizeof(config) - off ? len : sizeof(config) - off);
}

/* --- host side ---------------------------------------------------------------------------------- */
/* The loop no longer runs: what it still holds never completes. */
static void vsock_destroy(struct dev *dev)
{
	struct vsock *vs = vsock_of(dev);

	while (!link_empty(&vs->all)) {
		struct conn *conn = container_of(vs->all.next, struct conn, all);
		link_del(&conn->all);
		if (conn->fd >= 0)
			close(conn->fd);
		free(conn->rx);
		free(conn->tx);
		free(conn->buf);
		free(conn);
	}
	while (vs->xfers) {
		struct vsock_xfer *x = vs->xfers;
		vs->xfers = x->next;
		free(x);
	}
	if (vs->listen_fd >= 0)
		close(vs->listen_fd);
	if (vs->ready_fd >= 0)
		close(vs->ready_fd);
	free(vs);
}

static int path_check(const char *uds_path, struct errmsg *why)
{
	if (uds_path && strlen(uds_path) >= VSOCK_PATH_MAX)
		return err_set(why, ENAMETOOLONG, "vsock: path %s is longer than %d bytes",
			       uds_path, VSOCK_PATH_MAX - 1);
	return 0;
}

static int cfg_check(const struct vsock_cfg *cfg, struct errmsg *why)
{
	if (cfg->guest_cid < VSOCK_CID_MIN || cfg->guest_cid >= UINT32_MAX)
		return err_set(why, EINVAL, "vsock: guest CID %llu is not in 3..4294967294",
			       (unsigned long long)cfg->guest_cid);
	return path_check(cfg->uds_path, why);
}

static int vsock_dup(int *out, int fd, const char *what, struct errmsg *why)
{
	*out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && *out < 0)
		return err_set(why, errno, "vsock: duplicate the %s fd %d", what, fd);
	return 0;
}

static void vsock_init(struct vsock *vs, const struct vsock_cfg *cfg)
{
	vs->dev.ops = &vsock_ops;
	vs->dev.offered = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	memcpy(vs->dev.id, "vsock", sizeof("vsock"));
	vs->guest_cid = cfg->guest_cid;
	vs->listen_fd = vs->ready_fd = -1;
	vs->ready_port = cfg->ready_port;
	vs->on_ready = cfg->ready;
	vs->on_ready_ctx = cfg->ready_ctx;
	vs->timeout_ns = (cfg->timeout_ms ? cfg->timeout_ms : VSOCK_TIMEOUT_MS) * UINT64_C(1000000);
	if (cfg->uds_path)
		strncpy(vs->uds_path, cfg->uds_path, sizeof(vs->uds_path) - 1);
	vs->next_port = VSOCK_HOST_PORT;
	link_init(&vs->all);
	link_init(&vs->ready);
	link_init(&vs->timed);
	vs->accept.done = vsock_accept_done;
	vs->timer.op.done = vsock_timer_done;
	vs->again.op.done = vsock_again_done;
	vs->retry.op.done = vsock_retry_done;
}

int vsock_create(struct dev **out, const struct vsock_cfg *cfg, struct errmsg *why)
{
	int err = cfg_check(cfg, why);
	if (err)
		return err;
	struct vsock *vs = calloc(1, sizeof(*vs));
	if (!vs)
		return err_set(why, ENOMEM, "vsock");
	vsock_init(vs, cfg);
	err = vsock_dup(&vs->listen_fd, cfg->listen_fd, "listening", why);
	if (!err)
		err = vsock_dup(&vs->ready_fd, cfg->ready_fd, "ready", why);
	if (err) {
		vsock_destroy(&vs->dev);
		return err;
	}
	*out = &vs->dev;
	return 0;
}

static void vsock_accept_none(struct vsock *vs)
{
	bool quiet = vs->quiet;

	vs->quiet = true; /* nothing is accepted meanwhile */
	loop_cancel(vs->dev.loop, &vs->accept);
	while (vs->accept.busy)
		VERIFY(loop_step(vs->dev.loop, LOOP_WAIT) == 0);
	vs->quiet = quiet;
}

int vsock_set_host(struct dev *dev, int listen_fd, const char *uds_path, struct errmsg *why)
{
	struct vsock *vs = vsock_of(dev);

	int err = path_check(uds_path, why);
	if (err)
		return err;
	vsock_accept_none(vs);
	if (vs->listen_fd >= 0)
		close(vs->listen_fd);
	vs->listen_fd = listen_fd;
	memset(vs->uds_path, 0, sizeof(vs->uds_path));
	if (uds_path)
		strncpy(vs->uds_path, uds_path, sizeof(vs->uds_path) - 1);
	if (!vs->quiet)
		vsock_wake(vs);
	return 0;
}

/* --- snapshot ----------------------------------------------------------------------------------- */
/* What the guest is to hear in another machine, where none of its connections has a host's end. */
static enum snap_vsock_event event_saved(const struct vsock *vs)
{
	if (!vs->dev.active)
		return SNAP_VSOCK_NONE; /* it has no connections */
	return vs->event_gate ? SNAP_VSOCK_SENT : SNAP_VSOCK_OWED;
}

static void vsock_save(const struct dev *dev, struct snap_out *out, uint32_t instance)
{
	const struct vsock *vs = vsock_of_const(dev);
	struct snap_vsock *to = snap_put(out, SNAP_VSOCK, SNAP_DEV_VERSION, instance, sizeof(*to));

	if (!to)
		return;
	*to = (struct snap_vsock){
		.guest_cid = vs->guest_cid,
		.next_port = vs->next_port,
		.flags = vs->rung ? SNAP_VSOCK_RUNG : 0,
		.event = (uint16_t)event_saved(vs),
	};
	if (to->event == SNAP_VSOCK_SENT)
		to->gate_idx = vs->gate_idx;
}

static int check_saved(const struct vsock *vs, const struct snap_vsock *in, struct errmsg *why)
{
	if (in->guest_cid != vs->guest_cid)
		return err_set(why, EBADMSG, "the saved guest has CID %llu, this one %llu",
			       (unsigned long long)in->guest_cid,
			       (unsigned long long)vs->guest_cid);
	if (in->next_port < VSOCK_HOST_PORT || in->next_port >= VSOCK_HOST_PORT << 1)
		return err_set(why, EBADMSG, "the saved host port %u cannot be", in->next_port);
	if (in->event > SNAP_VSOCK_SENT || (in->event != SNAP_VSOCK_SENT && in->gate_idx) ||
	    (in->event && !vs->dev.active))
		return err_set(why, EBADMSG, "the saved reset event cannot be");
	if ((in->flags & ~SNAP_VSOCK_RUNG) || in->rsvd)
		return err_set(why, EBADMSG, "the saved vsock has unknown parts");
	return 0;
}

static int vsock_load(struct dev *dev, const struct snap_in *in, uint32_t instance,
		      struct errmsg *why)
{
	struct vsock *vs = vsock_of(dev);
	struct snap_vsock saved;

	int err = snap_take(in, SNAP_VSOCK, SNAP_DEV_VERSION, instance, &saved, sizeof(saved), why);
	if (!err)
		err = check_saved(vs, &saved, why);
	if (err)
		return err;
	vs->quiet = true;
	vs->next_port = saved.next_port;
	vs->rung = saved.flags & SNAP_VSOCK_RUNG;
	vs->event_owed = saved.event == SNAP_VSOCK_OWED;
	vs->event_gate = saved.event == SNAP_VSOCK_SENT;
	vs->gate_idx = saved.gate_idx;
	return 0;
}

void vsock_usage(const struct dev *dev, struct vsock_usage *out)
{
	const struct vsock *vs = vsock_of_const(dev);

	*out = (struct vsock_usage){.conns = vs->conns,
				    .buffered = vs->buffered,
				    .dropped = vs->dropped,
				    .resets = vs->resets};
}

/* --- table -------------------------------------------------------------------------------------- */
const struct dev_ops vsock_ops = {
	.name = "vsock",
	.snap_tag = SNAP_VSOCK,
	.virtio_id = 19,
	.queue_count = 3,
	.queue_size = VSOCK_QUEUE_SIZE,
	.config_read = vsock_config_read,
	.activate = vsock_activate,
	.kick = vsock_kick,
	.reset = vsock_reset,
	.quiesce = vsock_quiesce,
	.unquiesce = vsock_unquiesce,
	.save = vsock_save,
	.load = vsock_load,
	.destroy = vsock_destroy,
};
