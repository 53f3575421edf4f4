/* SPDX-License-Identifier: Apache-2.0 */
/* The register page in front of a device that writes down what happens to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>

#include <cmocka.h>

#include "tests/unit/vdriver.h"

#define MEM      (UINT64_C(8) << 20)
#define OFFERED  (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | 0x5)
#define ST_BREAK 64u

/* --- the device --------------------------------------------------------------------------------- */
struct probe {
	struct dev dev;
	unsigned activations, resets, kicks[2], quiesces, unquiesces, destroys;
	unsigned in_call; /* activate, kick, reset run one at a time: they are on one thread */
	uint8_t config[8];
};

static struct probe *probe_of(struct dev *dev)
{
	return container_of(dev, struct probe, dev);
}

static void probe_config_read(const struct dev *dev, uint32_t off, void *buf, uint32_t len)
{
	const uint8_t *config = ((const struct probe *)(const void *)dev)->config;
	if (off < 8)
		memcpy(buf, config + off, len < 8 - off ? len : 8 - off);
}

static void probe_config_write(struct dev *dev, uint32_t off, const void *buf, uint32_t len)
{
	if (off < 8)
		memcpy(probe_of(dev)->config + off, buf, len < 8 - off ? len : 8 - off);
}

static void probe_activate(struct dev *dev)
{
	assert_true(loop_here(dev->loop));
	assert_int_equal(probe_of(dev)->in_call++, 0);
	probe_of(dev)->activations++;
	probe_of(dev)->in_call--;
}

static void probe_kick(struct dev *dev, unsigned queue)
{
	struct vq_req req;

	assert_true(loop_here(dev->loop));
	assert_int_equal(probe_of(dev)->in_call++, 0);
	probe_of(dev)->kicks[queue]++;
	if (vq_pop(&dev->queue[queue], &req) == 1)
		vq_push(&dev->queue[queue], &req, 0);
	probe_of(dev)->in_call--;
}

static void probe_reset(struct dev *dev)
{
	assert_true(loop_here(dev->loop));
	assert_int_equal(probe_of(dev)->in_call, 0);
	probe_of(dev)->resets++;
}

static void probe_quiesce(struct dev *dev)
{
	probe_of(dev)->quiesces++;
}

static void probe_unquiesce(struct dev *dev)
{
	probe_of(dev)->unquiesces++;
}

static void probe_destroy(struct dev *dev)
{
	probe_of(dev)->destroys++;
}

static const struct dev_ops probe_ops = {
	.name = "probe",
	.virtio_id = 42,
	.queue_count = 2,
	.queue_size = 64,
	.config_read = probe_config_read,
	.config_write = probe_config_write,
	.activate = probe_activate,
	.kick = probe_kick,
	.reset = probe_reset,
	.quiesce = probe_quiesce,
	.unquiesce = probe_unquiesce,
	.destroy = probe_destroy,
};

struct rig {
	struct vd_rig r;
	struct probe probe;
};

static int setup(void **state)
{
	struct rig *t = calloc(1, sizeof(*t));

	vd_rig_init(&t->r, MEM);
	t->probe.dev.ops = &probe_ops;
	t->probe.dev.offered = OFFERED;
	strcpy(t->probe.dev.id, "probe0");
	memcpy(t->probe.config, "01234567", 8);
	vd_rig_plug(&t->r, &t->probe.dev);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct rig *t = *state;

	vd_rig_deinit(&t->r);
	assert_int_equal(t->probe.destroys, 1);
	free(t);
	return 0;
}

static uint32_t status(struct rig *t)
{
	return vd_r32(t->r.mmio, 0x70);
}

