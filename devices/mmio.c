/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers are the driver's proposal; the device's queues are what was made of it at DRIVER_OK.
 *
 *   vCPU thread                                   io thread
 *   write queue registers  -> mmio->queue[]
 *   write DRIVER_OK        -> loop_call  ------>  copy, check, dev->queue[], ops->activate
 *   write 0                -> loop_call  ------>  ops->reset, vq_reset
 *                                                 kick eventfds -> ops->kick
 *
 * `changing` is true from the decision to the end of such a call: no lock is held while waiting, and no
 * register moves meanwhile.  The kick eventfds are read from create to destroy; a kick that no active
 * device is there to take is forgotten, and activation looks at every ring once.
 */
#include "devices/mmio_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Register offsets, virtio 1.2, 4.2.2; queue registers are banked by QUEUE_SEL. */
enum {
	REG_MAGIC = 0x000,
	REG_VERSION = 0x004,
	REG_DEVICE_ID = 0x008,
	REG_VENDOR_ID = 0x00c,
	REG_DEVICE_FEATURES = 0x010,
	REG_DEVICE_FEATURES_SEL = 0x014,
	REG_DRIVER_FEATURES = 0x020,
	REG_DRIVER_FEATURES_SEL = 0x024,
	REG_QUEUE_SEL = 0x030,
	REG_QUEUE_NUM_MAX = 0x034,
	REG_QUEUE_NUM = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = MMIO_REG_QUEUE_NOTIFY,
	REG_INTERRUPT_STATUS = 0x060,
	REG_INTERRUPT_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESC_LOW = 0x080,
	REG_QUEUE_DESC_HIGH = 0x084,
	REG_QUEUE_DRIVER_LOW = 0x090,
	REG_QUEUE_DRIVER_HIGH = 0x094,
	REG_QUEUE_DEVICE_LOW = 0x0a0,
	REG_QUEUE_DEVICE_HIGH = 0x0a4,
	REG_SHM_LEN_LOW = 0x0b0,
	REG_SHM_BASE_HIGH = 0x0bc,
	REG_CONFIG_GENERATION = 0x0fc,
};

#define MMIO_MAGIC     0x74726976u /* "virt" */
#define MMIO_VERSION   2u
#define MMIO_VENDOR_ID 0x524f5053u /* "SPOR" */

static void signal_fd(int fd)
{
	uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one));
	VERIFY(n == sizeof(one) || errno == EAGAIN); /* full means: signalled, and not yet read */
}

/* --- interrupts --------------------------------------------------------------------------------- */
static void mmio_notify(struct dev *dev, uint32_t isr_bits)
{
	struct mmio *mmio = dev->transport;

	if (isr_bits & DEV_ISR_CONFIG)
		__atomic_fetch_add(&mmio->config_generation, 1, __ATOMIC_ACQ_REL);
	__atomic_fetch_or(&mmio->isr, isr_bits, __ATOMIC_ACQ_REL);
	signal_fd(mmio->irq_fd);
}

void mmio_set_line(struct mmio *mmio, int irq_fd)
{
	mmio->irq_fd = irq_fd;
}

void mmio_reassert(struct mmio *mmio)
{
	if (__atomic_load_n(&mmio->isr, __ATOMIC_ACQUIRE))
		signal_fd(mmio->irq_fd);
}

/* --- io thread: kicks, activation, reset -------------------------------------------------------- */
static bool mmio_takes_kicks(const struct mmio *mmio)
{
	return mmio->dev->active && !mmio->quiesced;
}

static void mmio_fire(struct loop_event *event)
{
	struct mmio_kick *kick = container_of(event, struct mmio_kick, event);
	struct dev *dev = kick->mmio->dev;

	if (mmio_takes_kicks(kick->mmio) && dev->queue[kick->index].ready)
		dev->ops->kick(dev, kick->index);
}

int mmio_take_queue(struct mmio *mmio, unsigned index)
{
	const struct mmio_queue *from = &mmio->queue[index];
	struct vq *vq = &mmio->dev->queue[index];

	if (!from->ready)
		return 0; /* the driver may leave a queue unused */
	if (from->num > mmio->dev->ops->queue_size)
		return -EINVAL;
	vq->size = (uint16_t)from->num;
	vq->desc = gpa(from->desc);
	vq->avail = gpa(from->driver);
	vq->used = gpa(from->device);
	vq->event_idx = mmio->dev->acked & VIRTIO_F_EVENT_IDX;
	int err = vq_check(vq);
	vq->ready = !err;
	return err;
}

