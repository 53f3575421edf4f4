/* SPDX-License-Identifier: Apache-2.0 */
/* Generation id and VMClock on memory and an eventfd of the test's own: no KVM. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "vmm/layout.h"
#include "vmm/machine.h"
#include "vmm/vmgenid.h"
#include "wire/snap_vmgenid.h"

#define MEM (1u << 20)

struct fixture {
	struct vmm m; /* of which vmgenid.c sees memory and one interrupt line */
	uint8_t mem[MEM];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(gm_add(&f->m.gm, gpa(0), f->mem, MEM), 0);
	irq_init(&f->m.irq, NULL);
	assert_int_equal(vmgenid_line(&f->m, NULL), 0);
	f->m.irq.route[LAYOUT_GED_GSI].on = true;
	assert_int_equal(vmgenid_init(&f->m, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	irq_deinit(&f->m.irq);
	free(f);
	return 0;
}

static uint64_t raised(const struct fixture *f)
{
	uint64_t n = 0;
	ssize_t got = read(f->m.irq.fd[LAYOUT_GED_GSI], &n, sizeof(n));
	return got == sizeof(n) ? n : 0;
}

static const uint8_t *clock_of(const struct fixture *f)
{
	return f->mem + 0xdf000;
}

static void vmgenid_init__pages_as_specified(void **state)
{
	const struct fixture *f = *state;
	const uint8_t *c = clock_of(f), zero[VMGENID_SIZE] = {0};

	assert_memory_not_equal(f->mem + 0xde000, zero, VMGENID_SIZE);
	assert_memory_equal(c, "VCLK", 4);
	assert_int_equal(le32_load(c + 4), 4096);
	assert_int_equal(le16_load(c + 8), 1);
	assert_int_equal(c[0x0a], 0xff);          /* no counter */
	assert_int_equal(le32_load(c + 0x0c), 0); /* sequence */
	assert_int_equal(le64_load(c + 0x10), 0);
	assert_int_equal(le64_load(c + 0x18), 0x300);
	assert_int_equal(c[0x22], 0); /* status: unknown */
	assert_int_equal(le64_load(c + 0x68), 0);
	for (unsigned i = 0x70; i < 4096; i++)
		assert_int_equal(c[i], 0);
	assert_int_equal(raised(f), 0);
}

static void vmgenid_bump__id_counters_and_interrupt(void **state)
{
	struct fixture *f = *state;
	const uint8_t *c = clock_of(f);
	uint8_t before[VMGENID_SIZE];

	for (unsigned i = 1; i <= 100; i++) {
		memcpy(before, f->mem + 0xde000, sizeof(before));
		assert_int_equal(vmgenid_bump(&f->m, NULL), 0);
		assert_memory_not_equal(f->mem + 0xde000, before, sizeof(before));
		assert_memory_equal(f->mem + 0xde000, f->m.vmgenid.id, VMGENID_SIZE);
		assert_int_equal(le32_load(c + 0x0c), 2 * i);
		assert_int_equal(le64_load(c + 0x10), i);
		assert_int_equal(le64_load(c + 0x68), i);
		assert_int_equal(raised(f), 1);
	}
}

/* What the guest writes there does not count. */
static void vmgenid_bump__guest_scribbled__ours_counts(void **state)
{
	struct fixture *f = *state;

	memset(f->mem + 0xdf000, 0xff, 4096);
	assert_int_equal(vmgenid_bump(&f->m, NULL), 0);
	assert_int_equal(le32_load(clock_of(f) + 0x0c), 2);
	assert_int_equal(le64_load(clock_of(f) + 0x68), 1);
}

static void vmgenid_bump__pin_masked__raised_when_unmasked(void **state)
{
	struct fixture *f = *state;

	f->m.irq.route[LAYOUT_GED_GSI].on = false;
	assert_int_equal(vmgenid_bump(&f->m, NULL), 0);
	assert_int_equal(raised(f), 0);
	vmgenid_unmasked(&f->m);
	assert_int_equal(raised(f), 1);
	vmgenid_unmasked(&f->m);
	assert_int_equal(raised(f), 0);
}

static void load_of(struct fixture *f, const struct snap_out *out, int want)
{
	struct snap_in in;

	assert_int_equal(snap_in_open(&in, out->buf, out->len, NULL), 0);
	assert_int_equal(vmgenid_load(&f->m, &in, NULL), want);
}

static void vmgenid_save__load__goes_on_from_there(void **state)
{
	struct fixture *f = *state, *child = calloc(1, sizeof(*child));
	struct snap_out out;

	assert_non_null(child);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(vmgenid_bump(&f->m, NULL), 0);
	assert_int_equal(snap_out_init(&out), 0);
	vmgenid_save(&f->m, &out);
	assert_int_equal(snap_out_finish(&out, NULL), 0);
	load_of(child, &out, 0);
	assert_memory_equal(&child->m.vmgenid, &f->m.vmgenid, sizeof(f->m.vmgenid));

	memcpy(child->mem, f->mem, MEM);
	assert_int_equal(gm_add(&child->m.gm, gpa(0), child->mem, MEM), 0);
	irq_init(&child->m.irq, NULL);
	assert_int_equal(vmgenid_line(&child->m, NULL), 0);
	assert_int_equal(vmgenid_bump(&child->m, NULL), 0);
	assert_memory_not_equal(child->mem + 0xde000, f->mem + 0xde000, VMGENID_SIZE);
	assert_int_equal(le64_load(clock_of(child) + 0x68), 4);
	assert_int_equal(le32_load(clock_of(child) + 0x0c), 8);
	irq_deinit(&child->m.irq);
	snap_out_free(&out);
	free(child);
}

static void vmgenid_load__wrong__refused(void **state)
{
	struct fixture *f = *state;

	for (unsigned bad = 0; bad < 5; bad++) {
		struct snap_out out;
		assert_int_equal(snap_out_init(&out), 0);
		struct snap_vmgenid *id = snap_put(&out, SNAP_VMGENID, 1, 0, sizeof(*id));
		assert_non_null(id);
		id->addr = bad == 0 ? 0x1000 : 0xde000;
		struct snap_vmclock *clock =
			snap_put(&out, SNAP_VMCLOCK, bad == 4 ? 2 : 1, 0, sizeof(*clock));
		assert_non_null(clock);
		clock->addr = bad == 1 ? 0 : 0xdf000;
		clock->seq = bad == 2;
		clock->rsvd = bad == 3;
		assert_int_equal(snap_out_finish(&out, NULL), 0);
		load_of(f, &out, -EBADMSG);
		snap_out_free(&out);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(vmgenid_init__pages_as_specified),
		T(vmgenid_bump__id_counters_and_interrupt),
		T(vmgenid_bump__guest_scribbled__ours_counts),
		T(vmgenid_bump__pin_masked__raised_when_unmasked),
		T(vmgenid_save__load__goes_on_from_there),
		T(vmgenid_load__wrong__refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
