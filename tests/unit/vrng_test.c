/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng through its registers and ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/vrng.h"
#include "tests/unit/vdriver.h"

#define MEM      (UINT64_C(8) << 20)
#define ST_BREAK 64u

static int setup(void **state)
{
	struct vd_rig *r = calloc(1, sizeof(*r));
	struct dev *dev = NULL;

	vd_rig_init(r, MEM);
	assert_int_equal(vrng_create(&dev, "rng", NULL), 0);
	vd_rig_plug(r, dev);
	vd_start(&r->vd, r->mmio, dev->offered, 1, VRNG_QUEUE_MAX);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	vd_rig_deinit(*state);
	free(*state);
	return 0;
}

static unsigned drain(struct vd_rig *r, uint64_t *bytes)
{
	uint32_t id, len;
	unsigned n = 0;

	while (vd_used(&r->vd, 0, &id, &len)) {
		*bytes += len;
		n++;
	}
	return n;
}

static void vrng_request__filled_and_nothing_else(void **state)
{
	struct vd_rig *r = *state;
	const struct vd_seg seg[] = {{r->vd.data, 8, false}, {r->vd.data + 64, 100, true}};
	uint8_t *at = vd_ptr(&r->vd, r->vd.data, 256), zero[100] = {0};
	uint64_t bytes = 0;

	vd_add_direct(&r->vd, 0, seg, 2);
	vd_kick(r->mmio, 0);
	vd_turns(r, 3);
	assert_int_equal(drain(r, &bytes), 1);
	assert_int_equal(bytes, 100);
	assert_int_equal(vd_irqs(r), 1);
	assert_memory_equal(at, zero, 64);
	assert_memory_equal(at + 164, zero, 92);
	assert_memory_not_equal(at + 64, zero, 100);
}

static void vrng_request__long__answered_in_part(void **state)
{
	struct vd_rig *r = *state;
	const struct vd_seg seg = {r->vd.data, 1u << 20, true};
	uint64_t bytes = 0;

	vd_add_direct(&r->vd, 0, &seg, 1);
	vd_kick(r->mmio, 0);
	vd_turns(r, 3);
	assert_int_equal(drain(r, &bytes), 1);
	assert_int_equal(bytes, VRNG_REQ_MAX);
}

/* More than a turn's share is answered over several turns, by itself and entirely. */
static void vrng_requests__many__bounded_a_turn_none_lost(void **state)
{
	struct vd_rig *r = *state;
	const struct vd_seg seg = {r->vd.data, VRNG_REQ_MAX, true};
	uint64_t bytes = 0;
	unsigned n;

	for (unsigned i = 0; i < VRNG_QUEUE_MAX; i++)
		vd_add_direct(&r->vd, 0, &seg, 1);
	vd_kick(r->mmio, 0);
	assert_int_equal(loop_step(r->loop, LOOP_WAIT), 0);
	n = drain(r, &bytes);
	assert_int_equal(bytes, VRNG_TURN_MAX);
	while (n < VRNG_QUEUE_MAX) {
		assert_int_equal(loop_step(r->loop, LOOP_WAIT), 0);
		n += drain(r, &bytes);
	}
	assert_int_equal(bytes, VRNG_QUEUE_MAX * VRNG_REQ_MAX);
}

static void vrng_request__nothing_writable__returned_empty(void **state)
{
	struct vd_rig *r = *state;
	const struct vd_seg seg = {r->vd.data, 8, false};
	uint64_t bytes = 0;

	vd_add_direct(&r->vd, 0, &seg, 1);
	vd_kick(r->mmio, 0);
	vd_turns(r, 3);
	assert_int_equal(drain(r, &bytes), 1);
	assert_int_equal(bytes, 0);
}

static void vrng_request__outside_memory__needs_reset(void **state)
{
	struct vd_rig *r = *state;
	const struct vd_seg seg = {VD_BASE + MEM - 4, 8, true};

	vd_add_direct(&r->vd, 0, &seg, 1);
	vd_kick(r->mmio, 0);
	vd_turns(r, 3);
	assert_int_equal(vd_r32(r->mmio, 0x70), 15 | ST_BREAK);
	assert_int_equal(vd_irqs(r), 1);
	vd_start(&r->vd, r->mmio, r->dev->offered, 1, VRNG_QUEUE_MAX);
	vrng_request__filled_and_nothing_else(state);
}

/* Reset or quiesce while the rest of the ring waits for the timer. */
static void vrng_reset__rest_waiting__next_session_served(void **state)
{
	struct vd_rig *r = *state;
	const struct vd_seg seg = {r->vd.data, VRNG_REQ_MAX, true};

	for (unsigned i = 0; i < VRNG_QUEUE_MAX; i++)
		vd_add_direct(&r->vd, 0, &seg, 1);
	vd_kick(r->mmio, 0);
	assert_int_equal(loop_step(r->loop, LOOP_WAIT), 0);
	mmio_quiesce(r->mmio);
	mmio_unquiesce(r->mmio);
	vd_start(&r->vd, r->mmio, r->dev->offered, 1, VRNG_QUEUE_MAX);
	memset(vd_ptr(&r->vd, r->vd.data, 256), 0, 256);
	vd_irqs(r);
	vrng_request__filled_and_nothing_else(state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(vrng_request__filled_and_nothing_else),
		T(vrng_request__long__answered_in_part),
		T(vrng_requests__many__bounded_a_turn_none_lost),
		T(vrng_request__nothing_writable__returned_empty),
		T(vrng_request__outside_memory__needs_reset),
		T(vrng_reset__rest_waiting__next_session_served),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
