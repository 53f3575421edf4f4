/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon through its registers and rings; memory is a file, so that what left it can be counted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "devices/vballoon.h"
#include "snapshot/codec.h"
#include "tests/unit/vdriver.h"
#include "wire/snap_balloon.h"

#define MEM       (UINT64_C(16) << 20)
#define PAGES     (MEM / GM_PAGE)
#define DATA      (VD_BASE + MEM / 2) /* pages that the tests give up */
#define DATA_PFN  (DATA / GM_PAGE)
#define QUEUES    4
#define Q_INFLATE 0
#define Q_DEFLATE 1
#define Q_STATS   2
#define Q_REPORT  3
#define ST_BREAK  64u

struct rig {
	struct vd_rig r; /* first */
	int file;
};

static struct dev *balloon(const struct vballoon_cfg *cfg)
{
	struct dev *dev = NULL;
	assert_int_equal(vballoon_create(&dev, cfg, NULL), 0);
	return dev;
}

/* Guest memory becomes a shared mapping of a file, every page in it. */
static void back_with_file(struct rig *rig)
{
	struct vd *vd = &rig->r.vd;

	rig->file = memfd_create("memory", MFD_CLOEXEC);
	assert_true(rig->file >= 0);
	assert_int_equal(ftruncate(rig->file, (off_t)MEM), 0);
	assert_ptr_equal(
		mmap(vd->mem, MEM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, rig->file, 0),
		vd->mem);
	gm_set_file(&vd->gm, 0, rig->file, 0);
	memset(vd->mem, 0xaa, MEM);
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	const struct vballoon_cfg cfg = {
		.id = "balloon", .target_pages = 7, .reporting = true, .stats_interval_s = 3600};

	vd_rig_init(&rig->r, MEM);
	back_with_file(rig);
	vd_rig_plug(&rig->r, balloon(&cfg));
	vd_start(&rig->r.vd, rig->r.mmio, rig->r.dev->offered, QUEUES, 64);
	vd_irqs(&rig->r);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	vd_rig_deinit(&rig->r);
	close(rig->file);
	free(rig);
	return 0;
}

static uint64_t resident(const struct rig *rig)
{
	struct stat st;
	assert_int_equal(fstat(rig->file, &st), 0);
	return (uint64_t)st.st_blocks * 512 / GM_PAGE;
}

static struct vballoon_info info_of(const struct rig *rig)
{
	struct vballoon_info info;
	vballoon_info(rig->r.dev, &info);
	return info;
}

/* One request with these page numbers; they stand in the page before DATA. */
static void send_pfns(struct rig *rig, unsigned queue, const uint32_t *pfn, unsigned count)
{
	struct vd *vd = &rig->r.vd;
	const struct vd_seg seg = {DATA - 0x10000, count * 4, false};
	uint32_t id, len;

	memcpy(vd_ptr(vd, seg.at, seg.len), pfn, seg.len);
	vd_add_direct(vd, queue, &seg, 1);
	vd_kick(rig->r.mmio, queue);
	vd_turns(&rig->r, 3);
	assert_true(vd_used(vd, queue, &id, &len));
	assert_int_equal(len, 0);
}

static bool page_is(const struct rig *rig, uint64_t pfn, uint8_t byte)
{
	const uint8_t *at = vd_ptr(&rig->r.vd, pfn * GM_PAGE, GM_PAGE);
	return at[0] == byte && memcmp(at, at + 1, GM_PAGE - 1) == 0;
}

static void vballoon_inflate__pages_leave_the_file_others_stay(void **state)
{
	struct rig *rig = *state;
	const uint32_t up[] = {DATA_PFN, DATA_PFN + 1, DATA_PFN + 2, DATA_PFN + 9};
	const uint32_t down[] = {DATA_PFN + 22, DATA_PFN + 21, DATA_PFN + 20};

	assert_int_equal(resident(rig), PAGES);
	send_pfns(rig, Q_INFLATE, up, 4);
	assert_int_equal(resident(rig), PAGES - 4);
	assert_int_equal(vd_irqs(&rig->r), 1);
	send_pfns(rig, Q_INFLATE, down, 3);
	assert_int_equal(resident(rig), PAGES - 7);
	assert_int_equal(info_of(rig).inflated_bytes, 7 * GM_PAGE);
	assert_int_equal(info_of(rig).given_back_bytes, 7 * GM_PAGE);
	for (unsigned i = 0; i < 4; i++)
		assert_true(page_is(rig, up[i], 0));
	for (unsigned i = 0; i < 3; i++)
		assert_true(page_is(rig, down[i], 0));
	assert_true(page_is(rig, DATA_PFN - 1, 0xaa));
	assert_true(page_is(rig, DATA_PFN + 3, 0xaa));
	assert_true(page_is(rig, DATA_PFN + 19, 0xaa));
	assert_true(page_is(rig, DATA_PFN + 23, 0xaa));
}

