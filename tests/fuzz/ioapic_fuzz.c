/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of register accesses, line changes and EOIs for the I/O APIC, and hostile saved states.
 * Asserted: reported routes agree with the table, level interrupts are never sent twice without an EOI,
 * and a state that loads is saved again byte for byte.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "devices/ioapic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct seen {
	struct ioapic *io;
	struct ioapic_route route[IOAPIC_PINS];
};

static void on_route(void *ctx, unsigned pin, const struct ioapic_route *route)
{
	struct seen *seen = ctx;
	VERIFY(pin < IOAPIC_PINS);
	VERIFY(!route->masked || (!route->msi_addr && !route->msi_data));
	VERIFY(route->masked || route->msi_addr >> 20 == 0xfee);
	VERIFY(route->masked != seen->route[pin].masked ||
	       route->msi_addr != seen->route[pin].msi_addr ||
	       route->msi_data != seen->route[pin].msi_data);
	seen->route[pin] = *route;
}

static void on_inject(void *ctx, const struct ioapic_route *route)
{
	(void)ctx;
	VERIFY(!route->masked);
}

static void on_unmasked(void *ctx, unsigned pin)
{
	struct seen *seen = ctx;
	VERIFY(pin < IOAPIC_PINS);
	VERIFY(!seen->route[pin].masked);
}

static const struct ioapic_ops ops = {on_route, on_inject, on_unmasked};

static void create(struct seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		seen->route[pin].masked = true;
	VERIFY(ioapic_create(&seen->io, &ops, seen, NULL) == 0);
}

static void check_state(const struct seen *seen)
{
	struct snap_ioapic state, again;
	struct seen other;

	ioapic_save(seen->io, &state);
	create(&other);
	VERIFY(ioapic_load(other.io, &state, NULL) == 0);
	ioapic_save(other.io, &again);
	VERIFY(memcmp(&state, &again, sizeof(state)) == 0);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		VERIFY(seen->route[pin].masked == !!(state.rte[pin] & 0x10000));
		VERIFY(seen->route[pin].msi_addr == other.route[pin].msi_addr);
		VERIFY(seen->route[pin].msi_data == other.route[pin].msi_data);
	}
	ioapic_destroy(other.io);
}

static void try_load(const struct seen *seen, const uint8_t *data, size_t len)
{
	struct snap_ioapic state, before, after;

	ioapic_save(seen->io, &before);
	memset(&state, 0, sizeof(state));
	memcpy(&state, data, len < sizeof(state) ? len : sizeof(state));
	bool loaded = ioapic_load(seen->io, &state, NULL) == 0;
	ioapic_save(seen->io, &after);
	VERIFY(memcmp(&after, loaded ? &state : &before, sizeof(after)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t offs[] = {0x00, 0x10, 0x40, 0x10};
	struct seen seen;
	uint8_t buf[16];

	create(&seen);
	for (; len >= 4; data += 4, len -= 4) {
		uint32_t width = data[0] >> 3 & 15;
		memset(buf, data[3], sizeof(buf));
		memcpy(buf, data + 2, 2);
		switch (data[0] & 7) {
		case 0: ioapic_write(seen.io, data[1], buf, width); break;
		case 1: ioapic_read(seen.io, data[1], buf, width); break;
		case 2: ioapic_eoi(seen.io, data[1]); break;
		case 3: ioapic_set_line(seen.io, data[1] % IOAPIC_PINS, data[2] & 1); break;
		case 4: try_load(&seen, data, len); break;
		default: ioapic_write(seen.io, offs[data[1] & 3], buf, 4); break;
		}
	}
	check_state(&seen);
	ioapic_destroy(seen.io);
	return 0;
}
