/* SPDX-License-Identifier: Apache-2.0 */
/* The split queue against a plain driver (vdriver.h), and against drivers that cheat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <time.h>

#include <cmocka.h>

#include "devices/vq.h"
#include "tests/unit/vdriver.h"

#define MEM (UINT64_C(8) << 20)

struct rig {
	struct vd vd;
	struct vq vq;
	struct vq_req req;
};

static void rig_queue(struct rig *r, uint16_t size, bool event_idx)
{
	vd_layout(&r->vd, 0, size);
	r->vq = (struct vq){.gm = &r->vd.gm,
			    .size = size,
			    .event_idx = event_idx,
			    .desc = gpa(r->vd.q[0].desc),
			    .avail = gpa(r->vd.q[0].avail),
			    .used = gpa(r->vd.q[0].used),
			    .generation = r->vq.generation};
	assert_int_equal(vq_check(&r->vq), 0);
	r->vq.ready = true;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	assert_non_null(r);
	vd_init(&r->vd, MEM);
	rig_queue(r, 16, false);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;
	vd_free(&r->vd);
	free(r);
	return 0;
}

static struct vd_desc *desc(struct rig *r, unsigned index)
{
	return vd_desc_at(&r->vd, r->vd.q[0].desc, index);
}

/* --- what is allowed ---------------------------------------------------------------------------- */
static void vq_pop__empty__zero(void **state)
{
	struct rig *r = *state;
	assert_int_equal(vq_pop(&r->vq, &r->req), 0);
}

static void vq_pop__not_ready__zero(void **state)
{
	struct rig *r = *state;
	const struct vd_seg seg = {r->vd.data, 8, false};

	vd_add_direct(&r->vd, 0, &seg, 1);
	r->vq.ready = false;
	assert_int_equal(vq_pop(&r->vq, &r->req), 0);
}

