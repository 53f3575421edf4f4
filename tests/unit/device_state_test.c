/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices saved in one machine and loaded into another: a second transport over a copy of the guest's memory.
 * The driver's side goes on where it stood and must not notice.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "devices/blk_file.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/serial.h"
#include "devices/vblk.h"
#include "devices/vrng.h"
#include "tests/unit/vdriver.h"
#include "wire/snap_dev.h"

#define GOLDEN   "tests/golden/devices-v1.bin"
#define MEM      (UINT64_C(16) << 20)
#define DISK     (UINT64_C(1) << 20)
#define ST_BREAK 64u

/* --- one device's state between two machines ---------------------------------------------------- */
struct state {
	struct snap_out out;
	struct snap_in in;
};

static void state_save(struct state *st, struct mmio *mmio)
{
	struct errmsg why = {""};

	assert_int_equal(snap_out_init(&st->out), 0);
	mmio_save(mmio, &st->out, 3);
	if (snap_out_finish(&st->out, &why) ||
	    snap_in_open(&st->in, st->out.buf, st->out.len, &why))
		fail_msg("%s", why.text);
}

static void state_free(struct state *st)
{
	snap_out_free(&st->out);
}

/* The payload of the section `tag`, to be changed in place: the envelope was checked before. */
static void *state_part(struct state *st, uint32_t tag)
{
	uint32_t version;
	size_t len;
	const void *part = snap_find(&st->in, tag, 3, &version, &len);

	assert_non_null(part);
	return st->out.buf + ((const uint8_t *)part - st->in.blob);
}

/* A machine with `from`'s memory as it is now, rings and all. */
static void rig_like(struct vd_rig *to, const struct vd_rig *from)
{
	memset(to, 0, sizeof(*to));
	vd_rig_init(to, from->vd.size);
	memcpy(to->vd.mem, from->vd.mem, from->vd.size);
	memcpy(to->vd.q, from->vd.q, sizeof(to->vd.q));
}

static int load(struct vd_rig *to, const struct state *st, struct errmsg *why)
{
	*why = (struct errmsg){""};
	return mmio_load(to->mmio, &st->in, 3, why);
}

static void must_load(struct vd_rig *to, const struct state *st)
{
	struct errmsg why;

	if (load(to, st, &why))
		fail_msg("%s", why.text);
}

/* --- virtio-rng: nothing but its transport ------------------------------------------------------ */
static void plug_rng(struct vd_rig *r)
{
	struct dev *dev;

	assert_int_equal(vrng_create(&dev, "entropy", NULL), 0);
	vd_rig_plug(r, dev);
}

static void rng_ask(struct vd_rig *r)
{
	struct vd_seg seg = {.at = r->vd.data, .len = 64, .writable = true};
	vd_add_direct(&r->vd, 0, &seg, 1);
}

static unsigned rng_answers(struct vd_rig *r)
{
	uint32_t id, len;
	unsigned n = 0;

	for (; vd_used(&r->vd, 0, &id, &len); n++)
		assert_int_equal(len, 64);
	return n;
}

static void start_rng(struct vd_rig *r)
{
	memset(r, 0, sizeof(*r));
	vd_rig_init(r, MEM);
	plug_rng(r);
	vd_start(&r->vd, r->mmio, r->dev->offered, 1, 16);
}

static void device_load__running__ring_goes_on_without_a_kick(void **state)
{
	(void)state;
	struct vd_rig a, b;
	struct state st;

	start_rng(&a);
	for (unsigned i = 0; i < 21; i++) { /* past the ring's end */
		rng_ask(&a);
		vd_kick(a.mmio, 0);
		vd_turns(&a, 2);
		assert_int_equal(rng_answers(&a), 1);
	}
	mmio_quiesce(a.mmio);
	rng_ask(&a); /* a kick that got lost on the way: the ring is all there is */
	state_save(&st, a.mmio);
	rig_like(&b, &a);
	plug_rng(&b);
	must_load(&b, &st);
	vd_kick(b.mmio, 0);
	vd_turns(&b, 2);
	assert_int_equal(rng_answers(&b), 0); /* loaded, and not yet going */
	vd_irqs(&b);
	mmio_unquiesce(b.mmio);
	vd_turns(&b, 2);
	assert_int_equal(rng_answers(&b), 1);
	assert_true(vd_irqs(&b) > 0);
	for (unsigned i = 0; i < 40; i++) {
		rng_ask(&b);
		vd_kick(b.mmio, 0);
		vd_turns(&b, 2);
		assert_int_equal(rng_answers(&b), 1);
	}
	assert_int_equal(rng_answers(&a), 0); /* the parent's memory is its own */
	mmio_unquiesce(a.mmio);
	vd_turns(&a, 2);
	assert_int_equal(rng_answers(&a), 1);
	state_free(&st);
	vd_rig_deinit(&a);
	vd_rig_deinit(&b);
}

