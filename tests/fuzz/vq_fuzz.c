/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split queue over a guest memory image that the fuzzer wrote: pop, look, push, while memory changes.
 * Input: {size, flags, first index}, then commands {byte}, then the image.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vq.h"

#define MEM   0x4000u
#define BASE  0x1000u
#define DESC  (BASE + 0x000u)
#define AVAIL (BASE + 0x1000u)
#define USED  (BASE + 0x1400u)
#define STEPS 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t mem[MEM] __attribute__((aligned(4096)));
static struct vq_req req[4];
static unsigned out; /* tokens in req[] */

static void look(const struct vq *vq, const struct vq_req *r)
{
	uint8_t buf[64];
	struct iovec iov[8];

	vq_read(vq, r, r->head, buf, sizeof(buf));
	vq_write(vq, r, r->head, buf, sizeof(buf));
	int n = vq_iov_writable(vq, r, 0, r->writable_bytes, iov, 8);
	for (int i = 0; i < n; i++)
		if ((uint8_t *)iov[i].iov_base < mem ||
		    (uint8_t *)iov[i].iov_base + iov[i].iov_len > mem + MEM)
			abort();
	vq_mark_written(vq, r, 0, r->writable_bytes);
}

static void step(struct vq *vq, uint8_t what)
{
	switch (what % 6) {
	case 0:
		if (out < 4 && vq_pop(vq, &req[out]) == 1)
			look(vq, &req[out++]);
		break;
	case 1:
		if (out)
			(void)vq_push(vq, &req[out - 1], (uint32_t)req[out - 1].writable_bytes),
				out--;
		break;
	case 2:
		if (out) /* the last popped one only: that is the contract */
			vq_unpop(vq, &req[--out]);
		break;
	case 3: (void)vq_should_interrupt(vq); break;
	case 4: (void)vq_want_kicks(vq, what & 8); break;
	case 5: mem[(what * 2654435761u) % MEM] ^= what; break; /* the driver writes meanwhile */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gmem gm = {0};

	if (size < 4 + STEPS)
		return 0;
	memset(mem, 0, sizeof(mem));
	memcpy(mem, data + 4 + STEPS, size - 4 - STEPS < MEM ? size - 4 - STEPS : MEM);
	if (gm_add(&gm, (gpa_t){BASE}, mem, MEM))
		abort();
	struct vq vq = {.gm = &gm,
			.size = (uint16_t)(1u << data[0] % 9),
			.event_idx = data[1] & 1,
			.desc = {DESC},
			.avail = {AVAIL},
			.used = {USED}};
	vq.next_avail = vq.next_used = vq.signalled = (uint16_t)(data[2] | data[3] << 8);
	if (vq_check(&vq))
		abort();
	vq.ready = true;
	out = 0;
	for (unsigned i = 0; i < STEPS; i++)
		step(&vq, data[4 + i]);
	vq_reset(&vq);
	return 0;
}