static void vq_pop__mixed_chain__copied_in_order(void **state)
{
	struct rig *r = *state;
	const uint64_t d = r->vd.data;
	const struct vd_seg seg[] = {
		{d, 3, false}, {d + 100, 5, false}, {d + 200, 7, true}, {d + 300, 0, true}};
	uint16_t head = vd_add_direct(&r->vd, 0, seg, 4);
	char buf[16] = "";

	memcpy(vd_ptr(&r->vd, d, 3), "abc", 3);
	memcpy(vd_ptr(&r->vd, d + 100, 5), "defgh", 5);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	assert_int_equal(r->req.head, head);
	assert_int_equal(r->req.readable, 2);
	assert_int_equal(r->req.writable, 1); /* the empty one carries nothing */
	assert_int_equal(r->req.readable_bytes, 8);
	assert_int_equal(r->req.writable_bytes, 7);
	assert_int_equal(vq_read(&r->vq, &r->req, 1, buf, sizeof(buf)), 7);
	assert_string_equal(buf, "bcdefgh");
	assert_int_equal(vq_write(&r->vq, &r->req, 2, "0123456789", 10), 5);
	assert_memory_equal(vd_ptr(&r->vd, d + 202, 5), "01234", 5);
	assert_int_equal(vq_push(&r->vq, &r->req, 7), 0);
	uint32_t id, len;
	assert_true(vd_used(&r->vd, 0, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 7);
	assert_false(vd_used(&r->vd, 0, &id, &len));
}

static void vq_pop__direct_then_indirect__one_request(void **state)
{
	struct rig *r = *state;
	const uint64_t d = r->vd.data;
	const struct vd_seg inner[] = {{d + 64, 4, false}, {d + 128, 6, true}};

	vd_add_indirect(&r->vd, 0, inner, 2); /* takes descriptor 0 */
	*desc(r, 5) = (struct vd_desc){.addr = d, .len = 2, .flags = VD_NEXT, .next = 0};
	*vd_u16(&r->vd, r->vd.q[0].avail + 4) = 5;
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	assert_int_equal(r->req.readable_bytes, 6);
	assert_int_equal(r->req.writable_bytes, 6);
}

static void vq_iov__ranges__cut_and_refused(void **state)
{
	struct rig *r = *state;
	const uint64_t d = r->vd.data;
	const struct vd_seg seg[] = {{d, 10, true}, {d + 100, 10, true}, {d + 200, 10, true}};
	struct iovec iov[3];

	vd_add_direct(&r->vd, 0, seg, 3);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	assert_int_equal(vq_iov_writable(&r->vq, &r->req, 5, 20, iov, 3), 3);
	assert_int_equal(iov[0].iov_len, 5);
	assert_int_equal(iov[1].iov_len, 10);
	assert_int_equal(iov[2].iov_len, 5);
	assert_ptr_equal(iov[2].iov_base, vd_ptr(&r->vd, d + 200, 5));
	assert_int_equal(vq_iov_writable(&r->vq, &r->req, 5, 20, iov, 2), -E2BIG);
	assert_int_equal(vq_iov_writable(&r->vq, &r->req, 5, 26, iov, 3), -EFAULT);
	assert_int_equal(vq_iov_readable(&r->vq, &r->req, 0, 1, iov, 3), -EFAULT);
	assert_int_equal(vq_iov_readable(&r->vq, &r->req, 0, 0, iov, 3), 0);
}

static void vq_mark_written__range__exactly_its_pages_dirty(void **state)
{
	struct rig *r = *state;
	uint64_t d = (r->vd.data + GM_PAGE - 1) / GM_PAGE * GM_PAGE;
	const struct vd_seg seg[] = {{d, GM_PAGE, true}, {d + 3 * GM_PAGE, 3 * GM_PAGE, true}};
	uint64_t dirty[MEM / GM_PAGE / 64] = {0}, page = (d - VD_BASE) / GM_PAGE;

	vd_add_direct(&r->vd, 0, seg, 2);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	gm_set_dirty(&r->vd.gm, 0, dirty);
	vq_mark_written(&r->vq, &r->req, GM_PAGE - 1, GM_PAGE + 2);
	for (uint64_t i = 0; i < MEM / GM_PAGE; i++) {
		bool want = i == page || i == page + 3 || i == page + 4;
		assert_int_equal(dirty[i / 64] >> i % 64 & 1, want);
	}
}

static void vq_unpop__popped_again_same(void **state)
{
	struct rig *r = *state;
	const struct vd_seg seg = {r->vd.data, 8, false};
	uint16_t head = vd_add_direct(&r->vd, 0, &seg, 1);

	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	vq_unpop(&r->vq, &r->req);
	assert_int_equal(r->vq.in_flight, 0);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	assert_int_equal(r->req.head, head);
}

static void vq_push__token_of_before_reset__stale_and_silent(void **state)
{
	struct rig *r = *state;
	const struct vd_seg seg = {r->vd.data, 8, true};

	vd_add_direct(&r->vd, 0, &seg, 1);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	struct vq_req old = r->req;
	vq_reset(&r->vq);
	assert_int_equal(vq_push(&r->vq, &old, 8), -ESTALE);
	rig_queue(r, 16, false);
	vd_add_direct(&r->vd, 0, &seg, 1);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	assert_int_equal(vq_push(&r->vq, &old, 8), -ESTALE);
	vq_unpop(&r->vq, &old);
	assert_int_equal(r->vq.in_flight, 1);
	assert_int_equal(*vd_u16(&r->vd, r->vd.q[0].used + 2), 0);
}

/* --- notifications ------------------------------------------------------------------------------ */
static void one(struct rig *r)
{
	const struct vd_seg seg = {r->vd.data, 8, true};
	uint32_t id, len;

	vd_add_direct(&r->vd, 0, &seg, 1);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	assert_int_equal(vq_push(&r->vq, &r->req, 0), 0);
	assert_true(vd_used(&r->vd, 0, &id, &len));
}

static void vq_should_interrupt__flags__obeyed(void **state)
{
	struct rig *r = *state;

	assert_false(vq_should_interrupt(&r->vq));
	one(r);
	assert_true(vq_should_interrupt(&r->vq));
	assert_false(vq_should_interrupt(&r->vq));
	*vd_u16(&r->vd, r->vd.q[0].avail) = 1;
	one(r);
	assert_false(vq_should_interrupt(&r->vq));
}

/* Every position of the event index against the definition: interrupt when idx went past it. */
static void vq_should_interrupt__event_idx__exactly_when_crossed(void **state)
{
	struct rig *r = *state;

	for (uint32_t start = 65530; start < 65545; start++)
		for (uint32_t event = start - 5; event < start + 8; event++)
			for (uint32_t step = 1; step < 5; step++) {
				rig_queue(r, 16, true);
				r->vq.next_used = (uint16_t)(start + step);
				r->vq.signalled = (uint16_t)start;
				*vd_u16(&r->vd, r->vd.q[0].avail + 4 + 32) = (uint16_t)event;
				bool crossed = event >= start && event < start + step;
				assert_int_equal(vq_should_interrupt(&r->vq), crossed);
			}
}

static void vq_want_kicks__flags__written(void **state)
{
	struct rig *r = *state;

	assert_false(vq_want_kicks(&r->vq, false));
	assert_int_equal(*vd_u16(&r->vd, r->vd.q[0].used), 1);
	assert_false(vq_want_kicks(&r->vq, true));
	assert_int_equal(*vd_u16(&r->vd, r->vd.q[0].used), 0);
}

static void vq_want_kicks__event_idx__asks_for_the_next_one(void **state)
{
	struct rig *r = *state;
	const struct vd_seg seg = {r->vd.data, 8, true};
	uint16_t *event;

	rig_queue(r, 16, true);
	event = vd_u16(&r->vd, r->vd.q[0].used + 4 + 8 * 16);
	one(r);
	one(r);
	assert_int_equal(*event, 0);
	assert_false(vq_want_kicks(&r->vq, false));
	assert_int_equal(*event, 0);
	assert_false(vq_want_kicks(&r->vq, true));
	assert_int_equal(*event, 2);
	vd_add_direct(&r->vd, 0, &seg, 1);
	assert_true(vq_want_kicks(&r->vq, true));
}

/* --- what is refused ---------------------------------------------------------------------------- */
static void refused(struct rig *r)
{
	uint16_t before = r->vq.next_avail;
	assert_int_equal(vq_pop(&r->vq, &r->req), -EPROTO);
	assert_int_equal(r->vq.next_avail, before);
	assert_int_equal(r->vq.in_flight, 0);
}

static void vq_pop__avail_index_too_far__eproto(void **state)
{
	struct rig *r = *state;
	*vd_u16(&r->vd, r->vd.q[0].avail + 2) = 17;
	refused(r);
}

static void vq_pop__head_beyond_queue__eproto(void **state)
{
	struct rig *r = *state;
	vd_publish(&r->vd, &r->vd.q[0], 16);
	refused(r);
}

static void vq_pop__more_out_than_descriptors__eproto(void **state)
{
	struct rig *r = *state;

	*desc(r, 0) = (struct vd_desc){.addr = r->vd.data, .len = 1};
	for (unsigned i = 0; i < 16; i++) {
		vd_publish(&r->vd, &r->vd.q[0], 0);
		assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	}
	vd_publish(&r->vd, &r->vd.q[0], 0);
	assert_int_equal(vq_pop(&r->vq, &r->req), -EPROTO);
}

/* One chain of one or two descriptors at 0 and 1, as each case wants them. */
static void vq_pop__bad_chains__eproto(void **state)
{
	struct rig *r = *state;
	const uint64_t d = r->vd.data, end = VD_BASE + MEM;
	const struct {
		const char *what;
		struct vd_desc first, second;
	} bad[] = {
		{"next beyond queue", {d, 1, VD_NEXT, 16}, {0}},
		{"loop of one", {d, 1, VD_NEXT, 0}, {0}},
		{"loop of two", {d, 0, VD_NEXT, 1}, {d, 0, VD_NEXT, 0}},
		{"readable after writable", {d, 1, VD_NEXT | VD_WRITE, 1}, {d, 1, 0, 0}},
		{"outside memory", {end, 1, 0, 0}, {0}},
		{"leaves memory", {end - 4, 5, 0, 0}, {0}},
		{"wraps", {UINT64_MAX - 3, 8, 0, 0}, {0}},
		{"below memory", {VD_BASE - 1, 1, 0, 0}, {0}},
		{"table of no bytes", {d, 0, VD_INDIRECT, 0}, {0}},
		{"table of odd length", {d, 17, VD_INDIRECT, 0}, {0}},
		{"table outside memory", {end, 16, VD_INDIRECT, 0}, {0}},
		{"table leaves memory", {end - 16, 32, VD_INDIRECT, 0}, {0}},
		{"table with a next", {d, 16, VD_INDIRECT | VD_NEXT, 1}, {d, 1, 0, 0}},
		{"table in a table", {r->vd.q[0].desc, 32, VD_INDIRECT, 0}, {0}},
		{"huge table that loops", {d, 0x10000, VD_INDIRECT, 0}, {0}},
	};

	/* what "huge table that loops" finds: entry 0 leads to itself */
	*vd_desc_at(&r->vd, d, 0) = (struct vd_desc){.addr = d, .len = 0, .flags = VD_NEXT};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		rig_queue(r, 16, false);
		*desc(r, 0) = bad[i].first;
		*desc(r, 1) = bad[i].second;
		vd_publish(&r->vd, &r->vd.q[0], 0);
		if (vq_pop(&r->vq, &r->req) != -EPROTO)
			fail_msg("%s was accepted", bad[i].what);
	}
}

