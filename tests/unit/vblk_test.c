/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk over a raw file, driven through its registers and rings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "devices/blk_fault.h"
#include "devices/blk_file.h"
#include "devices/vblk.h"
#include "tests/unit/vdriver.h"

#define MEM      (UINT64_C(16) << 20)
#define DISK     (UINT64_C(4) << 20)
#define ST_BREAK 64u

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NONE = 0xee };

struct hdr {
	uint32_t type, rsvd;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t sectors, flags;
};

struct rig {
	struct vd_rig r;
	int fd;
	struct blk_fault_plan plan; /* nothing, unless a test sets it */
	struct limiter_cfg limit;
};

static int image(uint64_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void plug(struct rig *t, enum blk_file_mode mode, bool writeback)
{
	struct blk_backend *file = NULL;
	struct dev *dev = NULL;
	struct errmsg why = {""};

	if (blk_file_create(&file, t->fd, mode, "test.img", t->r.loop, &why))
		fail_msg("%s", why.text);
	assert_int_equal(blk_fault_create(&file, file, &t->plan), 0);
	struct vblk_cfg cfg = {.id = "rootfs",
			       .backend = file,
			       .read_only = mode == BLK_FILE_READ_ONLY,
			       .writeback = writeback,
			       .limit = t->limit};
	assert_int_equal(vblk_create(&dev, &cfg, &why), 0);
	vd_rig_plug(&t->r, dev);
	vd_start(&t->r.vd, t->r.mmio, dev->offered, 1, 256);
	assert_int_equal(vd_r32(t->r.mmio, 0x70), 15);
}

static struct rig *make(enum blk_file_mode mode, bool writeback)
{
	struct rig *t = calloc(1, sizeof(*t));
	vd_rig_init(&t->r, MEM);
	t->fd = image(DISK);
	plug(t, mode, writeback);
	return t;
}

static int setup(void **state)
{
	*state = make(BLK_FILE_READ_WRITE, true);
	return 0;
}

static int setup_read_only(void **state)
{
	*state = make(BLK_FILE_READ_ONLY, true);
	return 0;
}

static int setup_unsafe(void **state)
{
	*state = make(BLK_FILE_READ_WRITE, false);
	return 0;
}

static int teardown(void **state)
{
	struct rig *t = *state;
	vd_rig_deinit(&t->r);
	close(t->fd);
	free(t);
	return 0;
}

/* Places header, data and status of request slot `i`; returns the address of the data. */
static uint64_t slot(const struct rig *t, unsigned i)
{
	return t->r.vd.data + i * 0x11000ull;
}

static void queue_request(struct rig *t, unsigned i, uint32_t type, uint64_t sector, uint32_t len)
{
	const uint64_t at = slot(t, i);
	bool in = type == IN || type == GET_ID;
	const struct vd_seg seg[] = {
		{at, 16, false}, {at + 0x1000, len, in}, {at + 0x200, 1, true}};
	const struct vd_seg bare[] = {seg[0], seg[2]};

	*(struct hdr *)vd_ptr(&t->r.vd, at, 16) = (struct hdr){type, 0, sector};
	*(uint8_t *)vd_ptr(&t->r.vd, at + 0x200, 1) = NONE;
	vd_add_direct(&t->r.vd, 0, len ? seg : bare, len ? 3 : 2);
}

static void *data(const struct rig *t, unsigned i)
{
	return vd_ptr(&t->r.vd, slot(t, i) + 0x1000, 0x10000);
}

static uint8_t status(const struct rig *t, unsigned i)
{
	return *(uint8_t *)vd_ptr(&t->r.vd, slot(t, i) + 0x200, 1);
}

/* Turns the loop until `n` requests came back. */
static uint32_t wait_used(struct rig *t, unsigned n)
{
	uint32_t id, len = 0;

	while (n)
		if (vd_used(&t->r.vd, 0, &id, &len))
			n--;
		else
			assert_int_equal(loop_step(t->r.loop, LOOP_WAIT), 0);
	return len;
}

static uint8_t request(struct rig *t, uint32_t type, uint64_t sector, uint32_t len)
{
	queue_request(t, 0, type, sector, len);
	vd_kick(t->r.mmio, 0);
	wait_used(t, 1);
	return status(t, 0);
}

/* --- data --------------------------------------------------------------------------------------- */
static void vblk_write__then_read__same_bytes(void **state)
{
	struct rig *t = *state;
	uint8_t disk[4096];

	memset(data(t, 0), 0xa5, 4096);
	assert_int_equal(request(t, OUT, 8, 4096), OK);
	assert_int_equal(pread(t->fd, disk, 4096, 4096), 4096);
	assert_memory_equal(disk, data(t, 0), 4096);
	queue_request(t, 1, IN, 8, 4096);
	vd_kick(t->r.mmio, 0);
	assert_int_equal(wait_used(t, 1), 4097);
	assert_int_equal(status(t, 1), OK);
	assert_memory_equal(data(t, 1), disk, 4096);
}

static void vblk_framing__header_and_status_anywhere__served(void **state)
{
	struct rig *t = *state;
	const uint64_t d = t->r.vd.data;
	/* header in two pieces, the second of which begins the data; status in the data's last segment */
	const struct vd_seg out[] = {{d, 5, false},
				     {d + 5, 11 + 100, false},
				     {d + 0x1000, 412, false},
				     {d + 0x2000, 1, true}};
	const struct vd_seg in[] = {{d, 16, false}, {d + 0x4000, 1, true}, {d + 0x5000, 512, true}};
	uint8_t disk[512];

	*(struct hdr *)vd_ptr(&t->r.vd, d, 16) = (struct hdr){OUT, 0, 3};
	memset(vd_ptr(&t->r.vd, d + 16, 100), 1, 100);
	memset(vd_ptr(&t->r.vd, d + 0x1000, 412), 2, 412);
	vd_add_indirect(&t->r.vd, 0, out, 4);
	vd_kick(t->r.mmio, 0);
	wait_used(t, 1);
	assert_int_equal(pread(t->fd, disk, 512, 3 * 512), 512);
	assert_int_equal(disk[99], 1);
	assert_int_equal(disk[100], 2);
	*(struct hdr *)vd_ptr(&t->r.vd, d, 16) = (struct hdr){IN, 0, 3};
	vd_add_indirect(&t->r.vd, 0, in, 3);
	vd_kick(t->r.mmio, 0);
	wait_used(t, 1);
	assert_int_equal(*(uint8_t *)vd_ptr(&t->r.vd, d + 0x4000, 1), 1);
	assert_memory_equal(vd_ptr(&t->r.vd, d + 0x5000, 511), disk + 1, 511);
	assert_int_equal(*(uint8_t *)vd_ptr(&t->r.vd, d + 0x5000 + 511, 1), OK);
}

static void vblk_read__marks_exactly_what_it_wrote(void **state)
{
	struct rig *t = *state;
	uint64_t dirty[MEM / GM_PAGE / 64] = {0}, n = 0;

	gm_set_dirty(&t->r.vd.gm, 0, dirty);
	assert_int_equal(request(t, IN, 0, 0x3000), OK);
	for (uint64_t i = 0; i < MEM / GM_PAGE; i++)
		n += dirty[i / 64] >> i % 64 & 1;
	gm_set_dirty(&t->r.vd.gm, 0, NULL);
	assert_int_equal(slot(t, 0) % GM_PAGE, 0);
	assert_int_equal(n, 3 + 1 + 1); /* data, status, used ring */
}

static void vblk_batch__one_kick__one_interrupt(void **state)
{
	struct rig *t = *state;

	for (unsigned i = 0; i < 64; i++) {
		memset(data(t, i), (int)i + 1, 512);
		queue_request(t, i, OUT, i, 512);
	}
	*vd_u16(&t->r.vd, t->r.vd.q[0].avail + 4 + 512) =
		(uint16_t)63; /* used_event: at the last */
	vd_irqs(&t->r);
	vd_kick(t->r.mmio, 0);
	wait_used(t, 64);
	assert_int_equal(vd_irqs(&t->r), 1);
	for (unsigned i = 0; i < 64; i++) {
		uint8_t b;
		assert_int_equal(status(t, i), OK);
		assert_int_equal(pread(t->fd, &b, 1, i * 512), 1);
		assert_int_equal(b, i + 1);
	}
}

static void vblk_flush__and_get_id__ok(void **state)
{
	struct rig *t = *state;

	assert_int_equal(request(t, FLUSH, 0, 0), OK);
	memset(data(t, 0), 0xff, 64);
	assert_int_equal(request(t, GET_ID, 0, 20), OK);
	assert_memory_equal(data(t, 0), "rootfs\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
}

static uint8_t ranges(struct rig *t, uint32_t type, const struct range *range, unsigned n)
{
	memcpy(data(t, 0), range, n * sizeof(*range));
	return request(t, type, 0, n * (uint32_t)sizeof(*range));
}

static uint64_t blocks(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks;
}

static void vblk_discard__and_zeroes__read_as_zero(void **state)
{
	struct rig *t = *state;
	uint8_t disk[0x10000], want[0x10000];

	memset(want, 0x77, sizeof(want));
	for (uint32_t type = DISCARD; type <= ZEROES; type += ZEROES - DISCARD) {
		memset(want, 0x77, sizeof(want));
		assert_int_equal(pwrite(t->fd, want, sizeof(want), 0), sizeof(want));
		uint64_t before = blocks(t->fd);
		const struct range range[] = {{8, 16, 0}, {40, 8, 0}};
		assert_int_equal(ranges(t, type, range, 2), OK);
		memset(want + 8 * 512, 0, 16 * 512);
		memset(want + 40 * 512, 0, 8 * 512);
		assert_int_equal(pread(t->fd, disk, sizeof(disk), 0), sizeof(disk));
		assert_memory_equal(disk, want, sizeof(want));
		if (type == DISCARD)
			assert_true(blocks(t->fd) < before);
	}
	const struct range unmap = {0, 128, 1};
	assert_int_equal(ranges(t, ZEROES, &unmap, 1), OK);
	assert_int_equal(blocks(t->fd), 0);
}

static void vblk_limited__waits_and_goes_on(void **state)
{
	struct rig *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	vd_rig_init(&t->r, MEM);
	t->fd = image(DISK);
	t->limit = (struct limiter_cfg){.ops = {.size = 2, .refill_ms = 20}};
	plug(t, BLK_FILE_READ_WRITE, true);
	uint64_t begin = clock_now();
	for (unsigned i = 0; i < 6; i++)
		queue_request(t, i, OUT, i, 512);
	vd_kick(t->r.mmio, 0);
	wait_used(t, 6);
	assert_true(clock_now() - begin >=
		    4 * 10 * NS_PER_MS); /* two at once, the others each 10 ms */
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(status(t, i), OK);
	*state = t;
	teardown(state);
}

/* --- refusals ----------------------------------------------------------------------------------- */
static void vblk_request__bad__status_says_so(void **state)
{
	struct rig *t = *state;
	const uint64_t end = DISK / 512;

	assert_int_equal(request(t, IN, end, 512), IOERR);
	assert_int_equal(request(t, IN, end - 1, 1024), IOERR);
	assert_int_equal(request(t, IN, UINT64_MAX, 512), IOERR);
	assert_int_equal(request(t, IN, UINT64_MAX / 512 + 1, 512), IOERR);
	assert_int_equal(request(t, OUT, end - 1, 1024), IOERR);
	assert_int_equal(request(t, OUT, 0, 511), IOERR);
	assert_int_equal(request(t, IN, 0, 513), IOERR);
	assert_int_equal(request(t, 2, 0, 512), UNSUPP);
	assert_int_equal(request(t, UINT32_MAX, 0, 512), UNSUPP);
	assert_int_equal(request(t, IN, end - 1, 512), OK);
}

static void vblk_ranges__bad__status_says_so(void **state)
{
	struct rig *t = *state;
	struct range many[VBLK_RANGE_MAX + 1] = {{0, 1, 0}};
	const struct {
		uint32_t type;
		struct range range;
		uint8_t want;
	} bad[] = {
		{DISCARD, {0, 1, 1}, UNSUPP},
		{DISCARD, {0, 1, 2}, UNSUPP},
		{ZEROES, {0, 1, 2}, UNSUPP},
		{ZEROES, {0, 1, UINT32_MAX}, UNSUPP},
		{DISCARD, {DISK / 512, 1, 0}, IOERR},
		{DISCARD, {UINT64_MAX, 2, 0}, IOERR},
		{DISCARD, {0, VBLK_DISCARD_MAX + 1, 0}, IOERR},
		{ZEROES, {0, UINT32_MAX, 0}, IOERR},
		{ZEROES, {0, 0, 0}, OK},
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(ranges(t, bad[i].type, &bad[i].range, 1), bad[i].want);
	assert_int_equal(ranges(t, DISCARD, many, VBLK_RANGE_MAX + 1), IOERR);
	assert_int_equal(request(t, DISCARD, 0, 0), IOERR);
	assert_int_equal(request(t, DISCARD, 0, 15), IOERR);
}

static void vblk_read_only__writes__ioerr(void **state)
{
	struct rig *t = *state;
	const struct range range = {0, 8, 0};

	assert_true(t->r.dev->offered & 1 << 5);
	assert_false(t->r.dev->offered & (1 << 13 | 1 << 14));
	assert_int_equal(request(t, OUT, 0, 512), IOERR);
	assert_int_equal(ranges(t, DISCARD, &range, 1), IOERR);
	assert_int_equal(ranges(t, ZEROES, &range, 1), IOERR);
	assert_int_equal(request(t, IN, 0, 512), OK);
	assert_int_equal(request(t, FLUSH, 0, 0), OK);
}

static void vblk_unsafe__flush__not_offered(void **state)
{
	struct rig *t = *state;

	assert_false(t->r.dev->offered & 1 << 9);
	assert_int_equal(request(t, FLUSH, 0, 0), OK);
}

static void broken_by(struct rig *t, const struct vd_seg *seg, unsigned n)
{
	vd_add_direct(&t->r.vd, 0, seg, n);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 3);
	assert_int_equal(vd_r32(t->r.mmio, 0x70), 15 | ST_BREAK);
	vd_start(&t->r.vd, t->r.mmio, t->r.dev->offered, 1, 256);
	assert_int_equal(vd_r32(t->r.mmio, 0x70), 15);
	assert_int_equal(request(t, IN, 0, 512), OK);
}

static void vblk_request__no_header_or_status__needs_reset(void **state)
{
	struct rig *t = *state;
	const uint64_t d = t->r.vd.data;
	const struct vd_seg no_status[] = {{d, 16, false}, {d, 512, false}};
	const struct vd_seg no_header[] = {{d, 15, false}, {d + 64, 513, true}};
	const struct vd_seg outside[] = {{d, 16, false}, {VD_BASE + MEM, 1, true}};

	broken_by(t, no_status, 2);
	broken_by(t, no_header, 2);
	broken_by(t, no_header + 1, 1);
	broken_by(t, outside, 2);
}

static void vblk_io__file_ends_early__ioerr_others_live(void **state)
{
	struct rig *t = *state;

	assert_int_equal(ftruncate(t->fd, 0x1800), 0);
	assert_int_equal(request(t, IN, 8, 4096), IOERR);
	assert_int_equal(request(t, IN, 8, 2048), OK);
}

static void vblk_write__disk_full__ioerr(void **state)
{
	struct rig *t = *state;

	assert_int_equal(fcntl(t->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE), 0);
	assert_int_equal(request(t, OUT, 0, 4096), IOERR);
	assert_int_equal(request(t, IN, 0, 4096), OK);
}

static void vblk_io__backend_fails__ioerr_and_next_one_served(void **state)
{
	struct rig *t = *state;
	const enum blk_kind kinds[] = {BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_ZERO};
	const uint32_t types[] = {IN, OUT, FLUSH, ZEROES};
	const struct range two[] = {{0, 8, 0}, {8, 8, 0}};

	for (unsigned i = 0; i < 8; i++) {
		uint32_t len = types[i % 4] == FLUSH ? 0 : types[i % 4] == ZEROES ? 32 : 4096;
		t->plan = (struct blk_fault_plan){.kinds = BLK_FAULT_KIND(kinds[i % 4]),
						  .fail = 1,
						  .err = i % 2 ? -ENOSPC : -EIO,
						  .after = i >= 4};
		memcpy(data(t, 0), two, sizeof(two));
		assert_int_equal(request(t, types[i % 4], 0, len), IOERR);
		assert_int_equal(t->plan.fail, 0);
		memcpy(data(t, 0), two, sizeof(two));
		assert_int_equal(request(t, types[i % 4], 0, len), OK);
	}
	/* the second of two ranges fails: so does the request */
	t->plan = (struct blk_fault_plan){
		.kinds = BLK_FAULT_ALL, .countdown = 1, .fail = 1, .err = -EIO};
	assert_int_equal(ranges(t, ZEROES, two, 2), IOERR);
}

/* A driver without FLUSH is told that a write is done when it is durable, and not before. */
static void vblk_write__flush_not_negotiated__flushed_first(void **state)
{
	struct rig *t = *state;

	vd_start(&t->r.vd, t->r.mmio, t->r.dev->offered & ~(UINT64_C(1) << 9), 1, 256);
	t->plan =
		(struct blk_fault_plan){.kinds = BLK_FAULT_KIND(BLK_FLUSH), .fail = 1, .err = -EIO};
	assert_int_equal(request(t, OUT, 0, 512), IOERR);
	assert_int_equal(request(t, OUT, 0, 512), OK);
}

static void vblk_reset__slow_backend__waited_for(void **state)
{
	struct rig *t = *state;

	t->plan = (struct blk_fault_plan){.kinds = BLK_FAULT_ALL, .delay_ns = 20000000};
	for (unsigned i = 0; i < 8; i++)
		queue_request(t, i, IN, 0, 4096);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 2);
	vd_w32(t->r.mmio, 0x70, 0);
	t->plan.delay_ns = 0;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(status(t, i), OK); /* ended before the reset did */
	assert_int_equal(vd_r32(t->r.mmio, 0x70), 0);
}

/* --- life --------------------------------------------------------------------------------------- */
static void vblk_reset__requests_in_flight__none_touch_memory_after(void **state)
{
	struct rig *t = *state;

	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 64; i++) {
			queue_request(t, i, IN, i * 8, 4096);
			memset(data(t, i), 0x11, 4096);
		}
		vd_kick(t->r.mmio, 0);
		vd_turns(&t->r, round % 3);
		vd_w32(t->r.mmio, 0x70, 0);
		for (unsigned i = 0; i < 64; i++)
			memset(data(t, i), 0x22, 4096);
		vd_turns(&t->r, 5);
		for (unsigned i = 0; i < 64; i++)
			assert_int_equal(*((uint8_t *)data(t, i) + 100), 0x22);
		vd_start(&t->r.vd, t->r.mmio, t->r.dev->offered, 1, 256);
		assert_int_equal(request(t, IN, 0, 512), OK);
	}
}

