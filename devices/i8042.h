/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042.h - as much of a keyboard controller as it takes to reset the machine
 *
 * Writing 0xfe (any pulse of output line 0) to port 0x64, or clearing bit 0 of the output port by 0xd1,
 * resets.  Controller commands are answered at once, so that nobody waits for a time-out; there is no
 * keyboard and no mouse, and no interrupt.
 *
 * A Linux without ACPI's word that there is no controller probes for one: it empties the output buffer
 * first, and takes a controller that will not run dry for an absent one.  So the buffer begins with
 * I8042_NOISE bytes of 0xff: the probe ends within a millisecond, and a program that drains it ends too.
 *
 * Thread: any.  The device owns one mutex, a leaf; reset() is called without it.
 */
#ifndef SPORE_DEVICES_I8042_H
#define SPORE_DEVICES_I8042_H

#include <stdint.h>

#include "base/err.h"
#include "wire/snap_dev.h"

#define I8042_NOISE 32u /* bytes; Linux gives up after 16 */

struct i8042;

/* @reset: the guest wants a reset; on the thread of its write, must not block */
int i8042_create(struct i8042 **out, void (*reset)(void *ctx), void *ctx, struct errmsg *why)
	__attribute__((warn_unused_result));
void i8042_destroy(struct i8042 *kbd); /* NULL is fine */

/* @off: 0 is port 0x60, 4 is port 0x64, others read 0xff.  Only the first byte of an access counts. */
void i8042_read(struct i8042 *kbd, uint64_t off, void *buf, uint32_t len);
void i8042_write(struct i8042 *kbd, uint64_t off, const void *buf, uint32_t len);

void i8042_save(struct i8042 *kbd, struct snap_i8042 *out);
/* @in: hostile; all of it is checked before anything changes.  Return: 0, -EBADMSG. */
int i8042_load(struct i8042 *kbd, const struct snap_i8042 *in, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