static void vq_pop__too_many_segments_or_bytes__eproto(void **state)
{
	struct rig *r = *state;
	struct vd_seg seg[VQ_SEG_MAX + 1];

	for (unsigned i = 0; i < ARRAY_LEN(seg); i++)
		seg[i] = (struct vd_seg){r->vd.data, 1, true};
	vd_add_indirect(&r->vd, 0, seg, VQ_SEG_MAX);
	assert_int_equal(vq_pop(&r->vq, &r->req), 1);
	assert_int_equal(r->req.writable, VQ_SEG_MAX);
	vd_add_indirect(&r->vd, 0, seg, VQ_SEG_MAX + 1);
	assert_int_equal(vq_pop(&r->vq, &r->req), -EPROTO);
}

static void vq_check__bad_queues__refused(void **state)
{
	struct rig *r = *state;
	const struct vq good = r->vq;
	struct vq vq;

#define BAD(err, ...)                                 \
	do {                                          \
		vq = good;                            \
		__VA_ARGS__;                          \
		assert_int_equal(vq_check(&vq), err); \
	} while (0)
	BAD(-EINVAL, vq.size = 0);
	BAD(-EINVAL, vq.size = 24);
	BAD(-EINVAL, vq.size = 512);
	BAD(-EINVAL, vq.desc.v += 8);
	BAD(-EINVAL, vq.avail.v += 1);
	BAD(-EINVAL, vq.used.v += 2);
	BAD(-EFAULT, vq.desc = gpa(VD_BASE + MEM - 16));
	BAD(-EFAULT, vq.avail = gpa(VD_BASE + MEM - 36));
	BAD(-EFAULT, vq.used = gpa(UINT64_MAX - 3));
#undef BAD
}

