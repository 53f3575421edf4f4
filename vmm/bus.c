/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/ckd.h"

void bus_add(struct bus *bus, const struct bus_range *range)
{
	assert(bus->count < BUS_RANGE_MAX);
	assert(range->size && range->base + range->size > range->base);
	unsigned i = bus->count++;
	for (; i > 0 && bus->range[i - 1].base > range->base; i--)
		bus->range[i] = bus->range[i - 1];
	bus->range[i] = *range;
	assert(i == 0 || bus->range[i - 1].base + bus->range[i - 1].size <= range->base);
	assert(i + 1 == bus->count || range->base + range->size <= bus->range[i + 1].base);
}

static const struct bus_range *bus_find(const struct bus *bus, uint64_t at, uint32_t len)
{
	unsigned low = 0, high = bus->count;

	while (low < high) { /* the last range that begins at or below `at` */
		unsigned mid = (low + high) / 2;
		if (bus->range[mid].base <= at)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return NULL;
	const struct bus_range *r = &bus->range[low - 1];
	return ckd_in_range(at - r->base, len, r->size) ? r : NULL;
}

void bus_read(const struct bus *bus, uint64_t at, void *buf, uint32_t len)
{
	const struct bus_range *r = bus_find(bus, at, len);

	if (r && r->read)
		r->read(r->ctx, at - r->base, buf, len);
	else
		memset(buf, 0xff, len);
}

void bus_write(const struct bus *bus, uint64_t at, const void *buf, uint32_t len)
{
	const struct bus_range *r = bus_find(bus, at, len);

	if (r && r->write)
		r->write(r->ctx, at - r->base, buf, len);
}