static void vblk_quiesce__in_flight__all_answered_then_silence(void **state)
{
	struct rig *t = *state;

	for (unsigned i = 0; i < 80; i++)
		queue_request(t, i, OUT, i * 8, 4096);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 1);
	mmio_quiesce(t->r.mmio);
	uint16_t used = *vd_u16(&t->r.vd, t->r.vd.q[0].used + 2);
	assert_true(used == 0 || used == 80);
	assert_int_equal(t->r.dev->queue[0].in_flight, 0);
	wait_used(t, used);
	queue_request(t, 90, IN, 0, 512);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 5);
	assert_int_equal(status(t, 90), NONE);
	mmio_unquiesce(t->r.mmio); /* without another kick */
	wait_used(t, used ? 1 : 81);
	assert_int_equal(status(t, 90), OK);
}

static void vblk_config__fields__little_endian_and_bounded(void **state)
{
	struct rig *t = *state;
	uint8_t byte = 0xff;

	assert_int_equal(vd_r32(t->r.mmio, 0x100), DISK / 512);
	assert_int_equal(vd_r32(t->r.mmio, 0x104), 0);
	assert_int_equal(vd_r32(t->r.mmio, 0x10c), 126);
	assert_int_equal(vd_r32(t->r.mmio, 0x114), 512);
	assert_int_equal(vd_r32(t->r.mmio, 0x124), VBLK_DISCARD_MAX);
	assert_int_equal(vd_r32(t->r.mmio, 0x100 + 4092 - 0x100), 0);
	mmio_read(t->r.mmio, 0x100 + 56, &byte, 1);
	assert_int_equal(byte, 1);
}