/* --- the model: a driver that keeps its own list of what is out ----------------------------------- */
struct model {
	struct vd_seg seg[VQ_SIZE_MAX][VD_SEG_MAX];
	unsigned count[VQ_SIZE_MAX];
	uint16_t order[VQ_SIZE_MAX]; /* heads in the order they were made available */
	unsigned first, n;
};

static void model_add(struct rig *r, struct model *m, uint64_t *seed)
{
	unsigned count = 1 + (unsigned)(vd_rand(seed) % 8), readable = (unsigned)vd_rand(seed) % 9;
	bool indirect = vd_rand(seed) % 2;
	struct vd_seg seg[8];

	if (vd_free_count(&r->vd.q[0]) < (indirect ? 1 : count))
		return;
	for (unsigned i = 0; i < count; i++)
		seg[i] = (struct vd_seg){.at = r->vd.data + vd_rand(seed) % 100000,
					 .len = (uint32_t)(vd_rand(seed) % 5000),
					 .writable = i >= readable};
	uint16_t head = indirect ? vd_add_indirect(&r->vd, 0, seg, count)
				 : vd_add_direct(&r->vd, 0, seg, count);
	memcpy(m->seg[head], seg, sizeof(seg));
	m->count[head] = count;
	m->order[(m->first + m->n++) % VQ_SIZE_MAX] = head;
}

