/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serial.h - a 16550A UART: the guest's console
 *
 * Output leaves the moment it is written, so the transmitter is always empty: a guest that polls never
 * waits.  Input is held in a FIFO until the guest takes it; what does not fit is refused, not lost.
 * Modem lines are those of a terminal that is there (DCD, DSR, CTS); in loopback they follow MCR, which
 * is what drivers probe.  Not modelled: speed, parity, breaks, modem line changes, OUT2 as interrupt gate.
 *
 * Interrupts: one write to the eventfd each time a source becomes pending that was not.  That is an edge
 * as COM1 has on the ISA bus; a driver reads IIR until nothing is pending.
 *
 * Thread: any (vCPU threads, io).  The device owns one mutex, a leaf; tx() and rx_room() are called
 * without it, on the thread of the access.
 * Source: TI PC16550D / TL16C550C data sheets.
 */
#ifndef SPORE_DEVICES_SERIAL_H
#define SPORE_DEVICES_SERIAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/snap_dev.h"

#define SERIAL_SIZE 8u /* bytes of port space */
#define SERIAL_RX_SIZE \
	64u /* bytes of input held; the guest sees a FIFO of 16 and reads until it is empty */

struct serial;

struct serial_ops {
	/* Bytes that the guest sent.  Must not block: buffer or drop. */
	void (*tx)(void *ctx, const uint8_t *bytes, size_t len);
	/* There is room again after serial_feed() refused bytes; must not block.  Or NULL. */
	void (*rx_room)(void *ctx);
};

/* @irq_fd: eventfd that raises the line; borrowed.  @ops outlives the device. */
int serial_create(struct serial **out, const struct serial_ops *ops, void *ctx, int irq_fd,
		  struct errmsg *why) __attribute__((warn_unused_result));
void serial_destroy(struct serial *serial); /* NULL is fine */

/* Any access at all; one wider than a byte reaches the following registers too, beyond the last reads 0xff. */
void serial_read(struct serial *serial, uint64_t off, void *buf, uint32_t len);
void serial_write(struct serial *serial, uint64_t off, const void *buf, uint32_t len);

/* Gives input to the guest.  Return: bytes taken, 0..len; with fewer than len, rx_room() will follow. */
size_t serial_feed(struct serial *serial, const uint8_t *bytes, size_t len);

/* Another eventfd raises the line from here on; borrowed.  While no vCPU runs. */
void serial_set_line(struct serial *s, int irq_fd);

/* Raises the line again if an interrupt is pending (its IOAPIC pin was unmasked, or after a load). */
void serial_reassert(struct serial *serial);

void serial_save(struct serial *serial, struct snap_serial *out);
/*
 * serial_load() - become what was saved; serial_reassert() then raises what was pending
 * @in: hostile; all of it is checked before anything changes
 * Return: 0, -EBADMSG.
 */
int serial_load(struct serial *serial, const struct snap_serial *in, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