static void vballoon_inflate__outside_and_twice__passed_over(void **state)
{
	struct rig *rig = *state;
	const uint32_t pfn[] = {0,
				UINT32_MAX,
				UINT32_MAX - 1,
				DATA_PFN,
				DATA_PFN,
				1,
				(VD_BASE + MEM) / GM_PAGE,
				DATA_PFN + 1};

	send_pfns(rig, Q_INFLATE, pfn, ARRAY_LEN(pfn));
	assert_int_equal(resident(rig), PAGES - 2);
	assert_int_equal(vd_r32(rig->r.mmio, 0x70), 15);
}

/* A run that leaves memory takes nothing with it: the part inside stays. */
static void vballoon_inflate__run_over_the_end__nothing_given(void **state)
{
	struct rig *rig = *state;
	const uint32_t end = (VD_BASE + MEM) / GM_PAGE;
	const uint32_t pfn[] = {end - 1, end, end + 1};

	send_pfns(rig, Q_INFLATE, pfn, 3);
	assert_int_equal(resident(rig), PAGES);
	assert_true(page_is(rig, end - 1, 0xaa));
}

static void vballoon_inflate__long_request__bounded(void **state)
{
	struct rig *rig = *state;
	uint32_t pfn[VBALLOON_PFNS_MAX + 100];

	for (unsigned i = 0; i < ARRAY_LEN(pfn); i++)
		pfn[i] = (uint32_t)DATA_PFN + i;
	send_pfns(rig, Q_INFLATE, pfn, ARRAY_LEN(pfn));
	assert_int_equal(resident(rig), PAGES - VBALLOON_PFNS_MAX);
}

static void vballoon_deflate__pages_come_back_when_touched(void **state)
{
	struct rig *rig = *state;
	const uint32_t pfn[] = {DATA_PFN, DATA_PFN + 1};

	send_pfns(rig, Q_INFLATE, pfn, 2);
	send_pfns(rig, Q_DEFLATE, pfn, 2);
	assert_int_equal(resident(rig), PAGES - 2);
	memset(vd_ptr(&rig->r.vd, DATA, GM_PAGE), 0x55, GM_PAGE);
	assert_int_equal(resident(rig), PAGES - 1);
	assert_true(page_is(rig, DATA_PFN + 1, 0));
}

static void vballoon_report__whole_pages_within_leave(void **state)
{
	struct rig *rig = *state;
	struct vd *vd = &rig->r.vd;
	uint32_t id, len;
	const struct vd_seg seg[] = {
		{DATA + 100, 2 * GM_PAGE, true},          /* one whole page in the middle */
		{DATA + 16 * GM_PAGE, 8 * GM_PAGE, true}, /* eight */
		{DATA + 40 * GM_PAGE + 1, GM_PAGE, true}, /* none */
	};

	vd_add_direct(vd, Q_REPORT, seg, ARRAY_LEN(seg));
	vd_kick(rig->r.mmio, Q_REPORT);
	vd_turns(&rig->r, 3);
	assert_true(vd_used(vd, Q_REPORT, &id, &len));
	assert_int_equal(resident(rig), PAGES - 9);
	assert_int_equal(info_of(rig).reported_bytes, 9 * GM_PAGE);
	assert_true(page_is(rig, DATA_PFN + 1, 0));
	assert_true(page_is(rig, DATA_PFN, 0xaa));
	assert_true(page_is(rig, DATA_PFN + 2, 0xaa));
	assert_true(page_is(rig, DATA_PFN + 40, 0xaa));
}

