/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of register accesses and input for the UART, and of port accesses for the keyboard controller.
 * Each step is three bytes: what, where and a value.  The FIFO's bounds and the interrupt promise are
 * asserted: what is pending has been signalled.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "devices/i8042.h"
#include "devices/serial.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct seen {
	struct serial *serial;
	bool owed;
	unsigned resets;
};

static void on_tx(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	VERIFY(bytes && len == 1);
}

static void on_room(void *ctx)
{
	struct seen *seen = ctx;
	VERIFY(seen->owed); /* only when bytes were refused */
	seen->owed = false;
}

static void on_reset(void *ctx)
{
	struct seen *seen = ctx;
	seen->resets++;
}

static const struct serial_ops ops = {on_tx, on_room};

static bool signalled(int fd)
{
	uint64_t n;
	return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void feed(struct seen *seen, const uint8_t *bytes, size_t len)
{
	size_t taken = serial_feed(seen->serial, bytes, len);
	VERIFY(taken <= len && taken <= SERIAL_RX_SIZE);
	if (taken < len)
		seen->owed = true;
}

/* A driver that was interrupted reads IIR until it is quiet; 4 sources at most, input drained. */
static void serve(struct serial *s)
{
	uint8_t lcr, iir = 0, v;
	unsigned tries = 0;

	serial_read(s, 3, &lcr, 1);
	v = 0x03;
	serial_write(s, 3, &v, 1);
	for (; tries < 2 * SERIAL_RX_SIZE; tries++) {
		serial_read(s, 2, &iir, 1);
		if (iir & 1)
			break;
		serial_read(s, 5, &v, 1);
		serial_read(s, 0, &v, 1);
	}
	VERIFY(iir & 1);
	serial_write(s, 3, &lcr, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct seen seen = {0};
	struct i8042 *kbd;
	uint8_t buf[16];
	int irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	VERIFY(irq >= 0);
	VERIFY(serial_create(&seen.serial, &ops, &seen, irq, NULL) == 0);
	VERIFY(i8042_create(&kbd, on_reset, &seen, NULL) == 0);
	for (; len >= 3; data += 3, len -= 3) {
		uint32_t width = 1u + (data[0] >> 4);
		for (unsigned i = 0; i < sizeof(buf); i++)
			buf[i] = data[2];
		switch (data[0] & 7) {
		case 0: serial_write(seen.serial, data[1] & 7, buf, 1); break;
		case 1: serial_write(seen.serial, data[1], buf, width); break;
		case 2: serial_read(seen.serial, data[1], buf, width); break;
		case 3: feed(&seen, data, len < data[1] ? len : data[1]); break;
		case 4: i8042_write(kbd, data[1] & 4, buf, width); break;
		case 5: i8042_read(kbd, data[1] & 4, buf, width); break;
		case 6:
			serial_reassert(seen.serial);
			if (signalled(irq))
				serve(seen.serial);
			break;
		default: serial_read(seen.serial, data[1] & 7, buf, 1); break;
		}
	}
	/* With everything served, a new reason must signal. */
	serve(seen.serial);
	signalled(irq);
	serial_write(seen.serial, 3, "\x03", 1);
	serial_write(seen.serial, 4, "", 1);
	serial_write(seen.serial, 1, "\x03", 1);
	serve(seen.serial);
	signalled(irq);
	serial_write(seen.serial, 0, "x", 1);
	VERIFY(signalled(irq));
	serve(seen.serial);
	signalled(irq);
	feed(&seen, (const uint8_t *)"y", 1);
	VERIFY(signalled(irq));
	serial_destroy(seen.serial);
	i8042_destroy(kbd);
	close(irq);
	return 0;
}