/* --- registers ---------------------------------------------------------------------------------- */
static void mmio_read__identity__as_specified(void **state)
{
	struct rig *t = *state;

	assert_int_equal(vd_r32(t->r.mmio, 0x00), 0x74726976);
	assert_int_equal(vd_r32(t->r.mmio, 0x04), 2);
	assert_int_equal(vd_r32(t->r.mmio, 0x08), 42);
	assert_int_equal(vd_r32(t->r.mmio, 0x34), 64);
	assert_int_equal(vd_r32(t->r.mmio, 0xb0), UINT32_MAX);
	assert_int_equal(vd_r32(t->r.mmio, 0xbc), UINT32_MAX);
	vd_w32(t->r.mmio, 0x30, 2);
	assert_int_equal(vd_r32(t->r.mmio, 0x34), 0); /* no such queue */
}

static void mmio_read__features__banked(void **state)
{
	struct rig *t = *state;

	for (uint32_t sel = 0; sel < 4; sel++) {
		vd_w32(t->r.mmio, 0x14, sel);
		uint32_t want = sel < 2 ? (uint32_t)(OFFERED >> (32 * sel)) : 0;
		assert_int_equal(vd_r32(t->r.mmio, 0x10), want);
	}
}

static void mmio_access__odd_widths__zero_and_ignored(void **state)
{
	struct rig *t = *state;
	uint8_t buf[8];

	for (uint32_t off = 0; off < 0x100; off++)
		for (uint32_t len = 1; len <= 8; len++) {
			if (len == 4 && off % 4 == 0)
				continue;
			memset(buf, 0xff, sizeof(buf));
			mmio_read(t->r.mmio, off, buf, len);
			for (uint32_t i = 0; i < len; i++)
				assert_int_equal(buf[i], 0);
			memset(buf, 0xff, sizeof(buf));
			mmio_write(t->r.mmio, off, buf, len);
		}
	assert_int_equal(status(t), 0);
	memset(buf, 0xff, sizeof(buf));
	mmio_read(t->r.mmio, UINT64_MAX, buf, 8);
	assert_int_equal(buf[0], 0);
	mmio_read(t->r.mmio, MMIO_SIZE - 2, buf, 4);
	mmio_write(t->r.mmio, MMIO_SIZE, buf, 4);
}

static void mmio_config__any_width__device_sees_it(void **state)
{
	struct rig *t = *state;
	char buf[9] = "";

	mmio_read(t->r.mmio, 0x103, buf, 2);
	assert_string_equal(buf, "34");
	mmio_read(t->r.mmio, 0x100, buf, 8);
	assert_string_equal(buf, "01234567");
	mmio_write(t->r.mmio, 0x107, "xyz", 2);
	mmio_read(t->r.mmio, 0x106, buf, 4);
	assert_memory_equal(buf, "6x\0\0", 4);
}

static void mmio_features__not_offered_or_legacy__refused(void **state)
{
	struct rig *t = *state;

	assert_false(vd_negotiate(t->r.mmio, 0));
	assert_false(vd_negotiate(t->r.mmio, 0x1));
	assert_false(vd_negotiate(t->r.mmio, VIRTIO_F_VERSION_1 | 0x2));
	assert_false(vd_negotiate(t->r.mmio, VIRTIO_F_VERSION_1 | UINT64_C(1) << 63));
	vd_w32(t->r.mmio, 0x70, 15); /* DRIVER_OK all the same */
	assert_int_equal(status(t), 3);
	assert_int_equal(t->probe.activations, 0);
	assert_true(vd_negotiate(t->r.mmio, VIRTIO_F_VERSION_1 | 0x4));
	/* fixed from here on */
	vd_w32(t->r.mmio, 0x24, 0);
	vd_w32(t->r.mmio, 0x20, 0xffffffff);
	vd_w32(t->r.mmio, 0x70, 15);
	assert_int_equal(t->probe.dev.acked, VIRTIO_F_VERSION_1 | 0x4);
}

static void mmio_status__bits_are_never_cleared_but_by_reset(void **state)
{
	struct rig *t = *state;

	vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
	assert_int_equal(status(t), 15);
	vd_w32(t->r.mmio, 0x70, 1 | ST_BREAK);
	assert_int_equal(status(t), 15);
	vd_w32(t->r.mmio, 0x70, 128);
	assert_int_equal(status(t), 143);
	vd_w32(t->r.mmio, 0x70, 0);
	assert_int_equal(status(t), 0);
}