/* More reports than a turn's share: the rest comes by itself, entirely. */
static void vballoon_reports__many__bounded_a_turn_none_lost(void **state)
{
	struct rig *rig = *state;
	struct vd *vd = &rig->r.vd;
	const struct vd_seg seg = {DATA, MEM / 4, true};
	uint32_t id, len;
	unsigned n = 0;

	for (unsigned i = 0; i < 64; i++)
		vd_add_direct(vd, Q_REPORT, &seg, 1);
	vd_kick(rig->r.mmio, Q_REPORT);
	assert_int_equal(loop_step(rig->r.loop, LOOP_WAIT), 0);
	while (vd_used(vd, Q_REPORT, &id, &len))
		n++;
	assert_int_equal(n, VBALLOON_TURN_MAX / (MEM / 4));
	while (n < 64) {
		assert_int_equal(loop_step(rig->r.loop, LOOP_WAIT), 0);
		while (vd_used(vd, Q_REPORT, &id, &len))
			n++;
	}
}

static void vballoon_config__target_and_actual(void **state)
{
	struct rig *rig = *state;
	uint32_t generation = vd_r32(rig->r.mmio, 0xfc);

	assert_int_equal(vd_r32(rig->r.mmio, 0x100), 7);
	vballoon_set_target(rig->r.dev, 1234);
	assert_int_equal(vd_irqs(&rig->r), 1);
	assert_int_equal(vd_r32(rig->r.mmio, 0x60), DEV_ISR_CONFIG);
	assert_int_not_equal(vd_r32(rig->r.mmio, 0xfc), generation);
	assert_int_equal(vd_r32(rig->r.mmio, 0x100), 1234);
	vd_w32(rig->r.mmio, 0x104, 1000);
	vd_w32(rig->r.mmio, 0x100, 5); /* not the driver's */
	vd_w32(rig->r.mmio, 0x108, 5);
	assert_int_equal(vd_r32(rig->r.mmio, 0x104), 1000);
	assert_int_equal(info_of(rig).actual_pages, 1000);
	assert_int_equal(info_of(rig).target_pages, 1234);
	assert_int_equal(vd_r32(rig->r.mmio, 0x108), 0);
	vd_w32(rig->r.mmio, 0x70, 0);
	assert_int_equal(info_of(rig).actual_pages, 0);
}

static void put_stat(uint8_t *at, uint16_t tag, uint64_t val)
{
	memcpy(at, &tag, 2);
	memcpy(at + 2, &val, 8);
}

/* Leaves a buffer with `count` statistics from `tag` on, each worth `val` plus its tag. */
static void send_stats(struct rig *rig, uint16_t tag, unsigned count, uint64_t val)
{
	const struct vd_seg seg = {DATA, count * 10, false};
	uint8_t *at = vd_ptr(&rig->r.vd, DATA, seg.len);

	for (unsigned i = 0; i < count; i++)
		put_stat(at + 10 * i, (uint16_t)(tag + i), val + tag + i);
	vd_add_direct(&rig->r.vd, Q_STATS, &seg, 1);
	vd_kick(rig->r.mmio, Q_STATS);
	vd_turns(&rig->r, 3);
}

static void vballoon_stats__taken_and_held(void **state)
{
	struct rig *rig = *state;
	uint32_t id, len;

	send_stats(rig, 0, 12, 1000);
	struct vballoon_info info = info_of(rig);
	assert_int_equal(info.stat_mask, 0xfff);
	assert_int_equal(info.stat_count, 1);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(info.stat[i], 1000 + i);
	assert_false(vd_used(&rig->r.vd, Q_STATS, &id, &len));
	/* A second buffer: the first goes back.  Tags that nobody knows are passed over. */
	send_stats(rig, 14, 40, 2000);
	assert_true(vd_used(&rig->r.vd, Q_STATS, &id, &len));
	assert_false(vd_used(&rig->r.vd, Q_STATS, &id, &len));
	info = info_of(rig);
	assert_int_equal(info.stat_mask, 0xcfff);
	assert_int_equal(info.stat[15], 2015);
}