/* Every register a driver can read, in both machines. */
static void same_registers(struct mmio *a, struct mmio *b)
{
	for (uint32_t off = 0; off < 0x200; off += 4)
		if (vd_r32(a, off) != vd_r32(b, off))
			fail_msg("register %#x: %#x and %#x", off, vd_r32(a, off), vd_r32(b, off));
}

static void save_twice_is_the_same(const struct state *st, struct mmio *loaded)
{
	struct state again;

	state_save(&again, loaded);
	assert_int_equal(again.out.len, st->out.len);
	assert_memory_equal(again.out.buf, st->out.buf, st->out.len);
	state_free(&again);
}

/* A handshake that stops after `steps` register writes goes on in another machine. */
static void handshake_cut_at(unsigned steps)
{
	static const struct {
		uint32_t off, val;
	} script[] = {
		{0x70, 1},
		{0x70, 3},
		{0x14, 1},
		{0x24, 1},
		{0x20, 1},
		{0x24, 0},
		{0x20, 1u << 29},
		{0x70, 11},
		{0x30, 0},
		{0x38, 16},
		{0x80, VD_BASE},
		{0x90, VD_BASE + 0x2000},
		{0xa0, VD_BASE + 0x4000},
		{0x44, 1},
		{0x70, 15},
	};
	struct vd_rig a, b;
	struct state st;

	memset(&a, 0, sizeof(a));
	vd_rig_init(&a, MEM);
	plug_rng(&a);
	vd_layout(&a.vd, 0, 16);
	for (unsigned i = 0; i < steps; i++)
		vd_w32(a.mmio, script[i].off, script[i].val);
	mmio_quiesce(a.mmio);
	state_save(&st, a.mmio);
	rig_like(&b, &a);
	plug_rng(&b);
	must_load(&b, &st);
	save_twice_is_the_same(&st, b.mmio);
	same_registers(a.mmio, b.mmio);
	mmio_unquiesce(b.mmio);
	for (unsigned i = steps; i < ARRAY_LEN(script); i++)
		vd_w32(b.mmio, script[i].off, script[i].val);
	assert_int_equal(vd_r32(b.mmio, 0x70), 15);
	rng_ask(&b);
	vd_kick(b.mmio, 0);
	vd_turns(&b, 2);
	assert_int_equal(rng_answers(&b), 1);
	assert_int_equal(vd_r32(b.mmio, 0x60), DEV_ISR_QUEUE);
	state_free(&st);
	vd_rig_deinit(&a);
	vd_rig_deinit(&b);
}

static void device_load__handshake_cut_anywhere__goes_on(void **state)
{
	(void)state;
	for (unsigned steps = 0; steps <= 15; steps++)
		handshake_cut_at(steps);
}

static void device_load__broken__stays_so_until_reset(void **state)
{
	(void)state;
	struct vd_rig a, b;
	struct state st;

	start_rng(&a);
	*vd_u16(&a.vd, a.vd.q[0].avail + 2) = 999; /* more than there are descriptors */
	vd_kick(a.mmio, 0);
	vd_turns(&a, 2);
	assert_int_equal(vd_r32(a.mmio, 0x70), 15 | ST_BREAK);
	mmio_quiesce(a.mmio);
	state_save(&st, a.mmio);
	rig_like(&b, &a);
	plug_rng(&b);
	must_load(&b, &st);
	save_twice_is_the_same(&st, b.mmio);
	same_registers(a.mmio, b.mmio);
	vd_irqs(&b);
	mmio_unquiesce(b.mmio);
	assert_int_equal(vd_irqs(&b), 1); /* the driver has not acknowledged it yet */
	assert_int_equal(vd_r32(b.mmio, 0x60), DEV_ISR_CONFIG);
	vd_start(&b.vd, b.mmio, b.dev->offered, 1, 16);
	rng_ask(&b);
	vd_kick(b.mmio, 0);
	vd_turns(&b, 2);
	assert_int_equal(rng_answers(&b), 1);
	state_free(&st);
	vd_rig_deinit(&a);
	vd_rig_deinit(&b);
}

