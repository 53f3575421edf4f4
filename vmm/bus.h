/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.h - which device answers an address: a short sorted table, const once the VM runs
 *
 * What nobody answers reads as all ones and swallows writes, as an empty bus does.
 * Thread: built by ctl, used by vCPU threads.
 */
#ifndef SPORE_VMM_BUS_H
#define SPORE_VMM_BUS_H

#include <stdint.h>

#define BUS_RANGE_MAX 32

struct bus_range {
	uint64_t base, size;
	void *ctx;
	void (*read)(void *ctx, uint64_t off, void *buf, uint32_t len);
	void (*write)(void *ctx, uint64_t off, const void *buf, uint32_t len);
};

struct bus {
	unsigned count;
	struct bus_range range[BUS_RANGE_MAX]; /* ascending, not overlapping */
};

/* Our own assembly adds ranges: a full table or an overlap is a bug (assert). */
void bus_add(struct bus *bus, const struct bus_range *range);
/* An access that begins in a range and ends outside it is nobody's. */
void bus_read(const struct bus *bus, uint64_t at, void *buf, uint32_t len);
void bus_write(const struct bus *bus, uint64_t at, const void *buf, uint32_t len);

#endif