/* No request is in flight while quiesced, and the buffer is held again afterwards. */
static void vballoon_quiesce__buffer_of_statistics__back_in_the_ring(void **state)
{
	struct rig *rig = *state;
	uint32_t id, len;

	send_stats(rig, 0, 3, 1);
	uint16_t next = rig->r.dev->queue[Q_STATS].next_avail;
	mmio_quiesce(rig->r.mmio);
	assert_int_equal(rig->r.dev->queue[Q_STATS].in_flight, 0);
	assert_int_equal(rig->r.dev->queue[Q_STATS].next_avail, (uint16_t)(next - 1));
	mmio_unquiesce(rig->r.mmio);
	assert_int_equal(rig->r.dev->queue[Q_STATS].in_flight, 1);
	assert_int_equal(rig->r.dev->queue[Q_STATS].next_avail, next);
	assert_false(vd_used(&rig->r.vd, Q_STATS, &id, &len));
}

static void vballoon_stats__interval_over__asked_again(void **state)
{
	struct rig *rig = *state;
	const struct vballoon_cfg cfg = {.id = "balloon", .stats_interval_s = 1};
	uint32_t id, len;

	vd_rig_deinit(&rig->r);
	close(rig->file);
	vd_rig_init(&rig->r, MEM);
	back_with_file(rig);
	vd_rig_plug(&rig->r, balloon(&cfg));
	vd_start(&rig->r.vd, rig->r.mmio, rig->r.dev->offered, 3, 64);
	send_stats(rig, 0, 3, 1);
	assert_false(vd_used(&rig->r.vd, Q_STATS, &id, &len));
	while (!vd_used(&rig->r.vd, Q_STATS, &id, &len))
		assert_int_equal(loop_step(rig->r.loop, LOOP_WAIT), 0);
	send_stats(rig, 0, 3, 5);
	assert_int_equal(info_of(rig).stat_count, 2);
}

/* Without statistics the reports come on the third queue: numbers have no gaps. */
static void vballoon_report__no_statistics__third_queue(void **state)
{
	struct rig *rig = *state;
	const struct vd_seg seg = {DATA, 2 * GM_PAGE, true};

	vd_start(&rig->r.vd, rig->r.mmio, rig->r.dev->offered & ~VBALLOON_F_STATS, 3, 64);
	vd_add_direct(&rig->r.vd, 2, &seg, 1);
	vd_kick(rig->r.mmio, 2);
	vd_turns(&rig->r, 3);
	assert_int_equal(info_of(rig).reported_bytes, 2 * GM_PAGE);
	assert_int_equal(info_of(rig).stat_count, 0);
}

static void vballoon_features__as_configured(void **state)
{
	(void)state;
	struct vballoon_cfg cfg = {.id = "b"};
	struct dev *dev = balloon(&cfg);

	assert_int_equal(dev->offered & 0xff, 0);
	dev->ops->destroy(dev);
	cfg = (struct vballoon_cfg){
		.id = "b", .deflate_on_oom = true, .reporting = true, .stats_interval_s = 1};
	dev = balloon(&cfg);
	assert_int_equal(dev->offered & 0xff,
			 VBALLOON_F_STATS | VBALLOON_F_OOM | VBALLOON_F_REPORTING);
	dev->ops->destroy(dev);
}

static void vballoon_malformed_chain__needs_reset_then_works(void **state)
{
	struct rig *rig = *state;

	for (unsigned queue = 0; queue < QUEUES; queue++) {
		const struct vd_seg seg = {VD_BASE + MEM - 4, 4096, queue == Q_REPORT};
		vd_add_direct(&rig->r.vd, queue, &seg, 1);
		vd_kick(rig->r.mmio, queue);
		vd_turns(&rig->r, 3);
		assert_int_equal(vd_r32(rig->r.mmio, 0x70), 15 | ST_BREAK);
		vd_start(&rig->r.vd, rig->r.mmio, rig->r.dev->offered, QUEUES, 64);
	}
	send_pfns(rig, Q_INFLATE, &(uint32_t){DATA_PFN}, 1);
	assert_int_equal(info_of(rig).inflated_bytes, GM_PAGE);
}