/* --- hostile transports ------------------------------------------------------------------------- */
static struct snap_mmio *good; /* of a running virtio-rng */

static void refused(struct state *st, const struct snap_mmio *saved, const char *text)
{
	struct snap_mmio *part = state_part(st, SNAP_MMIO), keep = *part;
	struct vd_rig b;
	struct errmsg why;

	memset(&b, 0, sizeof(b));
	vd_rig_init(&b, MEM);
	plug_rng(&b);
	*part = *saved;
	assert_int_equal(load(&b, st, &why), -EBADMSG);
	assert_string_equal(why.text, text);
	*part = keep;
	vd_rig_deinit(&b);
}

#define REFUSED(field, val, text)                                            \
	do {                                                                 \
		struct snap_mmio bad = *good;                                \
		bad.field = (val);                                           \
		refused(&st, &bad, "device entropy: " text ": Bad message"); \
	} while (0)

static void device_load__hostile_transport__refused_by_name(void **state)
{
	(void)state;
	const char *queue = "device entropy: saved queue 0 has a bad size, is misaligned or lies "
			    "outside memory: Bad message";
	struct vd_rig a;
	struct state st;

	start_rng(&a);
	mmio_quiesce(a.mmio);
	state_save(&st, a.mmio);
	struct snap_mmio copy = *(struct snap_mmio *)state_part(&st, SNAP_MMIO);
	good = &copy;
	REFUSED(virtio_id, 2, "the saved device is of another kind (virtio 2, 1 queues)");
	REFUSED(queue_count, 3, "the saved device is of another kind (virtio 4, 3 queues)");
	REFUSED(offered, copy.offered | 2,
		"the saved device offered features that this one has not: 0x2");
	REFUSED(status, 0x4f, "the saved transport has unknown status bits");
	REFUSED(status, 7, "the saved transport has DRIVER_OK without FEATURES_OK");
	REFUSED(driver_features, 0,
		"the saved transport has features accepted that were not offered");
	REFUSED(isr, 4, "the saved transport has unknown interrupt causes");
	REFUSED(flags, 2, "the saved transport has unknown parts");
	REFUSED(rsvd, 1, "the saved transport has unknown parts");
	REFUSED(queue[0].flags, 3, "the saved transport has unknown parts in a queue");
	REFUSED(queue[0].rsvd, 1, "the saved transport has unknown parts in a queue");
	REFUSED(queue[1].num, 1, "the saved transport has more queues than the device");
	const struct snap_queue bad_queue[] = {
		{.desc = VD_BASE, .driver = VD_BASE, .device = VD_BASE, .num = 0, .flags = 1},
		{.desc = VD_BASE, .driver = VD_BASE, .device = VD_BASE, .num = 3, .flags = 1},
		{.desc = VD_BASE,
		 .driver = VD_BASE,
		 .device = VD_BASE,
		 .num = 65536 + 16,
		 .flags = 1},
		{.desc = VD_BASE, .driver = VD_BASE, .device = VD_BASE, .num = 256, .flags = 1},
		{.desc = VD_BASE + 8, .driver = VD_BASE, .device = VD_BASE, .num = 16, .flags = 1},
		{.desc = VD_BASE, .driver = 0, .device = VD_BASE, .num = 16, .flags = 1},
		{.desc = VD_BASE,
		 .driver = VD_BASE,
		 .device = UINT64_MAX - 3,
		 .num = 16,
		 .flags = 1},
		{.desc = VD_BASE + MEM - 16,
		 .driver = VD_BASE,
		 .device = VD_BASE,
		 .num = 16,
		 .flags = 1},
	};
	for (unsigned i = 0; i < ARRAY_LEN(bad_queue); i++) {
		struct snap_mmio bad = copy;
		bad.queue[0] = bad_queue[i];
		refused(&st, &bad, queue);
	}
	state_free(&st);
	vd_rig_deinit(&a);
}

