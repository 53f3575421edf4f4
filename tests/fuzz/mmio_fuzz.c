/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register accesses of a hostile driver against virtio-rng behind the transport; this thread is vCPU and io.
 * Input: records {op, width, offset (2 bytes), value (8 bytes)}.  Queue registers can be pointed into
 * memory that the same records fill.
 */
#include <stdint.h>
#include <string.h>

#include "devices/vrng.h"
#include "tests/unit/vdriver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORD 12u

static struct vd_rig *rig(void)
{
	static struct vd_rig r;
	struct dev *dev;

	if (r.mmio)
		return &r;
	vd_rig_init(&r, UINT64_C(8) << 20);
	VERIFY(vrng_create(&dev, "rng", NULL) == 0);
	vd_rig_plug(&r, dev);
	return &r;
}

static void record(struct vd_rig *r, const uint8_t *p)
{
	uint16_t off;
	uint64_t val;
	uint8_t buf[8];
	uint32_t width = p[1] % 9;

	memcpy(&off, p + 2, 2);
	memcpy(&val, p + 4, 8);
	switch (p[0] % 8) {
	case 0: mmio_read(r->mmio, off % 0x1100, buf, width); break;
	case 1: mmio_write(r->mmio, off % 0x1100, &val, width); break;
	case 2: vd_w32(r->mmio, off % 0x100 & ~3u, (uint32_t)val); break;
	case 3: vd_negotiate(r->mmio, val % 2 ? r->dev->offered : val); break;
	case 4: vd_setup_queue(&r->vd, r->mmio, p[1] % 3, (uint16_t)(1u << off % 10)); break;
	case 5: vd_w32(r->mmio, 0x70, 15); break;
	case 6: memcpy(vd_ptr(&r->vd, VD_BASE + off % 0x6000, 8), &val, 8); break;
	case 7: vd_kick(r->mmio, p[1] % 4); break;
	}
	VERIFY(loop_step(r->loop, LOOP_POLL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vd_rig *r = rig();

	for (size_t i = 0; i + RECORD <= size && i < 64 * RECORD; i += RECORD)
		record(r, data + i);
	vd_w32(r->mmio, 0x70, 0);
	if (vd_r32(r->mmio, 0x70) || r->dev->active || r->dev->broken)
		abort();
	return 0;
}