static void mmio_activate(void *arg)
{
	struct mmio *mmio = arg;
	struct dev *dev = mmio->dev;

	dev->acked = mmio->driver_features;
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		if (mmio_take_queue(mmio, i) == 0)
			continue;
		dev_break(dev, "a queue has a bad size, is misaligned or lies outside memory");
		return;
	}
	dev->active = true;
	if (dev->ops->activate)
		dev->ops->activate(dev);
	for (unsigned i = 0; i < dev->ops->queue_count; i++)
		if (mmio_takes_kicks(mmio) && dev->queue[i].ready)
			dev->ops->kick(dev, i);
}

static void mmio_reset(void *arg)
{
	struct mmio *mmio = arg;
	struct dev *dev = mmio->dev;

	dev->active = false;
	dev->ops->reset(dev);
	for (unsigned i = 0; i < dev->ops->queue_count; i++)
		vq_reset(&dev->queue[i]);
	dev->acked = 0;
	__atomic_store_n(&dev->broken, false, __ATOMIC_RELEASE);
	__atomic_store_n(&mmio->isr, 0, __ATOMIC_RELEASE);
}

void mmio_quiesce(struct mmio *mmio)
{
	mmio->quiesced = true;
	mmio->dev->ops->quiesce(mmio->dev);
}

void mmio_unquiesce(struct mmio *mmio)
{
	mmio->quiesced = false;
	mmio->dev->ops->unquiesce(mmio->dev);
	mmio_reassert(
		mmio); /* the line may lead to another machine by now, or to this one for the first time */
}

/* --- vCPU threads: registers -------------------------------------------------------------------- */
static const struct mmio_queue *mmio_selected(const struct mmio *mmio)
{
	return mmio->queue_sel < mmio->dev->ops->queue_count ? &mmio->queue[mmio->queue_sel] : NULL;
}

static uint32_t read_features(const struct mmio *mmio)
{
	if (mmio->device_features_sel > 1)
		return 0;
	return (uint32_t)(mmio->dev->offered >> (32 * mmio->device_features_sel));
}

static uint32_t read_status(const struct mmio *mmio)
{
	bool broken = __atomic_load_n(&mmio->dev->broken, __ATOMIC_ACQUIRE);
	return mmio->status | (broken ? STATUS_NEEDS_RESET : 0);
}

static uint32_t read_reg(const struct mmio *mmio, uint64_t off)
{
	const struct mmio_queue *q = mmio_selected(mmio);

	switch (off) {
	case REG_MAGIC: return MMIO_MAGIC;
	case REG_VERSION: return MMIO_VERSION;
	case REG_DEVICE_ID: return mmio->dev->ops->virtio_id;
	case REG_VENDOR_ID: return MMIO_VENDOR_ID;
	case REG_DEVICE_FEATURES: return read_features(mmio);
	case REG_QUEUE_NUM_MAX: return q ? mmio->dev->ops->queue_size : 0;
	case REG_QUEUE_READY: return q && q->ready;
	case REG_INTERRUPT_STATUS: return __atomic_load_n(&mmio->isr, __ATOMIC_ACQUIRE);
	case REG_STATUS: return read_status(mmio);
	case REG_CONFIG_GENERATION:
		return __atomic_load_n(&mmio->config_generation, __ATOMIC_ACQUIRE);
	default: break;
	}
	/* No shared memory region: its length and base read as -1 (4.2.2). */
	return off >= REG_SHM_LEN_LOW && off <= REG_SHM_BASE_HIGH ? UINT32_MAX : 0;
}

static void put32(uint8_t *to, uint32_t val)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(val >> (8 * i));
}

static uint32_t get32(const uint8_t *from)
{
	return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
	       (uint32_t)from[3] << 24;
}

void mmio_read(struct mmio *mmio, uint64_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
	if (off >= MMIO_SIZE || len > MMIO_SIZE - off)
		return;
	cleanup_unlock pthread_mutex_t *held = hold(&mmio->lock);
	if (off >= MMIO_REG_CONFIG)
		mmio->dev->ops->config_read(mmio->dev, (uint32_t)(off - MMIO_REG_CONFIG), buf, len);
	else if (len == 4 && off % 4 == 0)
		put32(buf, read_reg(mmio, off));
}