/* Any indices at all: the worst is a device that the guest broke. */
static void device_load__hostile_indices__at_worst_broken(void **state)
{
	(void)state;
	struct vd_rig a, b;
	struct state st;
	uint64_t seed = 88172645463325252;

	start_rng(&a);
	mmio_quiesce(a.mmio);
	state_save(&st, a.mmio);
	struct snap_mmio *part = state_part(&st, SNAP_MMIO);
	for (unsigned i = 0; i < 64; i++) {
		part->queue[0].next_avail = (uint16_t)vd_rand(&seed);
		part->queue[0].next_used = (uint16_t)vd_rand(&seed);
		part->queue[0].signalled = (uint16_t)vd_rand(&seed);
		rig_like(&b, &a);
		plug_rng(&b);
		must_load(&b, &st);
		mmio_unquiesce(b.mmio);
		vd_turns(&b, 3);
		uint32_t status = vd_r32(b.mmio, 0x70);
		assert_true(status == 15 || status == (15 | ST_BREAK));
		vd_rig_deinit(&b);
	}
	state_free(&st);
	vd_rig_deinit(&a);
}

static void device_load__section_missing__refused(void **state)
{
	(void)state;
	struct snap_out out;
	struct snap_in in;
	struct vd_rig b;
	struct errmsg why;

	assert_int_equal(snap_out_init(&out), 0);
	assert_int_equal(snap_out_finish(&out, &why), 0);
	assert_int_equal(snap_in_open(&in, out.buf, out.len, &why), 0);
	memset(&b, 0, sizeof(b));
	vd_rig_init(&b, MEM);
	plug_rng(&b);
	assert_int_equal(mmio_load(b.mmio, &in, 0, &why), -EBADMSG);
	assert_string_equal(why.text,
			    "device entropy: machine state: no section MMIO 0: Bad message");
	vd_rig_deinit(&b);
	snap_out_free(&out);
}

/* --- virtio-blk --------------------------------------------------------------------------------- */
struct blk_hdr {
	uint32_t type, rsvd;
	uint64_t sector;
};
enum { BLK_IN = 0, BLK_OUT = 1, BLK_SYNC = 4, BLK_GET_ID = 8 };
enum { BLK_OK = 0, BLK_IOERR = 1, BLK_NONE = 0xee };

