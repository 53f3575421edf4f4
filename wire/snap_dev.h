/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snap_dev.h - device state as it stands in a snapshot (wire/snap.h), sections of version SNAP_DEV_VERSION
 *
 * A virtio device is one section SNAP_MMIO, what its transport knows, and at most one of its own tag with the
 * same instance: its place on the bus.  virtio-rng is nothing beyond its transport.  No request is in flight:
 * what a queue has been given it has handed back.
 *
 * Little-endian, fixed size; `rsvd` is zero and checked.
 */
#ifndef SPORE_WIRE_SNAP_DEV_H
#define SPORE_WIRE_SNAP_DEV_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/snap_net.h"

#define SNAP_DEV_VERSION   1u
#define SNAP_DEV_QUEUE_MAX 8
#define SNAP_DEV_ID_LEN    64

#define SNAP_QUEUE_READY 1u /* flags: QueueReady reads 1 */

/* Registers are what the driver wrote; the indices are where a running queue goes on. */
struct snap_queue {
	uint64_t desc, driver, device; /* guest addresses */
	uint32_t num;
	uint32_t flags;
	uint16_t next_avail, next_used, signalled;
	uint16_t rsvd;
};
static_assert(sizeof(struct snap_queue) == 40, "struct snap_queue");
static_assert(offsetof(struct snap_queue, num) == 24, "snap_queue.num");
static_assert(offsetof(struct snap_queue, next_avail) == 32, "snap_queue.next_avail");
static_assert(offsetof(struct snap_queue, rsvd) == 38, "snap_queue.rsvd");

#define SNAP_MMIO_BROKEN 1u /* flags: the guest broke the device, DEVICE_NEEDS_RESET */

struct snap_mmio {
	uint32_t virtio_id;
	uint32_t queue_count;
	uint64_t offered;         /* features */
	uint64_t driver_features; /* as the driver wrote them; final from FEATURES_OK on */
	uint32_t status;          /* without DEVICE_NEEDS_RESET */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint32_t isr;
	uint32_t config_generation;
	uint32_t flags;
	uint32_t rsvd;
	struct snap_queue queue[SNAP_DEV_QUEUE_MAX]; /* behind queue_count: zero */
};
static_assert(sizeof(struct snap_mmio) == 376, "struct snap_mmio");
static_assert(offsetof(struct snap_mmio, status) == 24, "snap_mmio.status");
static_assert(offsetof(struct snap_mmio, isr) == 40, "snap_mmio.isr");
static_assert(offsetof(struct snap_mmio, rsvd) == 52, "snap_mmio.rsvd");
static_assert(offsetof(struct snap_mmio, queue) == 56, "snap_mmio.queue");

#define SNAP_VBLK_READ_ONLY 1u
#define SNAP_VBLK_WRITEBACK 2u

struct snap_vblk {
	uint8_t id[SNAP_DEV_ID_LEN]; /* ends with a NUL */
	uint64_t capacity;           /* sectors of 512 bytes, as the guest reads it */
	uint32_t flags;
	uint32_t discard_grain; /* sectors, as the guest reads it */
	struct snap_limiter limit;
};
static_assert(sizeof(struct snap_vblk) == 128, "struct snap_vblk");
static_assert(offsetof(struct snap_vblk, capacity) == 64, "snap_vblk.capacity");
static_assert(offsetof(struct snap_vblk, discard_grain) == 76, "snap_vblk.discard_grain");

/*
 * The host's ends of all connections stay behind, and the guest has to hear of it: the TRANSPORT_RESET event
 * is owed, or it lies in the event queue and the guest has not yet taken it.
 */
enum snap_vsock_event { SNAP_VSOCK_NONE = 0, SNAP_VSOCK_OWED = 1, SNAP_VSOCK_SENT = 2 };

#define SNAP_VSOCK_RUNG 1u /* flags: the guest has asked for the ready port */

struct snap_vsock {
	uint64_t guest_cid;
	uint32_t next_port; /* of host-initiated connections: not to be met again soon */
	uint32_t flags;
	uint16_t event;    /* enum snap_vsock_event */
	uint16_t gate_idx; /* SENT: avail index of the event queue at that time; else 0 */
	uint32_t rsvd;
};
static_assert(sizeof(struct snap_vsock) == 24, "struct snap_vsock");
static_assert(offsetof(struct snap_vsock, event) == 16, "snap_vsock.event");
static_assert(offsetof(struct snap_vsock, rsvd) == 20, "snap_vsock.rsvd");

#define SNAP_SERIAL_RX      64
#define SNAP_SERIAL_OVERRUN 1u /* flags: LSR bit 1 */
#define SNAP_SERIAL_THRE    2u /* the transmitter ran empty and IIR has not said so */

struct snap_serial {
	uint8_t ier, lcr, mcr, scr, fcr;
	uint8_t flags;
	uint16_t divisor;
	uint8_t rx_count;
	uint8_t rsvd[7];
	uint8_t rx[SNAP_SERIAL_RX]; /* input not yet read, the oldest first; zero behind rx_count */
};
static_assert(sizeof(struct snap_serial) == 80, "struct snap_serial");
static_assert(offsetof(struct snap_serial, divisor) == 6, "snap_serial.divisor");
static_assert(offsetof(struct snap_serial, rx) == 16, "snap_serial.rx");

#define SNAP_I8042_COMMAND 1u /* flags: the last write went to the command port */
#define SNAP_I8042_FULL    2u /* `reply` waits */

struct snap_i8042 {
	uint8_t config, output_port;
	uint8_t wants_data; /* the command whose data byte comes next, or 0 */
	uint8_t reply;
	uint8_t flags;
	uint8_t noise; /* bytes of it left */
	uint16_t rsvd;
};
static_assert(sizeof(struct snap_i8042) == 8, "struct snap_i8042");
static_assert(offsetof(struct snap_i8042, rsvd) == 6, "snap_i8042.rsvd");

#endif
