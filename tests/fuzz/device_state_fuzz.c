/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile states of virtio devices: the state of a running device, changed anywhere, loaded into a machine with
 * a guest's rings in memory, which then runs for some turns.  What loads must be saved again byte for byte.
 * Input: {which device, then patches of the sections {offset, value}}; the serial port and the keyboard
 * controller take the whole input as their state.
 */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/i8042.h"
#include "devices/serial.h"
#include "devices/vblk.h"
#include "devices/vrng.h"
#include "devices/vsock.h"
#include "tests/unit/vdriver.h"
#include "wire/snap_dev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MEM         (UINT64_C(8) << 20)
#define PATCHES_MAX 32u
#define TURNS       4u

enum { RNG, BLK, SOCK, KINDS };

static struct dev *create(unsigned kind)
{
	const struct vblk_cfg blk = {.id = "disk", .writeback = true};
	const struct vsock_cfg sock = {.guest_cid = 3, .listen_fd = -1, .ready_fd = -1};
	struct dev *dev = NULL;

	switch (kind) {
	case RNG: VERIFY(vrng_create(&dev, "rng", NULL) == 0); break;
	case BLK: VERIFY(vblk_create(&dev, &blk, NULL) == 0); break;
	default: VERIFY(vsock_create(&dev, &sock, NULL) == 0); break;
	}
	return dev;
}

static void make(struct vd_rig *r, unsigned kind)
{
	memset(r, 0, sizeof(*r));
	vd_rig_init(r, MEM);
	vd_rig_plug(r, create(kind));
}

/* Requests that wait in every ring. */
static void fill_rings(struct vd_rig *r)
{
	for (unsigned q = 0; q < r->dev->ops->queue_count; q++)
		for (unsigned i = 0; i < 4; i++) {
			struct vd_seg seg[2] = {
				{.at = r->vd.data, .len = 64},
				{.at = r->vd.data + 4096, .len = 600, .writable = true}};
			vd_add_direct(&r->vd, q, seg, 2);
		}
}

/* A running device's sections and the memory that goes with them, made once. */
struct parent {
	uint8_t *mem;
	uint8_t sections[1024];
	size_t len;
};

static const struct parent *parent(unsigned kind)
{
	static struct parent made[KINDS];
	struct parent *p = &made[kind];
	struct snap_out out;
	struct vd_rig a;

	if (p->mem)
		return p;
	make(&a, kind);
	vd_start(&a.vd, a.mmio, a.dev->offered, a.dev->ops->queue_count, 16);
	mmio_quiesce(a.mmio);
	fill_rings(&a);
	VERIFY(snap_out_init(&out) == 0);
	size_t from = out.len;
	mmio_save(a.mmio, &out, 0);
	p->len = out.len - from;
	VERIFY(p->len <= sizeof(p->sections));
	memcpy(p->sections, out.buf + from, p->len);
	p->mem = malloc(MEM);
	VERIFY(p->mem);
	memcpy(p->mem, a.vd.mem, MEM);
	snap_out_free(&out);
	vd_rig_deinit(&a);
	return p;
}

static void patch(uint8_t *sections, size_t size, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i + 3 <= len && i < 3u * PATCHES_MAX; i += 3)
		sections[(data[i] | (size_t)data[i + 1] << 8) % size] = data[i + 2];
}

/* The device's sections, by the tags and lengths that mmio_save() gives them. */
static void put_sections(struct snap_out *out, const struct dev *dev, const uint8_t *sections,
			 size_t len)
{
	size_t own = len - sizeof(struct snap_mmio);

	memcpy(snap_put(out, SNAP_MMIO, SNAP_DEV_VERSION, 0, sizeof(struct snap_mmio)), sections,
	       sizeof(struct snap_mmio));
	if (own)
		memcpy(snap_put(out, dev->ops->snap_tag, SNAP_DEV_VERSION, 0, own),
		       sections + sizeof(struct snap_mmio), own);
}

static void save_again(const struct vd_rig *r, const uint8_t *sections, size_t len)
{
	struct snap_out again;

	VERIFY(snap_out_init(&again) == 0);
	size_t from = again.len;
	mmio_save(r->mmio, &again, 0);
	VERIFY(again.len - from == len && memcmp(again.buf + from, sections, len) == 0);
	snap_out_free(&again);
}

static void virtio(unsigned kind, const uint8_t *data, size_t len)
{
	const struct parent *p = parent(kind);
	uint8_t sections[sizeof(p->sections)];
	struct snap_out out;
	struct snap_in in;
	struct vd_rig b;

	memcpy(sections, p->sections, p->len);
	patch(sections, p->len, data, len);
	make(&b, kind);
	memcpy(b.vd.mem, p->mem, VD_QUEUE_AREA);
	for (unsigned q = 1; q < b.dev->ops->queue_count; q++) {
		size_t at = q * (VD_QUEUE_AREA + VQ_SIZE_MAX * 16u * VD_SEG_MAX);
		memcpy(b.vd.mem + at, p->mem + at, VD_QUEUE_AREA);
	}
	VERIFY(snap_out_init(&out) == 0);
	put_sections(&out, b.dev, sections, p->len);
	VERIFY(snap_out_finish(&out, NULL) == 0);
	VERIFY(snap_in_open(&in, out.buf, out.len, NULL) == 0);
	if (mmio_load(b.mmio, &in, 0, NULL) == 0) {
		save_again(&b, sections, p->len);
		mmio_unquiesce(b.mmio);
		vd_turns(&b, TURNS);
	}
	snap_out_free(&out);
	vd_rig_deinit(&b);
}

static void no_tx(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx, (void)bytes, (void)len;
}

static void no_reset(void *ctx)
{
	(void)ctx;
}

static void platform(const uint8_t *data, size_t len)
{
	static const struct serial_ops ops = {.tx = no_tx};
	struct snap_serial uart = {0}, uart_again;
	struct snap_i8042 kbd = {0}, kbd_again;
	struct serial *s;
	struct i8042 *k;

	memcpy(&uart, data, len < sizeof(uart) ? len : sizeof(uart));
	memcpy(&kbd, data, len < sizeof(kbd) ? len : sizeof(kbd));
	VERIFY(serial_create(&s, &ops, NULL, -1, NULL) == 0);
	VERIFY(i8042_create(&k, no_reset, NULL, NULL) == 0);
	if (serial_load(s, &uart, NULL) == 0) {
		serial_save(s, &uart_again);
		VERIFY(memcmp(&uart, &uart_again, sizeof(uart)) == 0);
	}
	if (i8042_load(k, &kbd, NULL) == 0) {
		i8042_save(k, &kbd_again);
		VERIFY(memcmp(&kbd, &kbd_again, sizeof(kbd)) == 0);
	}
	serial_destroy(s);
	i8042_destroy(k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	if (data[0] % 4 == KINDS)
		platform(data + 1, len - 1);
	else
		virtio(data[0] % 4, data + 1, len - 1);
	return 0;
}