static void mmio_queue__ready__frozen(void **state)
{
	struct rig *t = *state;

	assert_true(vd_negotiate(t->r.mmio, OFFERED));
	vd_setup_queue(&t->r.vd, t->r.mmio, 1, 16);
	assert_int_equal(vd_r32(t->r.mmio, 0x44), 1);
	vd_w32(t->r.mmio, 0x38, 32);
	vd_w64(t->r.mmio, 0x80, 12345);
	vd_w32(t->r.mmio, 0x70, 15);
	vd_w32(t->r.mmio, 0x44, 0); /* while running: ignored */
	assert_int_equal(vd_r32(t->r.mmio, 0x44), 1);
	assert_int_equal(t->probe.dev.queue[1].size, 16);
	assert_int_equal(t->probe.dev.queue[1].desc.v, t->r.vd.q[1].desc);
	assert_true(t->probe.dev.queue[1].event_idx);
	assert_false(t->probe.dev.queue[0].ready);
}

/* --- sessions ----------------------------------------------------------------------------------- */
static void mmio_kick__active__reaches_its_queue(void **state)
{
	struct rig *t = *state;

	vd_kick(t->r.mmio, 1); /* too early: forgotten */
	vd_turns(&t->r, 3);
	assert_int_equal(t->probe.kicks[1], 0);
	vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
	assert_int_equal(t->probe.activations, 1);
	assert_int_equal(t->probe.kicks[0], 1); /* activation looks at the rings once */
	vd_kick(t->r.mmio, 0);
	vd_kick(t->r.mmio, 2);
	vd_kick(t->r.mmio, UINT32_MAX);
	vd_turns(&t->r, 3);
	assert_int_equal(t->probe.kicks[0], 2);
	assert_int_equal(t->probe.kicks[1], 1);
	uint64_t one = 1;
	assert_int_equal(write(mmio_kick_fd(t->r.mmio, 1), &one, 8), 8);
	vd_turns(&t->r, 3);
	assert_int_equal(t->probe.kicks[1], 2);
}

static void mmio_kick__quiesced__not_taken(void **state)
{
	struct rig *t = *state;

	vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
	mmio_quiesce(t->r.mmio);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 3);
	assert_int_equal(t->probe.kicks[0], 1);
	mmio_unquiesce(t->r.mmio);
	assert_int_equal(t->probe.unquiesces, 1);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 3);
	assert_int_equal(t->probe.kicks[0], 2);
}

static void mmio_reset__running__everything_forgotten(void **state)
{
	struct rig *t = *state;

	vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
	uint32_t generation = t->probe.dev.queue[0].generation;
	dev_config_changed(&t->probe.dev);
	vd_w32(t->r.mmio, 0x70, 0);
	assert_int_equal(t->probe.resets, 2); /* the handshake begins with one */
	assert_int_equal(status(t), 0);
	assert_int_equal(vd_r32(t->r.mmio, 0x60), 0);
	assert_int_equal(vd_r32(t->r.mmio, 0x44), 0);
	assert_int_equal(t->probe.dev.queue[0].generation, generation + 1);
	assert_false(t->probe.dev.active);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 3);
	assert_int_equal(t->probe.kicks[0], 1);
	vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
	assert_int_equal(t->probe.activations, 2);
	assert_int_equal(status(t), 15);
}