static void model_compare(const struct model *m, const struct vq_req *req)
{
	unsigned at = 0, readable = 0;

	for (unsigned i = 0; i < m->count[req->head]; i++) {
		const struct vd_seg *want = &m->seg[req->head][i];
		if (!want->len)
			continue;
		assert_int_equal(req->seg[at].at.v, want->at);
		assert_int_equal(req->seg[at].len, want->len);
		readable += !want->writable;
		at++;
	}
	assert_int_equal(req->readable + req->writable, at);
	assert_int_equal(req->readable, readable);
}

static void model_round(struct rig *r, uint64_t *seed)
{
	struct model *m = calloc(1, sizeof(*m));
	struct vq_req *out = calloc(VQ_SIZE_MAX, sizeof(*out));
	uint32_t id, len, want_len[VQ_SIZE_MAX];
	unsigned n = 0;

	assert_non_null(m);
	assert_non_null(out);
	rig_queue(r, (uint16_t)(1u << vd_rand(seed) % 9), vd_rand(seed) % 2);
	/* start near the wrap of the indices */
	uint16_t start = (uint16_t)(65536 - vd_rand(seed) % 300);
	r->vq.next_avail = r->vq.next_used = r->vq.signalled = start;
	r->vd.q[0].avail_idx = r->vd.q[0].last_used = start;
	*vd_u16(&r->vd, r->vd.q[0].avail + 2) = *vd_u16(&r->vd, r->vd.q[0].used + 2) = start;
	for (unsigned step = 0; step < 600; step++) {
		unsigned what = (unsigned)(vd_rand(seed) % 4);
		if (what == 0)
			model_add(r, m, seed);
		if (what == 1) {
			assert_int_equal(vq_pop(&r->vq, &out[n]), m->n > 0);
			if (m->n && vd_rand(seed) % 8 == 0) {
				vq_unpop(&r->vq, &out[n]);
			} else if (m->n) {
				assert_int_equal(out[n].head, m->order[m->first]);
				model_compare(m, &out[n++]);
				m->first = (m->first + 1) % VQ_SIZE_MAX;
				m->n--;
			}
		}
		if (what == 2 && n) { /* any that is out, in any order */
			unsigned pick = (unsigned)(vd_rand(seed) % n);
			want_len[out[pick].head] = (uint32_t)out[pick].writable_bytes / 2;
			assert_int_equal(vq_push(&r->vq, &out[pick], want_len[out[pick].head]), 0);
			out[pick] = out[--n];
		}
		if (what == 3 && vd_used(&r->vd, 0, &id, &len))
			assert_int_equal(len, want_len[id]);
		assert_int_equal(r->vq.in_flight, n);
	}
	free(out);
	free(m);
}

static void vq__random_driver__agrees_with_model(void **state)
{
	struct rig *r = *state;
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;

	print_message("SEED=%#llx\n", (unsigned long long)seed);
	for (unsigned i = 0; i < 300; i++)
		model_round(r, &seed);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(vq_pop__empty__zero),
		T(vq_pop__not_ready__zero),
		T(vq_pop__mixed_chain__copied_in_order),
		T(vq_pop__direct_then_indirect__one_request),
		T(vq_iov__ranges__cut_and_refused),
		T(vq_mark_written__range__exactly_its_pages_dirty),
		T(vq_unpop__popped_again_same),
		T(vq_push__token_of_before_reset__stale_and_silent),
		T(vq_should_interrupt__flags__obeyed),
		T(vq_should_interrupt__event_idx__exactly_when_crossed),
		T(vq_want_kicks__flags__written),
		T(vq_want_kicks__event_idx__asks_for_the_next_one),
		T(vq_pop__avail_index_too_far__eproto),
		T(vq_pop__head_beyond_queue__eproto),
		T(vq_pop__more_out_than_descriptors__eproto),
		T(vq_pop__bad_chains__eproto),
		T(vq_pop__too_many_segments_or_bytes__eproto),
		T(vq_check__bad_queues__refused),
		T(vq__random_driver__agrees_with_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
