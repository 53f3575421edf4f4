/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev.h - what a virtio device is: a const table of operations, queues, and three ways to speak up
 *
 * A device knows guest memory, the loop and its interrupt line, and nothing of KVM: so every device is
 * unit-tested and fuzzed on any machine.  It is created by its own typed function (vblk_create() ...),
 * and driven by the transport (mmio.h) through the table.
 *
 * Fault rule: host side functions return -errno; the guest's fault ends in dev_break(), which sets
 * DEVICE_NEEDS_RESET and stops the device until the driver resets it (virtio 1.2, 2.1.2).
 */
#ifndef SPORE_DEVICES_DEV_H
#define SPORE_DEVICES_DEV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"
#include "base/loop.h"
#include "devices/vq.h"
#include "snapshot/codec.h"

#define DEV_QUEUE_MAX 4
#define DEV_ID_MAX    64

/* Feature bits that the transport understands (virtio 1.2, 6). */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

struct dev;

struct dev_ops {
	const char *name;   /* stable: log field, metrics label */
	uint32_t snap_tag;  /* section id in wire/snap.h; never reused */
	uint16_t virtio_id; /* virtio 1.2, 5 */
	uint16_t queue_count;
	uint16_t queue_size; /* entries offered (QueueNumMax) */

	/* Any thread, with the transport's lock held: the device's configuration space. */
	void (*config_read)(const struct dev *dev, uint32_t off, void *buf, uint32_t len);
	void (*config_write)(struct dev *dev, uint32_t off, const void *buf,
			     uint32_t len); /* or NULL */

	/* io thread; cannot fail, only complete requests or dev_break(). */
	void (*activate)(struct dev *dev); /* DRIVER_OK: queues and features are final; or NULL */
	void (*kick)(struct dev *dev, unsigned queue);
	/* Ends the driver's session: when it returns, nothing writes to guest memory any more. */
	void (*reset)(struct dev *dev);
	/* io thread: stops taking requests; when it returns none is in flight and no callback will run. */
	void (*quiesce)(struct dev *dev);
	void (*unquiesce)(struct dev *dev); /* takes requests again, looking at the rings first */

	/*
	 * ctl thread, quiesced: what the device is beyond the registers, features and queues that the
	 * transport saves (mmio.h), as one section of its snap_tag.  NULL: it is nothing beyond them.
	 * load() reads hostile bytes; after an error the device can only be destroyed.
	 */
	void (*save)(const struct dev *dev, struct snap_out *out, uint32_t instance);
	int (*load)(struct dev *dev, const struct snap_in *in, uint32_t instance,
		    struct errmsg *why);

	/* ctl thread, never while attached. */
	void (*destroy)(struct dev *dev);
};

/* The common part, embedded in every device. */
struct dev {
	const struct dev_ops *ops; /* const */
	char id[DEV_ID_MAX];       /* const: names the device in messages */
	uint64_t offered;          /* const after create: feature bits */
	const struct gmem *gm;     /* const after attach */
	struct loop *loop;         /* const after attach */
	void (*notify)(struct dev *dev,
		       uint32_t isr_bits); /* const after attach: transport's interrupt */
	void *transport;                   /* const after attach */

	/* Where one line about this device goes (its log line is complete but for the newline); or NULL. */
	void (*log)(void *ctx, const char *line); /* const after attach; any thread */
	void *log_ctx;                            /* const after attach */

	uint64_t acked;                 /* io: features of this session */
	struct vq queue[DEV_QUEUE_MAX]; /* io */
	bool active;                    /* io: DRIVER_OK seen and not broken */
	bool broken;                    /* atomic: NEEDS_RESET */
	uint64_t breaks;                /* atomic: how often the guest broke it */
	struct {
		uint64_t since_ns;
		uint32_t lines, dropped;
	} log_window; /* io */
};

#define DEV_ISR_QUEUE  1u /* virtio 1.2, 4.2.2 InterruptStatus bit 0 */
#define DEV_ISR_CONFIG 2u /* bit 1 */

/* io: interrupts the driver if it wants to hear of what was pushed to queue `index`. */
void dev_signal(struct dev *dev, unsigned index);
/* Any thread: tells the driver that the configuration space changed. */
void dev_config_changed(struct dev *dev);
/* io: the driver broke the rules (`why` is a constant sentence): NEEDS_RESET, counted, logged at a limited rate. */
void dev_break(struct dev *dev, const char *why);
/* io: one line "device=ID event=TEXT ..." to dev->log; at most DEV_LOG_LINES in DEV_LOG_NS, the rest is counted. */
#define DEV_LOG_LINES 8
#define DEV_LOG_NS    UINT64_C(1000000000)
void dev_log(struct dev *dev, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The one list of all devices (table.c); NULL ends it. */
extern const struct dev_ops *const dev_table[];

#endif