/* --- the image ---------------------------------------------------------------------------------- */
static int reopen(int fd, int flags)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static void blk_file_create__in_use__refused_with_a_clear_text(void **state)
{
	struct rig *t = *state; /* holds the image for writing */
	int again = reopen(t->fd, O_RDWR);
	struct blk_backend *file = NULL, *second = NULL;
	struct errmsg why;

	assert_int_equal(
		blk_file_create(&file, again, BLK_FILE_READ_WRITE, "a.img", t->r.loop, &why),
		-EBUSY);
	assert_string_equal(why.text, "image a.img is in use by another VM");
	assert_int_equal(
		blk_file_create(&file, again, BLK_FILE_READ_ONLY, "a.img", t->r.loop, &why),
		-EBUSY);
	assert_string_equal(why.text, "image a.img is in use for writing by another VM");
	close(again);

	int shared = image(DISK), other = reopen(shared, O_RDWR);
	assert_int_equal(
		blk_file_create(&file, shared, BLK_FILE_READ_ONLY, "b.img", t->r.loop, &why), 0);
	assert_int_equal(
		blk_file_create(&second, other, BLK_FILE_READ_ONLY, "b.img", t->r.loop, &why), 0);
	blk_destroy(second);
	assert_int_equal(
		blk_file_create(&second, other, BLK_FILE_READ_WRITE, "b.img", t->r.loop, &why),
		-EBUSY);
	blk_destroy(file);
	close(shared);
	close(other);
}

