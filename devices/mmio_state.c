/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport in a snapshot.  What the device makes of it at DRIVER_OK is not saved but made again, with
 * the same checks; only the indices at which a running queue goes on are added.
 *
 * A device that was broken by its guest stays broken, whatever its queues say: its driver has to reset it.
 *
 * Thread: ctl; the io thread does nothing with the device meanwhile.
 */
#include "devices/mmio_int.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "wire/snap_dev.h"

static_assert(DEV_QUEUE_MAX < SNAP_DEV_QUEUE_MAX, "queues, and a zero one behind");

#define ISR_KNOWN (DEV_ISR_QUEUE | DEV_ISR_CONFIG)

/* --- save --------------------------------------------------------------------------------------- */
static struct snap_queue queue_saved(const struct mmio *mmio, unsigned index)
{
	const struct mmio_queue *q = &mmio->queue[index];
	const struct vq *vq = &mmio->dev->queue[index];

	/* A request taken and never answered would be lost; a broken device's are lost anyway. */
	assert(!mmio->dev->active || !vq->in_flight);
	return (struct snap_queue){
		.desc = q->desc,
		.driver = q->driver,
		.device = q->device,
		.num = q->num,
		.flags = q->ready ? SNAP_QUEUE_READY : 0,
		.next_avail = vq->next_avail,
		.next_used = vq->next_used,
		.signalled = vq->signalled,
	};
}

void mmio_save(const struct mmio *mmio, struct snap_out *out, unsigned instance)
{
	const struct dev *dev = mmio->dev;
	bool broken = __atomic_load_n(&dev->broken, __ATOMIC_ACQUIRE);

	assert(mmio->quiesced && !mmio->changing);
	struct snap_mmio *to = snap_put(out, SNAP_MMIO, SNAP_DEV_VERSION, instance, sizeof(*to));
	if (!to)
		return;
	*to = (struct snap_mmio){
		.virtio_id = dev->ops->virtio_id,
		.queue_count = dev->ops->queue_count,
		.offered = dev->offered,
		.driver_features = mmio->driver_features,
		.status = mmio->status,
		.device_features_sel = mmio->device_features_sel,
		.driver_features_sel = mmio->driver_features_sel,
		.queue_sel = mmio->queue_sel,
		.isr = __atomic_load_n(&mmio->isr, __ATOMIC_ACQUIRE),
		.config_generation = __atomic_load_n(&mmio->config_generation, __ATOMIC_ACQUIRE),
		.flags = broken ? SNAP_MMIO_BROKEN : 0,
	};
	for (unsigned i = 0; i < dev->ops->queue_count; i++)
		to->queue[i] = queue_saved(mmio, i);
	if (dev->ops->save)
		dev->ops->save(dev, out, instance);
}

/* --- load --------------------------------------------------------------------------------------- */
static int bad(struct errmsg *why, const char *what)
{
	return err_set(why, EBADMSG, "the saved transport has %s", what);
}

static int check_kind(const struct mmio *mmio, const struct snap_mmio *in, struct errmsg *why)
{
	const struct dev *dev = mmio->dev;

	if (in->virtio_id != dev->ops->virtio_id || in->queue_count != dev->ops->queue_count)
		return err_set(why, EBADMSG,
			       "the saved device is of another kind (virtio %u, %u queues)",
			       in->virtio_id, in->queue_count);
	if (in->offered & ~dev->offered)
		return err_set(why, EBADMSG,
			       "the saved device offered features that this one has not: %#llx",
			       (unsigned long long)(in->offered & ~dev->offered));
	return 0;
}

static int check_queues(const struct snap_mmio *in, struct errmsg *why)
{
	for (unsigned i = 0; i < in->queue_count; i++)
		if ((in->queue[i].flags & ~SNAP_QUEUE_READY) || in->queue[i].rsvd)
			return bad(why, "unknown parts in a queue");
	if (!bytes_zero(&in->queue[in->queue_count],
			sizeof(in->queue[0]) * (SNAP_DEV_QUEUE_MAX - in->queue_count)))
		return bad(why, "more queues than the device");
	return 0;
}