static void set_half(uint64_t *val, bool high, uint32_t half)
{
	unsigned shift = high ? 32 : 0;
	*val = (*val & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)half << shift;
}

/* Registers of the selected queue: fixed while it is ready, and while the device runs (4.2.2.2). */
static void write_queue(struct mmio *mmio, uint64_t off, uint32_t val)
{
	if (!mmio_selected(mmio) || (mmio->status & STATUS_DRIVER_OK))
		return;
	struct mmio_queue *q = &mmio->queue[mmio->queue_sel];
	if (off == REG_QUEUE_READY) {
		q->ready = val & 1;
		return;
	}
	if (q->ready)
		return;
	switch (off) {
	case REG_QUEUE_NUM: q->num = val; break;
	case REG_QUEUE_DESC_LOW:
	case REG_QUEUE_DESC_HIGH: set_half(&q->desc, off == REG_QUEUE_DESC_HIGH, val); break;
	case REG_QUEUE_DRIVER_LOW:
	case REG_QUEUE_DRIVER_HIGH: set_half(&q->driver, off == REG_QUEUE_DRIVER_HIGH, val); break;
	case REG_QUEUE_DEVICE_LOW:
	case REG_QUEUE_DEVICE_HIGH: set_half(&q->device, off == REG_QUEUE_DEVICE_HIGH, val); break;
	default: break;
	}
}

/* Only what stands under the lock and needs no one else. */
static void write_reg(struct mmio *mmio, uint64_t off, uint32_t val)
{
	switch (off) {
	case REG_DEVICE_FEATURES_SEL: mmio->device_features_sel = val; break;
	case REG_DRIVER_FEATURES_SEL: mmio->driver_features_sel = val; break;
	case REG_DRIVER_FEATURES:
		if (mmio->driver_features_sel <= 1 && !(mmio->status & STATUS_FEATURES_OK))
			set_half(&mmio->driver_features, mmio->driver_features_sel == 1, val);
		break;
	case REG_QUEUE_SEL: mmio->queue_sel = val; break;
	case REG_INTERRUPT_ACK: __atomic_fetch_and(&mmio->isr, ~val, __ATOMIC_ACQ_REL); break;
	default: write_queue(mmio, off, val); break;
	}
}

/* Runs fn on the io thread with no lock held; meanwhile `changing` keeps the registers still. */
static void mmio_on_io(struct mmio *mmio, void (*fn)(void *arg))
{
	mmio->changing = true;
	VERIFY(pthread_mutex_unlock(&mmio->lock) == 0);
	if (loop_here(mmio->loop))
		fn(mmio);
	else
		loop_call(mmio->loop, fn, mmio);
	VERIFY(pthread_mutex_lock(&mmio->lock) == 0);
	mmio->changing = false;
	VERIFY(pthread_cond_broadcast(&mmio->changed) == 0);
}

static void mmio_clear(struct mmio *mmio)
{
	mmio->status = 0;
	mmio->device_features_sel = mmio->driver_features_sel = mmio->queue_sel = 0;
	mmio->driver_features = 0;
	memset(mmio->queue, 0, sizeof(mmio->queue));
}

/* Status bits are only ever added by the driver; 0 resets (2.1.1, 2.4). */
static void write_status(struct mmio *mmio, uint32_t val)
{
	while (mmio->changing)
		VERIFY(pthread_cond_wait(&mmio->changed, &mmio->lock) == 0);
	if (val == 0) {
		mmio_on_io(mmio, mmio_reset);
		mmio_clear(mmio);
		return;
	}
	uint32_t added = val & STATUS_WRITABLE & ~mmio->status;
	if ((added & STATUS_FEATURES_OK) &&
	    !mmio_acceptable(mmio->driver_features, mmio->dev->offered))
		added &= ~STATUS_FEATURES_OK;
	if ((added & STATUS_DRIVER_OK) && !((mmio->status | added) & STATUS_FEATURES_OK))
		added &= ~STATUS_DRIVER_OK;
	mmio->status |= added;
	if (added & STATUS_DRIVER_OK)
		mmio_on_io(mmio, mmio_activate);
}