static void mmio_interrupt__status_and_ack(void **state)
{
	struct rig *t = *state;
	const struct vd_seg seg = {t->r.vd.data, 8, true};

	vd_start(&t->r.vd, t->r.mmio, VIRTIO_F_VERSION_1, 2, 16);
	vd_add_direct(&t->r.vd, 0, &seg, 1);
	vd_kick(t->r.mmio, 0);
	vd_turns(&t->r, 3);
	dev_signal(&t->probe.dev, 0);
	assert_int_equal(vd_irqs(&t->r), 1);
	assert_int_equal(vd_r32(t->r.mmio, 0x60), 1);
	uint32_t generation = vd_r32(t->r.mmio, 0xfc);
	dev_config_changed(&t->probe.dev);
	assert_int_equal(vd_r32(t->r.mmio, 0x60), 3);
	assert_int_not_equal(vd_r32(t->r.mmio, 0xfc), generation);
	vd_w32(t->r.mmio, 0x64, 1);
	assert_int_equal(vd_r32(t->r.mmio, 0x60), 2);
	assert_int_equal(vd_irqs(&t->r), 1);
	mmio_reassert(t->r.mmio);
	assert_int_equal(vd_irqs(&t->r), 1);
	vd_w32(t->r.mmio, 0x64, 2);
	mmio_reassert(t->r.mmio);
	assert_int_equal(vd_irqs(&t->r), 0);
}

/* --- guest's faults ----------------------------------------------------------------------------- */
static char last_line[256];
static unsigned lines;
static void take_line(void *ctx, const char *line)
{
	(void)ctx;
	lines++;
	strncpy(last_line, line, sizeof(last_line) - 1);
}

static void mmio_activate__bad_queue__needs_reset(void **state)
{
	struct rig *t = *state;
	const struct {
		uint64_t reg, val;
	} bad[] = {
		{0x80, VD_BASE + MEM},
		{0x80, VD_BASE + 8},
		{0x80, UINT64_MAX - 15},
		{0x90, 1},
		{0x90, VD_BASE + MEM - 2},
		{0xa0, VD_BASE + 2},
		{0xa0, 0},
	};

	t->probe.dev.log = take_line;
	lines = 0;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(vd_negotiate(t->r.mmio, OFFERED));
		vd_setup_queue(&t->r.vd, t->r.mmio, 0, 16);
		vd_w32(t->r.mmio, 0x44, 0);
		vd_w64(t->r.mmio, bad[i].reg, bad[i].val);
		vd_w32(t->r.mmio, 0x44, 1);
		vd_irqs(&t->r);
		vd_w32(t->r.mmio, 0x70, 15);
		assert_int_equal(status(t), 15 | ST_BREAK);
		assert_int_equal(vd_irqs(&t->r), 1);
		assert_int_equal(vd_r32(t->r.mmio, 0x60), DEV_ISR_CONFIG);
	}
	assert_int_equal(t->probe.activations, 0);
	assert_int_equal(t->probe.dev.breaks, ARRAY_LEN(bad));
	assert_string_equal(last_line,
			    "device=probe0 event=broken-by-guest why=\"a queue has a bad "
			    "size, is misaligned or lies outside memory\" dropped=0");
	vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
	assert_int_equal(status(t), 15);
}

static void mmio_activate__bad_queue_size__needs_reset(void **state)
{
	struct rig *t = *state;
	const uint32_t bad[] = {0, 3, 128, 65536, 65536 + 16, UINT32_MAX};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(vd_negotiate(t->r.mmio, OFFERED));
		vd_setup_queue(&t->r.vd, t->r.mmio, 0, 16);
		vd_w32(t->r.mmio, 0x44, 0);
		vd_w32(t->r.mmio, 0x38, bad[i]);
		vd_w32(t->r.mmio, 0x44, 1);
		vd_w32(t->r.mmio, 0x70, 15);
		assert_int_equal(status(t), 15 | ST_BREAK);
	}
}

static void dev_break__many__counted_once_a_session_and_log_limited(void **state)
{
	struct rig *t = *state;

	t->probe.dev.log = take_line;
	lines = 0;
	for (unsigned i = 0; i < 50; i++) {
		vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
		dev_break(&t->probe.dev, "test");
		dev_break(&t->probe.dev, "test");
	}
	assert_int_equal(t->probe.dev.breaks, 50);
	assert_in_range(lines, 1, 49); /* in less than 6 seconds */
	vd_kick(t->r.mmio, 0);
	unsigned before = t->probe.kicks[0];
	vd_turns(&t->r, 3);
	assert_int_equal(t->probe.kicks[0], before);
}