/* The bits that a driver sets one after the other stand on each other (virtio 1.2, 3.1.1). */
static int check_status(const struct snap_mmio *in, struct errmsg *why)
{
	if (in->status & ~STATUS_WRITABLE)
		return bad(why, "unknown status bits");
	if ((in->status & STATUS_DRIVER_OK) && !(in->status & STATUS_FEATURES_OK))
		return bad(why, "DRIVER_OK without FEATURES_OK");
	if ((in->status & STATUS_FEATURES_OK) && !mmio_acceptable(in->driver_features, in->offered))
		return bad(why, "features accepted that were not offered");
	if (in->isr & ~ISR_KNOWN)
		return bad(why, "unknown interrupt causes");
	if ((in->flags & ~SNAP_MMIO_BROKEN) || in->rsvd)
		return bad(why, "unknown parts");
	return 0;
}

static void load_registers(struct mmio *mmio, const struct snap_mmio *in)
{
	mmio->status = in->status;
	mmio->device_features_sel = in->device_features_sel;
	mmio->driver_features_sel = in->driver_features_sel;
	mmio->queue_sel = in->queue_sel;
	mmio->driver_features = in->driver_features;
	for (unsigned i = 0; i < in->queue_count; i++)
		mmio->queue[i] = (struct mmio_queue){
			.num = in->queue[i].num,
			.ready = in->queue[i].flags & SNAP_QUEUE_READY,
			.desc = in->queue[i].desc,
			.driver = in->queue[i].driver,
			.device = in->queue[i].device,
		};
	__atomic_store_n(&mmio->isr, in->isr, __ATOMIC_RELEASE);
	__atomic_store_n(&mmio->config_generation, in->config_generation, __ATOMIC_RELEASE);
}

/* What DRIVER_OK made of the registers, and where it had come to. */
static int load_session(struct mmio *mmio, const struct snap_mmio *in, struct errmsg *why)
{
	struct dev *dev = mmio->dev;

	dev->acked = in->driver_features;
	for (unsigned i = 0; i < in->queue_count; i++) {
		struct vq *vq = &dev->queue[i];
		if (mmio_take_queue(mmio, i))
			return err_set(why, EBADMSG,
				       "saved queue %u has a bad size, is misaligned or lies "
				       "outside memory",
				       i);
		vq->next_avail = in->queue[i].next_avail;
		vq->next_used = in->queue[i].next_used;
		vq->signalled = in->queue[i].signalled;
	}
	dev->active = true;
	return 0;
}

static int load_checked(struct mmio *mmio, const struct snap_mmio *in, unsigned instance,
			const struct snap_in *from, struct errmsg *why)
{
	struct dev *dev = mmio->dev;
	bool broken = in->flags & SNAP_MMIO_BROKEN;
	cleanup_unlock pthread_mutex_t *held = hold(&mmio->lock);

	assert(!mmio->changing);
	mmio->quiesced = true;
	dev->offered = in->offered; /* what the guest was told stays so */
	load_registers(mmio, in);
	__atomic_store_n(&dev->broken, broken, __ATOMIC_RELEASE);
	int err = 0;
	if ((in->status & STATUS_DRIVER_OK) && !broken)
		err = load_session(mmio, in, why);
	if (!err && dev->ops->load)
		err = dev->ops->load(dev, from, instance, why);
	return err;
}

int mmio_load(struct mmio *mmio, const struct snap_in *in, unsigned instance, struct errmsg *why)
{
	struct snap_mmio saved;

	int err = snap_take(in, SNAP_MMIO, SNAP_DEV_VERSION, instance, &saved, sizeof(saved), why);
	if (!err)
		err = check_kind(mmio, &saved, why);
	if (!err)
		err = check_queues(&saved, why);
	if (!err)
		err = check_status(&saved, why);
	if (!err)
		err = load_checked(mmio, &saved, instance, in, why);
	return err ? err_wrap(why, err, "device %s", mmio->dev->id) : 0;
}
