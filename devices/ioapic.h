/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioapic.h - the I/O APIC: 24 input pins, each turned into a message for a local APIC
 *
 * KVM keeps the local APICs, this device keeps the redirection table (split irqchip).  Whenever the guest
 * changes where a pin leads, set_route() tells the VMM, which makes it the MSI route of that pin's irqfd:
 * from then on edge interrupts never pass through here.  A change made while a pin is masked is not
 * reported until it is unmasked: a route costs the VMM a system call that waits for readers.
 *
 * Version 0x20, with an EOI register: KVM's local APIC offers "suppress EOI broadcast" when the I/O APIC
 * is in user space, and a guest that uses it acknowledges level interrupts here.
 * Destinations have 8 bits (255 CPUs; we have 32); the extended destination bits 55..48 read as 0.
 *
 * Edge pins driven by an irqfd lose what arrives while they are masked, as on the real chip; unmasked()
 * lets the device look whether it still has something to say.  Level pins are driven by
 * ioapic_set_line() and sent by inject(), again after an EOI while the line is still high.
 *
 * Thread: any (vCPU threads, io).  The device owns one mutex, a leaf: set_route() and inject() are called
 * with it held and may take no lock; unmasked() is called without it.
 * Source: Intel 82093AA data sheet; ICH EOI register; Intel SDM 3, 11.11 for message address and data.
 */
#ifndef SPORE_DEVICES_IOAPIC_H
#define SPORE_DEVICES_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/snap_irq.h"

#define IOAPIC_PINS 24u
#define IOAPIC_SIZE 0x1000u /* bytes of address space */

struct ioapic;

/* Where a pin leads.  A masked pin has address and data 0. */
struct ioapic_route {
	bool masked;
	uint64_t msi_addr;
	uint32_t msi_data; /* bit 15: level */
};

struct ioapic_ops {
	/* The route of `pin` is another one from now on.  Lock held. */
	void (*set_route)(void *ctx, unsigned pin, const struct ioapic_route *route);
	/* Send this message now: a level interrupt.  Lock held. */
	void (*inject)(void *ctx, const struct ioapic_route *route);
	/* `pin` was masked and is not any more.  No lock held; on the thread that wrote the register. */
	void (*unmasked)(void *ctx, unsigned pin);
};

/* All pins are masked: no set_route() until the guest unmasks one.  @ops outlives the device. */
int ioapic_create(struct ioapic **out, const struct ioapic_ops *ops, void *ctx, struct errmsg *why)
	__attribute__((warn_unused_result));
void ioapic_destroy(struct ioapic *ioapic); /* NULL is fine */

/* Any access at all: only 1, 2, 4 or 8 bytes at a register's own address do something. */
void ioapic_read(struct ioapic *ioapic, uint64_t off, void *buf, uint32_t len);
void ioapic_write(struct ioapic *ioapic, uint64_t off, const void *buf, uint32_t len);

/* A local APIC broadcast the end of a level interrupt (KVM_EXIT_IOAPIC_EOI). */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

/* Drives an input pin that has no irqfd.  A rising edge counts on an edge pin, the level on a level pin. */
void ioapic_set_line(struct ioapic *ioapic, unsigned pin, bool high);

void ioapic_save(struct ioapic *ioapic, struct snap_ioapic *out);
/*
 * ioapic_load() - become what was saved; routes that differ are reported
 * @in: hostile; all of it is checked before anything changes
 * Return: 0, -EBADMSG.
 */
int ioapic_load(struct ioapic *ioapic, const struct snap_ioapic *in, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
