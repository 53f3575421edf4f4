/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.h - the virtio-mmio transport, version 2: a register page in front of a device
 *
 * Registers are read and written by vCPU threads under the transport's lock.  What touches queues
 * (reset, DRIVER_OK) is carried out on the io thread by loop_call(), awaited with no lock held.
 * QueueNotify normally never gets here: the VMM binds an ioeventfd a queue (mmio_kick_fd) to it; a write
 * that arrives anyway signals the same eventfd.  Interrupts leave by one eventfd (an irqfd).
 * Source: virtio 1.2, 4.2.
 */
#ifndef SPORE_DEVICES_MMIO_H
#define SPORE_DEVICES_MMIO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "devices/dev.h"

#define MMIO_SIZE             0x1000u
#define MMIO_REG_CONFIG       0x100u /* the device's configuration space begins here */
#define MMIO_REG_QUEUE_NOTIFY 0x50u  /* ioeventfd: 4 bytes, datamatch = queue index */

struct mmio;

/*
 * mmio_create() - put `dev` behind a register page; the transport owns `dev` from success on
 * @irq_fd: eventfd that raises the line; borrowed
 */
int mmio_create(struct mmio **out, struct dev *dev, const struct gmem *gm, struct loop *loop,
		int irq_fd, struct errmsg *why);
/*
 * mmio_destroy() - after mmio_quiesce() (or before anything ran) and after loop_destroy(): the reads of
 * the kick eventfds are requests on the ring, which end with it.  Destroys the device too.  NULL is fine.
 */
void mmio_destroy(struct mmio *mmio);

/*
 * vCPU threads, any access at all: what the specification leaves undefined reads as 0, writes as nothing.
 * Registers below MMIO_REG_CONFIG want 4 aligned bytes (4.2.2.2).  While one vCPU's reset or DRIVER_OK is
 * being carried out, the others' status writes wait for it and their other writes are dropped.
 * On the loop's own thread (tests, after the first turn) the same work is done in place.
 */
void mmio_read(struct mmio *mmio, uint64_t off, void *buf, uint32_t len);
void mmio_write(struct mmio *mmio, uint64_t off, const void *buf, uint32_t len);

/* The eventfd of queue `index`, for an ioeventfd.  Const after create. */
int mmio_kick_fd(const struct mmio *mmio, unsigned index);
struct dev *mmio_dev(const struct mmio *mmio);

/* Another eventfd raises the line from here on; borrowed.  Quiesced, and while no vCPU runs. */
void mmio_set_line(struct mmio *mmio, int irq_fd);

/* Any thread: raises the line again if an interrupt is pending (the IOAPIC pin was unmasked, or after a load). */
void mmio_reassert(struct mmio *mmio);

/* io thread (through loop_call): see dev_ops.  After quiesce no request is in flight and no kick is taken. */
void mmio_quiesce(struct mmio *mmio);
/* Looks at every ring, without waiting for a kick, and raises the line again if an interrupt is pending. */
void mmio_unquiesce(struct mmio *mmio);

/*
 * mmio_save(), mmio_load() - the transport and its device as sections of `instance` (wire/snap_dev.h)
 * ctl thread; save: quiesced, nothing changes.  load: into a transport that no driver has touched, quiesced
 * or with a loop that has not turned yet, the guest's memory in place; it is quiesced afterwards, and goes on
 * with mmio_unquiesce() when the interrupt controllers have been loaded too.
 * @in: hostile.  After an error the transport can only be destroyed.
 * Return: 0; -EBADMSG another kind of device, or what no driver can have left behind; the text names it.
 */
void mmio_save(const struct mmio *mmio, struct snap_out *out, unsigned instance);
int mmio_load(struct mmio *mmio, const struct snap_in *in, unsigned instance, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