static int image(uint64_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static struct blk_backend *file_backend(struct vd_rig *r, uint64_t size, enum blk_file_mode mode)
{
	struct blk_backend *file = NULL;
	struct errmsg why = {""};
	int fd = image(size);

	if (blk_file_create(&file, fd, mode, "test.img", r->loop, &why))
		fail_msg("%s", why.text);
	close(fd);
	return file;
}

static void plug_blk(struct vd_rig *r, struct blk_backend *backend, bool read_only)
{
	struct vblk_cfg cfg = {.id = "rootfs",
			       .backend = backend,
			       .read_only = read_only,
			       .writeback = !read_only};
	struct dev *dev;

	assert_int_equal(vblk_create(&dev, &cfg, NULL), 0);
	vd_rig_plug(r, dev);
}

/* One request of one sector; its status. */
static uint8_t blk_do(struct vd_rig *r, uint32_t type, uint64_t sector, uint32_t len)
{
	struct blk_hdr *hdr = vd_ptr(&r->vd, r->vd.data, sizeof(*hdr));
	uint8_t *status = vd_ptr(&r->vd, r->vd.data + 8192, 1);
	struct vd_seg seg[3] = {{.at = r->vd.data, .len = 16},
				{.at = r->vd.data + 4096, .len = len, .writable = type != BLK_OUT},
				{.at = r->vd.data + 8192, .len = 1, .writable = true}};
	uint32_t id, used;

	*hdr = (struct blk_hdr){.type = type, .sector = sector};
	*status = BLK_NONE;
	vd_add_direct(&r->vd, 0, seg, 3);
	vd_kick(r->mmio, 0);
	while (!vd_used(&r->vd, 0, &id, &used))
		assert_int_equal(loop_step(r->loop, LOOP_WAIT), 0);
	return *status;
}

static uint64_t capacity(struct vd_rig *r)
{
	return vd_r32(r->mmio, 0x100) | (uint64_t)vd_r32(r->mmio, 0x104) << 32;
}

static void start_blk(struct vd_rig *r, bool read_only)
{
	memset(r, 0, sizeof(*r));
	vd_rig_init(r, MEM);
	plug_blk(r, file_backend(r, DISK, read_only ? BLK_FILE_READ_ONLY : BLK_FILE_READ_WRITE),
		 read_only);
	vd_start(&r->vd, r->mmio, r->dev->offered, 1, 16);
}

static void vblk_empty__requests_fail_until_a_disk_comes(void **state)
{
	(void)state;
	struct blk_backend *old = NULL;
	struct vd_rig r;

	memset(&r, 0, sizeof(r));
	vd_rig_init(&r, MEM);
	plug_blk(&r, NULL, false);
	vd_start(&r.vd, r.mmio, r.dev->offered, 1, 16);
	assert_int_equal(capacity(&r), 0);
	assert_int_equal(blk_do(&r, BLK_IN, 0, 512), BLK_IOERR);
	assert_int_equal(blk_do(&r, BLK_IN, 0, 0), BLK_IOERR);
	assert_int_equal(blk_do(&r, BLK_OUT, 1, 512), BLK_IOERR);
	assert_int_equal(blk_do(&r, BLK_SYNC, 0, 0), BLK_IOERR);
	assert_int_equal(blk_do(&r, BLK_GET_ID, 0, 20), BLK_OK);
	vd_w32(r.mmio, 0x64, 3);
	uint32_t generation = vd_r32(r.mmio, 0xfc);
	struct blk_backend *disk = file_backend(&r, DISK, BLK_FILE_READ_WRITE);
	assert_int_equal(vblk_set_backend(r.dev, disk, &old, NULL), 0);
	assert_null(old);
	assert_int_equal(vd_r32(r.mmio, 0x60), DEV_ISR_CONFIG);
	assert_int_not_equal(vd_r32(r.mmio, 0xfc), generation);
	assert_int_equal(capacity(&r), DISK / 512);
	assert_int_equal(blk_do(&r, BLK_OUT, 7, 512), BLK_OK);
	assert_int_equal(blk_do(&r, BLK_SYNC, 0, 0), BLK_OK);
	assert_int_equal(vblk_set_backend(r.dev, NULL, &old, NULL), 0);
	assert_ptr_equal(old, disk);
	blk_destroy(old);
	assert_int_equal(capacity(&r), 0);
	assert_int_equal(blk_do(&r, BLK_IN, 0, 512), BLK_IOERR);
	vd_rig_deinit(&r);
}

static void vblk_set_backend__same_size_or_read_only__quiet_or_refused(void **state)
{
	(void)state;
	struct blk_backend *old = NULL;
	struct vd_rig r;
	struct errmsg why = {""};

	start_blk(&r, false);
	vd_w32(r.mmio, 0x64, 3);
	struct blk_backend *locked = file_backend(&r, DISK, BLK_FILE_READ_ONLY);
	assert_int_equal(vblk_set_backend(r.dev, locked, &old, &why), -EROFS);
	assert_string_equal(why.text, "drive rootfs: Read-only file system");
	blk_destroy(locked);
	assert_int_equal(blk_do(&r, BLK_OUT, 0, 512), BLK_OK);
	vd_w32(r.mmio, 0x64, 3);
	struct blk_backend *same = file_backend(&r, DISK, BLK_FILE_READ_WRITE);
	assert_int_equal(vblk_set_backend(r.dev, same, &old, &why), 0);
	blk_destroy(old);
	assert_int_equal(vd_r32(r.mmio, 0x60), 0);
	vd_rig_deinit(&r);
}

/* Saved with a disk, loaded without: what comes later must be as large as the guest believes. */
static void vblk_load__empty__disk_must_be_of_the_saved_size(void **state)
{
	(void)state;
	struct blk_backend *old = NULL;
	struct vd_rig a, b;
	struct state st;
	struct errmsg why = {""};

	start_blk(&a, false);
	assert_int_equal(blk_do(&a, BLK_OUT, 5, 512), BLK_OK);
	mmio_quiesce(a.mmio);
	state_save(&st, a.mmio);
	rig_like(&b, &a);
	plug_blk(&b, NULL, false);
	must_load(&b, &st);
	save_twice_is_the_same(&st, b.mmio);
	same_registers(a.mmio, b.mmio); /* the capacity among them */
	struct blk_backend *other = file_backend(&b, DISK + 512, BLK_FILE_READ_WRITE);
	assert_int_equal(vblk_set_backend(b.dev, other, &old, &why), -EINVAL);
	assert_string_equal(why.text, "drive rootfs: the guest knows a disk of 2048 sectors, this "
				      "one has 2049: Invalid argument");
	blk_destroy(other);
	uint32_t generation = vd_r32(b.mmio, 0xfc);
	struct blk_backend *disk = file_backend(&b, DISK, BLK_FILE_READ_WRITE);
	assert_int_equal(vblk_set_backend(b.dev, disk, &old, &why), 0);
	assert_null(old);
	assert_int_equal(vd_r32(b.mmio, 0xfc), generation); /* nothing that the guest need hear */
	mmio_unquiesce(b.mmio);
	assert_int_equal(blk_do(&b, BLK_IN, 5, 512), BLK_OK);
	other = file_backend(&b, DISK + 512, BLK_FILE_READ_WRITE); /* now it may change */
	assert_int_equal(vblk_set_backend(b.dev, other, &old, &why), 0);
	blk_destroy(old);
	assert_int_equal(capacity(&b), DISK / 512 + 1);
	state_free(&st);
	vd_rig_deinit(&a);
	vd_rig_deinit(&b);
}

static void vblk_load__other_disk__refused_by_name(void **state)
{
	(void)state;
	struct vd_rig a, b;
	struct state st;
	struct errmsg why;

	start_blk(&a, false);
	mmio_quiesce(a.mmio);
	state_save(&st, a.mmio);
	struct snap_vblk *part = state_part(&st, SNAP_VBLK), keep = *part;
	const struct {
		struct snap_vblk saved;
		const char *text;
	} bad[] = {
		{{.id = "rootfs2", .capacity = DISK / 512, .flags = 2},
		 "the saved drive has another id"},
		{{.id = "rootf", .capacity = DISK / 512, .flags = 2},
		 "the saved drive has another id"},
		{{.id = "rootfs", .capacity = DISK / 512, .flags = 1},
		 "the saved drive is read-only"},
		{{.id = "rootfs", .capacity = DISK / 512},
		 "the saved drive has no write-back cache"},
		{{.id = "rootfs", .capacity = DISK / 512, .flags = 6},
		 "the saved drive has unknown parts"},
		{{.id = "rootfs", .capacity = 1, .flags = 2},
		 "the saved drive has 1 sectors, this one 2048"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		char text[128];
		memset(&b, 0, sizeof(b));
		vd_rig_init(&b, MEM);
		plug_blk(&b, file_backend(&b, DISK, BLK_FILE_READ_WRITE), false);
		*part = bad[i].saved;
		assert_int_equal(load(&b, &st, &why), -EBADMSG);
		snprintf(text, sizeof(text), "device rootfs: %s: Bad message", bad[i].text);
		assert_string_equal(why.text, text);
		*part = keep;
		vd_rig_deinit(&b);
	}
	memset(&b, 0, sizeof(b));
	vd_rig_init(&b, MEM);
	plug_blk(&b, NULL, true);
	assert_int_equal(load(&b, &st, &why), -EBADMSG); /* its features differ already */
	vd_rig_deinit(&b);
	state_free(&st);
	vd_rig_deinit(&a);
}

/* --- serial port and keyboard controller -------------------------------------------------------- */
static void no_tx(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx, (void)bytes, (void)len;
}

static const struct serial_ops serial_ops = {.tx = no_tx};

static void outb(struct serial *s, uint64_t reg, uint8_t val)
{
	serial_write(s, reg, &val, 1);
}

static uint8_t inb(struct serial *s, uint64_t reg)
{
	uint8_t val;
	serial_read(s, reg, &val, 1);
	return val;
}

static void serial_load__pending_and_input__go_on(void **state)
{
	(void)state;
	int irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct serial *a, *b;
	struct snap_serial saved, again;
	uint64_t count = 0;

	assert_int_equal(serial_create(&a, &serial_ops, NULL, irq, NULL), 0);
	outb(a, 3, 0x80), outb(a, 0, 1), outb(a, 1, 0), outb(a, 3, 3);
	outb(a, 2, 0xc7), outb(a, 4, 0x0b), outb(a, 7, 0x5a), outb(a, 1, 3);
	for (unsigned i = 0; i < 40; i++) { /* the ring of input has turned */
		serial_feed(a, (const uint8_t *)"x", 1);
		inb(a, 0);
	}
	serial_feed(a, (const uint8_t *)"hello, world: input longer than a FIFO", 38);
	assert_int_equal(inb(a, 0), 'h');
	outb(a, 0, 'o'); /* THRE is pending, behind the input */
	serial_save(a, &saved);
	assert_int_equal(serial_create(&b, &serial_ops, NULL, irq, NULL), 0);
	assert_int_equal(serial_load(b, &saved, NULL), 0);
	serial_save(b, &again);
	assert_memory_equal(&saved, &again, sizeof(saved));
	assert_int_equal(read(irq, &count, sizeof(count)), sizeof(count));
	serial_reassert(b);
	assert_int_equal(read(irq, &count, sizeof(count)), sizeof(count));
	assert_int_equal(inb(b, 2), 0xc4); /* input first */
	char got[40] = "";
	for (unsigned i = 0; inb(b, 5) & 1; i++)
		got[i] = (char)inb(b, 0);
	assert_string_equal(got, "ello, world: input longer than a FIFO");
	assert_int_equal(inb(b, 2), 0xc2); /* then the transmitter: not lost */
	assert_int_equal(inb(b, 2), 0xc1);
	assert_int_equal(inb(b, 7), 0x5a);
	assert_int_equal(inb(b, 4), 0x0b);
	outb(b, 3, 0x83);
	assert_int_equal(inb(b, 0), 1);
	serial_destroy(a);
	serial_destroy(b);
	close(irq);
}

static void serial_refused(struct snap_serial saved, const char *text)
{
	struct serial *s;
	struct snap_serial before, after;
	struct errmsg why;

	assert_int_equal(serial_create(&s, &serial_ops, NULL, -1, NULL), 0);
	serial_save(s, &before);
	assert_int_equal(serial_load(s, &saved, &why), -EBADMSG);
	assert_string_equal(why.text, text);
	serial_save(s, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	serial_destroy(s);
}

static void serial_load__hostile__refused_and_unchanged(void **state)
{
	(void)state;
	serial_refused((struct snap_serial){.ier = 0x10}, "saved serial port has a bad IER");
	serial_refused((struct snap_serial){.mcr = 0x20}, "saved serial port has a bad MCR");
	serial_refused((struct snap_serial){.fcr = 0xc0}, "saved serial port has a bad FCR");
	serial_refused((struct snap_serial){.flags = 4}, "saved serial port has a bad flag");
	serial_refused((struct snap_serial){.rx_count = 65}, "saved serial port has a bad input");
	serial_refused((struct snap_serial){.rx_count = 255}, "saved serial port has a bad input");
	serial_refused((struct snap_serial){.rx_count = 1, .rx = {1, 1}},
		       "saved serial port has a bad input");
	serial_refused((struct snap_serial){.rsvd = {[6] = 1}},
		       "saved serial port has a bad reserved field");
}

static void no_reset(void *ctx)
{
	(void)ctx;
	fail();
}

static void i8042_load__mid_command__goes_on(void **state)
{
	(void)state;
	struct i8042 *a, *b;
	struct snap_i8042 saved, again;
	uint8_t byte = 0x60;

	assert_int_equal(i8042_create(&a, no_reset, NULL, NULL), 0);
	i8042_read(a, 0, &(uint8_t){0}, 1); /* a byte of noise */
	i8042_write(a, 4, &byte, 1);
	i8042_save(a, &saved);
	assert_int_equal(i8042_create(&b, no_reset, NULL, NULL), 0);
	assert_int_equal(i8042_load(b, &saved, NULL), 0);
	i8042_save(b, &again);
	assert_memory_equal(&saved, &again, sizeof(saved));
	assert_int_equal(saved.noise, I8042_NOISE - 1);
	byte = 0x45; /* the data of the command that was written elsewhere */
	i8042_write(b, 0, &byte, 1);
	byte = 0x20;
	i8042_write(b, 4, &byte, 1);
	i8042_read(b, 0, &byte, 1);
	assert_int_equal(byte, 0x45);
	i8042_destroy(a);
	i8042_destroy(b);
}

static void i8042_load__hostile__refused(void **state)
{
	(void)state;
	const struct {
		struct snap_i8042 saved;
		const char *text;
	} bad[] = {
		{{.output_port = 3, .wants_data = 0xfe},
		 "saved keyboard controller has a bad command"},
		{{.output_port = 2}, "saved keyboard controller has a bad output port"},
		{{.output_port = 3, .flags = 4}, "saved keyboard controller has a bad flag"},
		{{.output_port = 3, .noise = I8042_NOISE + 1},
		 "saved keyboard controller has a bad count"},
		{{.output_port = 3, .rsvd = 1},
		 "saved keyboard controller has a bad reserved field"},
	};
	struct i8042 *kbd;
	struct errmsg why;

	assert_int_equal(i8042_create(&kbd, no_reset, NULL, NULL), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(i8042_load(kbd, &bad[i].saved, &why), -EBADMSG);
		assert_string_equal(why.text, bad[i].text);
	}
	i8042_destroy(kbd);
}

/* --- the format --------------------------------------------------------------------------------- */
/* A state of every kind, with a value of its own in every field. */
static void put_all(struct snap_out *out)
{
	struct snap_mmio *mmio = snap_put(out, SNAP_MMIO, SNAP_DEV_VERSION, 1, sizeof(*mmio));
	*mmio = (struct snap_mmio){19, 3, 0x130000001, 0x120000000, 15, 1, 2, 3, 1, 9, 1, 0, {{0}}};
	for (unsigned i = 0; i < 3; i++)
		mmio->queue[i] = (struct snap_queue){
			0x1000 + i,         0x2000 + i,         0x3000 + i,         256, 1,
			(uint16_t)(10 + i), (uint16_t)(20 + i), (uint16_t)(30 + i), 0};
	struct snap_vblk *blk = snap_put(out, SNAP_VBLK, SNAP_DEV_VERSION, 0, sizeof(*blk));
	*blk = (struct snap_vblk){"rootfs", 0x123456789, 3, 8, {{-5, 7, 11}, {13, 17, 19}}};
	struct snap_vsock *sock = snap_put(out, SNAP_VSOCK, SNAP_DEV_VERSION, 1, sizeof(*sock));
	*sock = (struct snap_vsock){3, 0x40000005, 1, SNAP_VSOCK_SENT, 0x1234, 0};
	struct snap_serial *uart = snap_put(out, SNAP_SERIAL, SNAP_DEV_VERSION, 0, sizeof(*uart));
	*uart = (struct snap_serial){1, 2, 3, 4, 5, 3, 0x0c01, 2, {0}, "hi"};
	struct snap_i8042 *kbd = snap_put(out, SNAP_I8042, SNAP_DEV_VERSION, 0, sizeof(*kbd));
	*kbd = (struct snap_i8042){0x74, 3, 0x60, 0xfe, 3, 32, 0};
}

static void device_state__version_1__bytes_are_the_golden_ones(void **state)
{
	(void)state;
	uint8_t golden[4096];
	struct snap_out out;
	struct errmsg why;

	assert_int_equal(snap_out_init(&out), 0);
	put_all(&out);
	assert_int_equal(snap_out_finish(&out, &why), 0);
	if (getenv("UPDATE_GOLDEN")) {
		FILE *f = fopen(GOLDEN, "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(out.buf, 1, out.len, f), out.len);
		fclose(f);
	}
	FILE *f = fopen(GOLDEN, "rb");
	if (!f)
		fail_msg("%s is missing", GOLDEN);
	size_t len = fread(golden, 1, sizeof(golden), f);
	fclose(f);
	assert_int_equal(len, out.len);
	assert_memory_equal(golden, out.buf, len);
	snap_out_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_load__running__ring_goes_on_without_a_kick),
		cmocka_unit_test(device_load__handshake_cut_anywhere__goes_on),
		cmocka_unit_test(device_load__broken__stays_so_until_reset),
		cmocka_unit_test(device_load__hostile_transport__refused_by_name),
		cmocka_unit_test(device_load__hostile_indices__at_worst_broken),
		cmocka_unit_test(device_load__section_missing__refused),
		cmocka_unit_test(vblk_empty__requests_fail_until_a_disk_comes),
		cmocka_unit_test(vblk_set_backend__same_size_or_read_only__quiet_or_refused),
		cmocka_unit_test(vblk_load__empty__disk_must_be_of_the_saved_size),
		cmocka_unit_test(vblk_load__other_disk__refused_by_name),
		cmocka_unit_test(serial_load__pending_and_input__go_on),
		cmocka_unit_test(serial_load__hostile__refused_and_unchanged),
		cmocka_unit_test(i8042_load__mid_command__goes_on),
		cmocka_unit_test(i8042_load__hostile__refused),
		cmocka_unit_test(device_state__version_1__bytes_are_the_golden_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