static void vballoon_save__load__the_same(void **state)
{
	struct rig *rig = *state;
	struct vballoon_cfg cfg = {.id = "b"};
	struct dev *other = balloon(&cfg);
	struct snap_out out;
	struct snap_in in;
	struct vballoon_info info;

	send_stats(rig, 0, 16, 1000);
	vballoon_set_target(rig->r.dev, 99);
	vd_w32(rig->r.mmio, 0x104, 98);
	mmio_quiesce(rig->r.mmio);
	assert_int_equal(snap_out_init(&out), 0);
	vballoon_ops.save(rig->r.dev, &out, 3);
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), 0);
	assert_int_equal(vballoon_ops.load(other, &in, 2, NULL), -EBADMSG);
	assert_int_equal(vballoon_ops.load(other, &in, 3, NULL), 0);
	vballoon_info(other, &info);
	assert_int_equal(info.target_pages, 99);
	assert_int_equal(info.actual_pages, 98);
	assert_int_equal(info.stat_mask, 0xffff);
	assert_int_equal(info.stat[15], 1015);
	snap_out_free(&out);
	other->ops->destroy(other);
}

/* In another machine over a copy of memory: the driver goes on, its buffer of statistics is held again. */
static void vballoon_load__another_machine__driver_goes_on(void **state)
{
	struct rig *rig = *state, other = {.file = -1};
	const struct vballoon_cfg cfg = {
		.id = "balloon", .reporting = true, .stats_interval_s = 3600};
	struct snap_out out;
	struct snap_in in;
	uint32_t id, len;

	send_stats(rig, 0, 3, 1000);
	mmio_quiesce(rig->r.mmio);
	assert_int_equal(snap_out_init(&out), 0);
	mmio_save(rig->r.mmio, &out, 3);
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), 0);

	vd_rig_init(&other.r, MEM);
	back_with_file(&other);
	memcpy(other.r.vd.mem, rig->r.vd.mem, MEM);
	memcpy(other.r.vd.q, rig->r.vd.q, sizeof(other.r.vd.q));
	vd_rig_plug(&other.r, balloon(&cfg));
	assert_int_equal(mmio_load(other.r.mmio, &in, 3, NULL), 0);
	mmio_unquiesce(other.r.mmio);
	assert_int_equal(other.r.dev->queue[Q_STATS].in_flight, 1);
	assert_int_equal(info_of(&other).stat[2], 1002);
	assert_false(vd_used(&other.r.vd, Q_STATS, &id, &len));
	send_pfns(&other, Q_INFLATE, &(uint32_t){DATA_PFN + 5}, 1);
	assert_int_equal(resident(&other), PAGES - 1);
	assert_int_equal(resident(rig), PAGES);

	snap_out_free(&out);
	vd_rig_deinit(&other.r);
	close(other.file);
}

static void vballoon_load__reserved_bits__refused(void **state)
{
	(void)state;
	struct vballoon_cfg cfg = {.id = "b"};
	struct dev *dev = balloon(&cfg);

	for (unsigned bad = 0; bad < 2; bad++) {
		struct snap_out out;
		struct snap_in in;
		assert_int_equal(snap_out_init(&out), 0);
		struct snap_vballoon *s = snap_put(&out, SNAP_VBALLOON, 1, 0, sizeof(*s));
		assert_non_null(s);
		s->rsvd = bad == 0;
		s->stat_mask = bad == 1 ? 1u << 16 : 0;
		assert_int_equal(snap_out_finish(&out, NULL), 0);
		assert_int_equal(snap_in_open(&in, out.buf, out.len, NULL), 0);
		assert_int_equal(vballoon_ops.load(dev, &in, 0, NULL), -EBADMSG);
		snap_out_free(&out);
	}
	dev->ops->destroy(dev);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(vballoon_inflate__pages_leave_the_file_others_stay),
		T(vballoon_inflate__outside_and_twice__passed_over),
		T(vballoon_inflate__run_over_the_end__nothing_given),
		T(vballoon_inflate__long_request__bounded),
		T(vballoon_deflate__pages_come_back_when_touched),
		T(vballoon_report__whole_pages_within_leave),
		T(vballoon_reports__many__bounded_a_turn_none_lost),
		T(vballoon_config__target_and_actual),
		T(vballoon_stats__taken_and_held),
		T(vballoon_quiesce__buffer_of_statistics__back_in_the_ring),
		T(vballoon_stats__interval_over__asked_again),
		T(vballoon_report__no_statistics__third_queue),
		cmocka_unit_test(vballoon_features__as_configured),
		T(vballoon_malformed_chain__needs_reset_then_works),
		T(vballoon_save__load__the_same),
		T(vballoon_load__another_machine__driver_goes_on),
		cmocka_unit_test(vballoon_load__reserved_bits__refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
