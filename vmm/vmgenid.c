/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is read back from the two pages: they are the guest's to scribble on, what counts is ours. */
#include "vmm/vmgenid.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "vmm/layout.h"
#include "vmm/machine.h"
#include "wire/snap_vmgenid.h"

/* struct vmclock_abi: where what stands; all else is zero, which also says that there is no clock to read. */
enum {
	CLOCK_MAGIC = 0x00,
	CLOCK_PAGE_SIZE = 0x04,
	CLOCK_VERSION = 0x08,
	CLOCK_COUNTER = 0x0a,
	CLOCK_TIME_TYPE = 0x0b,
	CLOCK_SEQ = 0x0c,
	CLOCK_DISRUPTION = 0x10,
	CLOCK_FLAGS = 0x18,
	CLOCK_GENERATION = 0x68,
	CLOCK_SIZE = 0x70,
};
#define MAGIC           0x4b4c4356u /* "VCLK" */
#define COUNTER_INVALID 0xffu
#define TIME_TAI        1u
#define HAS_GENERATION  (UINT64_C(1) << 8)
#define HAS_NOTIFY      (UINT64_C(1) << 9)

static int draw_id(struct vmgenid *g, struct errmsg *why)
{
	ssize_t got = getrandom(g->id, sizeof(g->id), 0);
	return got == sizeof(g->id) ? 0 : err_set(why, EIO, "VM generation id: getrandom");
}

static int write_id(const struct vmm *m, struct errmsg *why)
{
	const struct vmgenid *g = &m->vmgenid;

	int err = gm_write(&m->gm, gpa(LAYOUT_VMGENID), g->id, sizeof(g->id));
	return err ? err_set(why, err, "VM generation id at 0x%x", LAYOUT_VMGENID) : 0;
}

int vmgenid_line(struct vmm *m, struct errmsg *why)
{
	int line = irq_line(&m->irq, LAYOUT_GED_GSI, why);
	return line < 0 ? line : 0;
}

int vmgenid_init(struct vmm *m, struct errmsg *why)
{
	uint8_t clock[CLOCK_SIZE] = {0};

	m->vmgenid = (struct vmgenid){.seq = 0};
	int err = draw_id(&m->vmgenid, why);
	if (!err)
		err = write_id(m, why);
	if (err)
		return err;
	le32_store(clock + CLOCK_MAGIC, MAGIC);
	le32_store(clock + CLOCK_PAGE_SIZE, LAYOUT_PAGE);
	le16_store(clock + CLOCK_VERSION, 1);
	clock[CLOCK_COUNTER] = COUNTER_INVALID;
	clock[CLOCK_TIME_TYPE] = TIME_TAI;
	le64_store(clock + CLOCK_FLAGS, HAS_GENERATION | HAS_NOTIFY);
	err = gm_write(&m->gm, gpa(LAYOUT_VMCLOCK), clock, sizeof(clock));
	return err ? err_set(why, err, "VMClock at 0x%x", LAYOUT_VMCLOCK) : 0;
}

static int clock_store64(const struct vmm *m, unsigned field, uint64_t val)
{
	uint8_t raw[8];

	le64_store(raw, val);
	return gm_write(&m->gm, gpa(LAYOUT_VMCLOCK + field), raw, sizeof(raw));
}

/* A reader that saw an odd count, or two different ones, looks again. */
static int clock_count(struct vmm *m, struct errmsg *why)
{
	struct vmgenid *g = &m->vmgenid;
	const gpa_t seq = gpa(LAYOUT_VMCLOCK + CLOCK_SEQ);

	int err = gm_store32(&m->gm, seq, g->seq + 1);
	if (!err)
		err = clock_store64(m, CLOCK_DISRUPTION, ++g->disruption);
	if (!err)
		err = clock_store64(m, CLOCK_GENERATION, ++g->generation);
	g->seq += 2;
	if (!err)
		err = gm_store32(&m->gm, seq, g->seq);
	return err ? err_set(why, err, "VMClock at 0x%x", LAYOUT_VMCLOCK) : 0;
}

static void vmgenid_raise(const struct vmm *m)
{
	const uint64_t one = 1;
	ssize_t n = write(m->irq.fd[LAYOUT_GED_GSI], &one, sizeof(one));
	VERIFY(n == sizeof(one) || errno == EAGAIN); /* full means: raised, and not yet taken */
}

int vmgenid_bump(struct vmm *m, struct errmsg *why)
{
	int err = draw_id(&m->vmgenid, why);
	if (!err)
		err = write_id(m, why);
	if (!err)
		err = clock_count(m, why);
	if (err)
		return err;
	if (m->irq.route[LAYOUT_GED_GSI].on)
		vmgenid_raise(m);
	else
		__atomic_store_n(&m->vmgenid.unheard, true, __ATOMIC_RELEASE);
	return 0;
}

void vmgenid_unmasked(struct vmm *m)
{
	if (__atomic_exchange_n(&m->vmgenid.unheard, false, __ATOMIC_ACQ_REL))
		vmgenid_raise(m);
}

void vmgenid_save(const struct vmm *m, struct snap_out *out)
{
	const struct vmgenid *g = &m->vmgenid;
	struct snap_vmgenid *id = snap_put(out, SNAP_VMGENID, SNAP_VMGENID_VERSION, 0, sizeof(*id));
	if (id) {
		id->addr = LAYOUT_VMGENID;
		memcpy(id->id, g->id, sizeof(id->id));
	}
	struct snap_vmclock *clock =
		snap_put(out, SNAP_VMCLOCK, SNAP_VMCLOCK_VERSION, 0, sizeof(*clock));
	if (clock) {
		clock->addr = LAYOUT_VMCLOCK;
		clock->disruption = g->disruption;
		clock->generation = g->generation;
		clock->seq = g->seq;
	}
}

int vmgenid_load(struct vmm *m, const struct snap_in *in, struct errmsg *why)
{
	struct snap_vmgenid id;
	struct snap_vmclock clock;

	int err = snap_take(in, SNAP_VMGENID, SNAP_VMGENID_VERSION, 0, &id, sizeof(id), why);
	if (!err)
		err = snap_take(in, SNAP_VMCLOCK, SNAP_VMCLOCK_VERSION, 0, &clock, sizeof(clock),
				why);
	if (err)
		return err;
	if (id.addr != LAYOUT_VMGENID || clock.addr != LAYOUT_VMCLOCK)
		return err_set(why, EBADMSG,
			       "VM generation id at 0x%llx, VMClock at 0x%llx: not of this machine",
			       (unsigned long long)id.addr, (unsigned long long)clock.addr);
	if (clock.rsvd || clock.seq & 1)
		return err_set(why, EBADMSG, "VMClock: reserved bits are set");
	m->vmgenid = (struct vmgenid){
		.seq = clock.seq, .disruption = clock.disruption, .generation = clock.generation};
	memcpy(m->vmgenid.id, id.id, sizeof(id.id));
	return 0;
}