static void blk_file_create__no_image__refused(void **state)
{
	struct rig *t = *state;
	struct blk_backend *file;
	struct errmsg why;
	int empty = image(100), pipes[2];

	assert_int_equal(blk_file_create(&file, empty, BLK_FILE_READ_ONLY, "e", t->r.loop, &why),
			 -EINVAL);
	assert_string_equal(why.text, "image e is empty: Invalid argument");
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(blk_file_create(&file, pipes[0], BLK_FILE_READ_ONLY, "p", t->r.loop, &why),
			 -EINVAL);
	assert_int_equal(blk_file_create(&file, -1, BLK_FILE_READ_ONLY, "x", t->r.loop, &why),
			 -EBADF);
	close(empty);
	close(pipes[0]);
	close(pipes[1]);
}

/* --- random load against a copy in memory ------------------------------------------------------- */
static void vblk__random_load__agrees_with_model(void **state)
{
	struct rig *t = *state;
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	uint8_t *model = calloc(1, DISK), *disk = calloc(1, DISK);

	print_message("SEED=%#llx\n", (unsigned long long)seed);
	for (unsigned round = 0; round < 100; round++) {
		unsigned n = 1 + (unsigned)(vd_rand(&seed) % 60);
		uint64_t lane = DISK / 512 / 64; /* sectors of a request's own stretch */
		struct {
			uint32_t type, len;
			uint64_t sector;
		} rq[64];
		for (unsigned i = 0; i < n; i++) {
			rq[i].type = (uint32_t)(vd_rand(&seed) % 2);
			rq[i].len = (uint32_t)(1 + vd_rand(&seed) % 32) * 512;
			rq[i].sector = i * lane + vd_rand(&seed) % (lane - 32);
			queue_request(t, i, rq[i].type, rq[i].sector, rq[i].len);
			if (rq[i].type == IN)
				continue;
			memset(data(t, i), (int)vd_rand(&seed), rq[i].len);
			memcpy(model + rq[i].sector * 512, data(t, i), rq[i].len);
		}
		vd_kick(t->r.mmio, 0);
		wait_used(t, n);
		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(status(t, i), OK);
			assert_memory_equal(data(t, i), model + rq[i].sector * 512, rq[i].len);
		}
	}
	assert_int_equal(pread(t->fd, disk, DISK, 0), DISK);
	assert_memory_equal(disk, model, DISK);
	free(model);
	free(disk);
}

