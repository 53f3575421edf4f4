/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a hostile driver against virtio-blk on a small file.
 * Input: records {flags, type, sector (8), layout (4)}; headers, chains and ranges are made of them.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/blk_file.h"
#include "devices/vblk.h"
#include "tests/unit/vdriver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORD  14u
#define RECORDS 24u

static struct vd_rig *rig(void)
{
	static struct vd_rig r;
	struct blk_backend *file;
	struct dev *dev;

	if (r.mmio)
		return &r;
	int fd = memfd_create("disk", MFD_CLOEXEC);
	VERIFY(fd >= 0 && ftruncate(fd, 256 * 512) == 0);
	vd_rig_init(&r, UINT64_C(8) << 20);
	VERIFY(blk_file_create(&file, fd, BLK_FILE_READ_WRITE, "disk", r.loop, NULL) == 0);
	struct vblk_cfg cfg = {.id = "disk", .backend = file, .writeback = true};
	VERIFY(vblk_create(&dev, &cfg, NULL) == 0);
	vd_rig_plug(&r, dev);
	return &r;
}

static void record(struct vd_rig *r, unsigned i, const uint8_t *p)
{
	static const uint8_t types[] = {0, 1, 4, 8, 11, 13};
	const uint64_t at = r->vd.data + i * 0x8000ull;
	uint32_t hdr[4] = {p[0] & 1 ? p[1] : types[p[1] % sizeof(types)]},
		 len = p[10] * (p[0] & 2 ? 512u : 17u);
	struct vd_seg seg[5] = {{at, 16, false}};
	unsigned n = 1;

	memcpy(hdr + 2, p + 2, 8);
	if (p[0] & 4)
		hdr[2] %= 300, hdr[3] = 0;
	memcpy(vd_ptr(&r->vd, at, 16), hdr, 16);
	/* ranges for discard and write-zeroes: what the record says, several times */
	for (unsigned k = 0; k < 20; k++)
		memcpy(vd_ptr(&r->vd, at + 16 + 16 * k, 14), p, RECORD);
	if (p[0] & 8)
		seg[0].len = 16 + p[11];
	if (len)
		seg[n++] = (struct vd_seg){at + p[12] * 8u, len / 2, p[13] & 1};
	if (len)
		seg[n++] = (struct vd_seg){at + 0x4000 + p[11], len - len / 2, p[13] & 1};
	if (!(p[13] & 2))
		seg[n++] = (struct vd_seg){at + 0x7000, 1 + p[12] % 4, true};
	if (p[13] & 4)
		seg[n - 1].at = ~(uint64_t)p[12];
	if (p[13] & 8)
		vd_add_indirect(&r->vd, 0, seg, n);
	else
		vd_add_direct(&r->vd, 0, seg, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vd_rig *r = rig();
	unsigned n = 0;

	if (size < 1)
		return 0;
	vd_start(&r->vd, r->mmio, r->dev->offered & ~(uint64_t)(data[0] & 1 ? 1 << 9 : 0), 1, 256);
	for (size_t i = 1; i + RECORD <= size && n < RECORDS; i += RECORD, n++) {
		record(r, n, data + i);
		if (data[i] & 16)
			vd_kick(r->mmio, 0);
		if (data[i] & 32)
			VERIFY(loop_step(r->loop, LOOP_POLL) == 0);
	}
	vd_kick(r->mmio, 0);
	VERIFY(loop_step(r->loop, LOOP_POLL) == 0);
	mmio_quiesce(r->mmio);
	mmio_unquiesce(r->mmio);
	vd_w32(r->mmio, 0x70, 0);
	return 0;
}