static void write_notify(const struct mmio *mmio, uint32_t index)
{
	if (index < mmio->dev->ops->queue_count)
		signal_fd(mmio->kick[index].fd);
}

static void write_config(struct mmio *mmio, uint32_t off, const void *buf, uint32_t len)
{
	if (mmio->dev->ops->config_write)
		mmio->dev->ops->config_write(mmio->dev, off, buf, len);
}

void mmio_write(struct mmio *mmio, uint64_t off, const void *buf, uint32_t len)
{
	if (off >= MMIO_SIZE || len > MMIO_SIZE - off)
		return;
	if (off < MMIO_REG_CONFIG && (len != 4 || off % 4))
		return;
	cleanup_unlock pthread_mutex_t *held = hold(&mmio->lock);
	if (off >= MMIO_REG_CONFIG)
		write_config(mmio, (uint32_t)(off - MMIO_REG_CONFIG), buf, len);
	else if (off == REG_STATUS)
		write_status(mmio, get32(buf));
	else if (off == REG_QUEUE_NOTIFY)
		write_notify(mmio, get32(buf));
	else if (!mmio->changing || off == REG_INTERRUPT_ACK)
		write_reg(mmio, off, get32(buf));
}

/* --- host side ---------------------------------------------------------------------------------- */
int mmio_kick_fd(const struct mmio *mmio, unsigned index)
{
	assert(index < mmio->dev->ops->queue_count);
	return mmio->kick[index].fd;
}

struct dev *mmio_dev(const struct mmio *mmio)
{
	return mmio->dev;
}

/* Everything but the device, which the caller keeps when mmio_create() fails. */
static void mmio_free(struct mmio *mmio)
{
	for (unsigned i = 0; i < DEV_QUEUE_MAX; i++)
		if (mmio->kick[i].fd >= 0)
			close(mmio->kick[i].fd);
	pthread_cond_destroy(&mmio->changed);
	pthread_mutex_destroy(&mmio->lock);
	free(mmio);
}

void mmio_destroy(struct mmio *mmio)
{
	if (!mmio)
		return;
	mmio->dev->ops->destroy(mmio->dev);
	mmio_free(mmio);
}

static int mmio_open_kicks(struct mmio *mmio, struct errmsg *why)
{
	for (unsigned i = 0; i < mmio->dev->ops->queue_count; i++) {
		struct mmio_kick *kick = &mmio->kick[i];
		kick->mmio = mmio;
		kick->index = i;
		kick->fd = eventfd(0, EFD_CLOEXEC);
		if (kick->fd < 0)
			return err_set(why, errno, "device %s: eventfd of queue %u", mmio->dev->id,
				       i);
	}
	return 0;
}

static void mmio_attach(struct mmio *mmio, const struct gmem *gm)
{
	struct dev *dev = mmio->dev;

	dev->gm = gm;
	dev->loop = mmio->loop;
	dev->notify = mmio_notify;
	dev->transport = mmio;
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		dev->queue[i].gm = gm;
		loop_event_start(mmio->loop, &mmio->kick[i].event, mmio->kick[i].fd, mmio_fire);
	}
}

int mmio_create(struct mmio **out, struct dev *dev, const struct gmem *gm, struct loop *loop,
		int irq_fd, struct errmsg *why)
{
	assert(dev->ops->queue_count <= DEV_QUEUE_MAX);
	assert(dev->ops->queue_size <= VQ_SIZE_MAX);
	struct mmio *mmio = calloc(1, sizeof(*mmio));
	if (!mmio)
		return err_set(why, ENOMEM, "device %s: transport", dev->id);
	mmio->dev = dev;
	mmio->loop = loop;
	mmio->irq_fd = irq_fd;
	for (unsigned i = 0; i < DEV_QUEUE_MAX; i++)
		mmio->kick[i].fd = -1;
	VERIFY(pthread_mutex_init(&mmio->lock, NULL) == 0);
	VERIFY(pthread_cond_init(&mmio->changed, NULL) == 0);
	int err = mmio_open_kicks(mmio, why);
	if (err) {
		mmio_free(mmio);
		return err;
	}
	mmio_attach(mmio, gm);
	*out = mmio;
	return 0;
}