int main(void)
{
#define T(f)    cmocka_unit_test_setup_teardown(f, setup, teardown)
#define T_RO(f) cmocka_unit_test_setup_teardown(f, setup_read_only, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vblk_limited__waits_and_goes_on),
		T(vblk_write__then_read__same_bytes),
		T(vblk_framing__header_and_status_anywhere__served),
		T(vblk_read__marks_exactly_what_it_wrote),
		T(vblk_batch__one_kick__one_interrupt),
		T(vblk_flush__and_get_id__ok),
		T(vblk_discard__and_zeroes__read_as_zero),
		T(vblk_request__bad__status_says_so),
		T(vblk_ranges__bad__status_says_so),
		T_RO(vblk_read_only__writes__ioerr),
		cmocka_unit_test_setup_teardown(vblk_unsafe__flush__not_offered, setup_unsafe,
						teardown),
		T(vblk_request__no_header_or_status__needs_reset),
		T(vblk_io__file_ends_early__ioerr_others_live),
		T(vblk_write__disk_full__ioerr),
		T(vblk_io__backend_fails__ioerr_and_next_one_served),
		T(vblk_write__flush_not_negotiated__flushed_first),
		T(vblk_reset__slow_backend__waited_for),
		T(vblk_reset__requests_in_flight__none_touch_memory_after),
		T(vblk_quiesce__in_flight__all_answered_then_silence),
		T(vblk_config__fields__little_endian_and_bounded),
		T(blk_file_create__in_use__refused_with_a_clear_text),
		T(blk_file_create__no_image__refused),
		T(vblk__random_load__agrees_with_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
