/* SPDX-License-Identifier: Apache-2.0 */
/* mmio_int.h - the transport's inside, shared by mmio.c (registers) and mmio_state.c (snapshots) */
#ifndef SPORE_DEVICES_MMIO_INT_H
#define SPORE_DEVICES_MMIO_INT_H

#include <pthread.h>

#include "devices/mmio.h"

/* Device status bits, virtio 1.2, 2.1. */
#define STATUS_DRIVER_OK   4u
#define STATUS_FEATURES_OK 8u
#define STATUS_NEEDS_RESET 64u
#define STATUS_WRITABLE    0x8fu /* ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED */

struct mmio_queue {
	uint32_t num;
	bool ready;
	uint64_t desc, driver, device;
};

struct mmio_kick {
	struct loop_event event;
	struct mmio *mmio;
	unsigned index;
	int fd;
};

struct mmio {
	/* const after create */
	struct dev *dev;
	struct loop *loop;
	struct mmio_kick kick[DEV_QUEUE_MAX];

	pthread_mutex_t lock; /* leaf: guards the registers */
	pthread_cond_t changed;
	bool changing; /* a reset or an activation is on its way through the io thread */
	uint32_t status;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	struct mmio_queue queue[DEV_QUEUE_MAX];

	/* atomic */
	uint32_t isr;
	uint32_t config_generation;

	int irq_fd;    /* changes only while the device is quiesced and no vCPU runs */
	bool quiesced; /* io */
};

/* What a driver may accept of what is offered (virtio 1.2, 2.2, 6.1). */
static inline bool mmio_acceptable(uint64_t features, uint64_t offered)
{
	return (features & VIRTIO_F_VERSION_1) && !(features & ~offered);
}

/* io: makes the device's queue `index` of the driver's registers.  0; -EINVAL, -EFAULT as vq_check(). */
int mmio_take_queue(struct mmio *mmio, unsigned index);

#endif
