/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver against virtio-balloon, over shared and private memory.
 * Input: a byte of options, then records {flags, queue, page (4), length (2)}: page numbers, ranges and
 * statistics are made of them.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/vballoon.h"
#include "tests/unit/vdriver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORD  8u
#define RECORDS 24u
#define MEM     (UINT64_C(8) << 20)
#define DATA    (VD_BASE + MEM / 2)

static struct gm_holes *holes;

static struct vd_rig *rig(void)
{
	static struct vd_rig r;
	struct dev *dev;
	const struct vballoon_cfg cfg = {
		.id = "b", .deflate_on_oom = true, .reporting = true, .stats_interval_s = 3600};

	if (r.mmio)
		return &r;
	vd_rig_init(&r, MEM);
	holes = gm_holes_create(MEM);
	VERIFY(holes && vballoon_create(&dev, &cfg, NULL) == 0);
	vd_rig_plug(&r, dev);
	return &r;
}

/* Memory from a file, shared or private, as if it had just been mapped. */
static void map_memory(struct vd_rig *r, enum gm_kind kind)
{
	static int file = -1;
	int flags = kind == GM_SHARED ? MAP_SHARED : MAP_PRIVATE;

	if (file < 0)
		file = memfd_create("memory", MFD_CLOEXEC);
	VERIFY(file >= 0 && ftruncate(file, (off_t)MEM) == 0);
	VERIFY(mmap(r->vd.mem, MEM, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file, 0) ==
	       r->vd.mem);
	memset(holes, 0, sizeof(*holes) + MEM / GM_PAGE / 8);
	gm_set_kind(&r->vd.gm, 0, kind);
	gm_set_file(&r->vd.gm, 0, kind == GM_SHARED ? file : -1, 0);
	gm_set_holes(&r->vd.gm, 0, kind == GM_SHARED ? NULL : holes);
}

/* Pages of the upper half of memory, so that the rings stay; or anything at all. */
static uint32_t page_of(const uint8_t *p)
{
	uint32_t page;

	memcpy(&page, p + 2, sizeof(page));
	return p[0] & 1 ? page : (uint32_t)(DATA / GM_PAGE + page % (MEM / 2 / GM_PAGE));
}

static void record(struct vd_rig *r, unsigned i, const uint8_t *p)
{
	const uint64_t at = r->vd.data + i * 0x1000ull;
	unsigned queue = p[1] % 4;
	uint16_t len;
	struct vd_seg seg[2];

	memcpy(&len, p + 6, sizeof(len));
	for (unsigned k = 0; k < 64; k++) {
		uint32_t pfn = p[0] & 2 ? page_of(p) - k : page_of(p) + k;
		memcpy(vd_ptr(&r->vd, at + 4 * k, 4), &pfn, 4);
	}
	seg[0] = (struct vd_seg){at + (p[0] & 4 ? 1 : 0), len % 256, p[0] & 8};
	seg[1] = (struct vd_seg){page_of(p) * UINT64_C(4096) + (p[0] & 16 ? len : 0), len * 64u,
				 queue == 3};
	if (p[0] & 32)
		vd_add_indirect(&r->vd, queue, seg, 2);
	else
		vd_add_direct(&r->vd, queue, queue == 3 ? seg + 1 : seg, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vd_rig *r = rig();
	struct vballoon_info info;
	unsigned n = 0;

	if (size < 1)
		return 0;
	map_memory(r, data[0] & 1 ? GM_PRIVATE : GM_SHARED);
	vd_start(&r->vd, r->mmio, r->dev->offered & ~(data[0] & 2 ? VBALLOON_F_STATS : 0), 4, 128);
	for (size_t i = 1; i + RECORD <= size && n < RECORDS; i += RECORD, n++) {
		record(r, n, data + i);
		if (data[i] & 64)
			vd_kick(r->mmio, data[i + 1] % 4);
		if (data[i] & 128)
			VERIFY(loop_step(r->loop, LOOP_POLL) == 0);
	}
	for (unsigned q = 0; q < 4; q++)
		vd_kick(r->mmio, q);
	VERIFY(loop_step(r->loop, LOOP_POLL) == 0);
	mmio_quiesce(r->mmio);
	mmio_unquiesce(r->mmio);
	vballoon_info(r->dev, &info);
	VERIFY(info.given_back_bytes <= info.inflated_bytes + info.reported_bytes);
	vd_w32(r->mmio, 0x70, 0);
	return 0;
}