/* --- threads ------------------------------------------------------------------------------------ */
static void *run_loop(void *loop)
{
	assert_int_equal(loop_run(loop), 0);
	return NULL;
}

struct hammer {
	struct mmio *mmio;
	const struct vd *vd;
	uint64_t seed;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	for (unsigned i = 0; i < 4000; i++) {
		uint64_t what = vd_rand(&h->seed) % 16;
		uint32_t val = (uint32_t)vd_rand(&h->seed);
		if (what == 0)
			vd_w32(h->mmio, 0x70, 0);
		else if (what < 6)
			vd_negotiate(h->mmio, OFFERED);
		else if (what < 8)
			vd_w32(h->mmio, 0x70, 15);
		else if (what < 10)
			vd_w32(h->mmio, (val % 64) * 4, (uint32_t)vd_rand(&h->seed));
		else if (what < 12)
			vd_kick(h->mmio, val % 3);
		else if (what == 12) {
			vd_w32(h->mmio, 0x30, val % 2);
			vd_w32(h->mmio, 0x38, 16);
			vd_w64(h->mmio, 0x80, h->vd->q[0].desc);
			vd_w64(h->mmio, 0x90, h->vd->q[0].avail);
			vd_w64(h->mmio, 0xa0, h->vd->q[0].used);
			vd_w32(h->mmio, 0x44, 1);
		} else
			vd_r32(h->mmio, (val % 128) * 4);
	}
	return NULL;
}

/* Four vCPUs reset, start and poke one device at random while the io thread serves it. */
static void mmio__vcpus_hammer__survives_and_serves(void **state)
{
	struct rig *t = *state;
	pthread_t io, vcpu[4];
	struct hammer h[4];

	/* a loop of its own, run by a thread */
	vd_rig_deinit(&t->r);
	memset(&t->r, 0, sizeof(t->r));
	t->probe = (struct probe){.dev = {.ops = &probe_ops, .offered = OFFERED}};
	assert_int_equal(loop_create(&t->r.loop, 64, NULL), 0);
	vd_init(&t->r.vd, MEM);
	t->r.irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vd_rig_plug(&t->r, &t->probe.dev);
	vd_layout(&t->r.vd, 0, 16);
	assert_int_equal(pthread_create(&io, NULL, run_loop, t->r.loop), 0);
	for (unsigned i = 0; i < 4; i++) {
		h[i] = (struct hammer){t->r.mmio, &t->r.vd, 88172645463325252u + i};
		assert_int_equal(pthread_create(&vcpu[i], NULL, hammer, &h[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(vcpu[i], NULL), 0);
	vd_start(&t->r.vd, t->r.mmio, OFFERED, 2, 16);
	assert_int_equal(status(t), 15);
	loop_stop(t->r.loop);
	assert_int_equal(pthread_join(io, NULL), 0);
	assert_true(t->probe.resets > 100);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(mmio_read__identity__as_specified),
		T(mmio_read__features__banked),
		T(mmio_access__odd_widths__zero_and_ignored),
		T(mmio_config__any_width__device_sees_it),
		T(mmio_features__not_offered_or_legacy__refused),
		T(mmio_status__bits_are_never_cleared_but_by_reset),
		T(mmio_queue__ready__frozen),
		T(mmio_kick__active__reaches_its_queue),
		T(mmio_kick__quiesced__not_taken),
		T(mmio_reset__running__everything_forgotten),
		T(mmio_interrupt__status_and_ack),
		T(mmio_activate__bad_queue__needs_reset),
		T(mmio_activate__bad_queue_size__needs_reset),
		T(dev_break__many__counted_once_a_session_and_log_limited),
		T(mmio__vcpus_hammer__survives_and_serves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
