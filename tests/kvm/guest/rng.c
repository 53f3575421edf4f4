/* SPDX-License-Identifier: Apache-2.0 */
/* Asks virtio-rng twice: both answers are there, and they differ. */
#include "tests/kvm/guest/virtio.h"

static struct vio rng;

static uint32_t ask(volatile uint64_t *to)
{
	struct vio_seg seg = {to, 64, 1};
	vio_add(&rng.q[0], &seg, 1);
	vio_kick(&rng, 0);
	return vio_wait(&rng.q[0]).len;
}

void guest_main(const void *zero_page)
{
	volatile uint64_t *a = (volatile uint64_t *)VIO_DATA, *b = a + 8;
	uint64_t any = 0, same = 0;

	(void)zero_page;
	CHECK(vio_start(&rng, 0, 1, VIO_VERSION_1));
	for (unsigned i = 0; i < 16; i++)
		a[i] = 0;
	CHECK(ask(a) == 64);
	CHECK(ask(b) == 64);
	for (unsigned i = 0; i < 8; i++) {
		any |= a[i];
		same += a[i] == b[i];
	}
	CHECK(any);
	CHECK(same == 0);
	guest_verdict();
}
