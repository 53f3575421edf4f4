/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/msr.h"

#define MSR_LIST_MAX 1024u /* what KVM may list; 6.18 lists under 200 */
#define XSAVE_LEGACY 4096u /* bytes of KVM_GET_XSAVE */

struct msr_list { /* as struct kvm_msrs */
	uint32_t count, rsvd;
	struct kvm_msr_entry entry[KVM_MSR_MAX];
};

static int call(int fd, unsigned long request, const char *name, void *arg, struct errmsg *why)
{
	return ioctl(fd, request, arg) < 0 ? err_set(why, errno, "%s", name) : 0;
}

/* For requests that only read what they are given. */
static int give(int fd, unsigned long request, const char *name, const void *arg,
		struct errmsg *why)
{
	return ioctl(fd, request, arg) < 0 ? err_set(why, errno, "%s", name) : 0;
}

/* --- what this KVM knows -------------------------------------------------------------------------- */

static bool has(const struct kvm_vm *vm, unsigned cap)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, (unsigned long)cap) > 0;
}

static struct kvm_device_attr tsc_offset_attr(uint64_t *offset)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};
}

/*
 * A new vCPU's TSC begins near zero: the offset undoes the host's.  Where it is zero KVM does not offset TSCs
 * (a KVM without hardware virtualization, whose guests execute RDTSC natively).
 */
static void probe_tsc(struct kvm_vm *vm, struct kvm_vcpu *first)
{
	uint64_t offset = 0;

	vm->state.tsc_offset = kvm_vcpu_get_tsc_offset(first, &offset, NULL) == 0;
	vm->state.tsc_fixed = vm->state.tsc_offset && offset == 0;
}

static void probe_caps(struct kvm_vm *vm)
{
	struct kvm_state_caps *s = &vm->state;
	int xsave = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	int clock = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK);

	s->sregs2 = has(vm, KVM_CAP_SREGS2);
	s->xsave2 = xsave > 0;
	s->xsave_size = s->xsave2 ? (uint32_t)xsave : XSAVE_LEGACY;
	s->tsc_control = has(vm, KVM_CAP_TSC_CONTROL);
	s->clock_realtime = clock > 0 && (clock & KVM_CLOCK_REALTIME);
}

static void list_add(struct kvm_state_caps *s, uint32_t index)
{
	if (!msr_is_state(index) || s->msr_count == KVM_MSR_MAX)
		return;
	for (unsigned i = 0; i < s->msr_count; i++)
		if (s->msr[i] == index)
			return;
	s->msr[s->msr_count++] = index;
}

static int by_order(const void *a, const void *b)
{
	return msr_order(*(const uint32_t *)a, *(const uint32_t *)b);
}

static void list_drop(struct kvm_state_caps *s, unsigned at)
{
	s->msr_count--;
	memmove(&s->msr[at], &s->msr[at + 1], (s->msr_count - at) * sizeof(s->msr[0]));
}

/*
 * Leaves in the list only what this KVM reads and takes back: it stops at, and so names, the first one
 * that it does not.  What is written is what a new vCPU holds.
 */
static int list_try(struct kvm_state_caps *s, struct kvm_vcpu *first, struct errmsg *why)
{
	struct msr_list list;

	for (;;) {
		list.count = s->msr_count;
		list.rsvd = 0;
		for (unsigned i = 0; i < s->msr_count; i++)
			list.entry[i] = (struct kvm_msr_entry){.index = s->msr[i]};
		int done = ioctl(first->fd, KVM_GET_MSRS, &list);
		if (done == (int)list.count)
			done = ioctl(first->fd, KVM_SET_MSRS, &list);
		if (done < 0)
			return err_set(why, errno, "KVM_GET_MSRS and KVM_SET_MSRS");
		if (done == (int)list.count)
			return 0;
		list_drop(s, (unsigned)done);
	}
}

static int probe_msrs(struct kvm_vm *vm, struct kvm_vcpu *first, struct errmsg *why)
{
	struct { /* begins as struct kvm_msr_list does */
		uint32_t count;
		uint32_t index[MSR_LIST_MAX];
	} listed = {.count = MSR_LIST_MAX};
	struct kvm_state_caps *s = &vm->state;

	if (ioctl(vm->dev_fd, KVM_GET_MSR_INDEX_LIST, &listed) < 0)
		return err_set(why, errno, "KVM_GET_MSR_INDEX_LIST");
	s->msr_count = 0;
	for (unsigned i = 0; i < listed.count; i++)
		list_add(s, listed.index[i]);
	for (unsigned i = 0; msr_unlisted(i); i++)
		list_add(s, msr_unlisted(i));
	qsort(s->msr, s->msr_count, sizeof(s->msr[0]), by_order);
	return list_try(s, first, why);
}

int kvm_state_probe(struct kvm_vm *vm, struct kvm_vcpu *first, struct errmsg *why)
{
	int khz = ioctl(first->fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0)
		return err_set(why, khz < 0 ? errno : EPROTO, "KVM_GET_TSC_KHZ");
	vm->state = (struct kvm_state_caps){.tsc_khz = (uint32_t)khz};
	probe_caps(vm);
	probe_tsc(vm, first);
	return probe_msrs(vm, first, why);
}

/* --- a vCPU --------------------------------------------------------------------------------------- */

int kvm_vcpu_get_mp_state(struct kvm_vcpu *vcpu, uint32_t *state, struct errmsg *why)
{
	struct kvm_mp_state mp = {0};
	int err = call(vcpu->fd, KVM_GET_MP_STATE, "KVM_GET_MP_STATE", &mp, why);

	*state = mp.mp_state;
	return err;
}

int kvm_vcpu_set_mp_state(struct kvm_vcpu *vcpu, uint32_t state, struct errmsg *why)
{
	const struct kvm_mp_state mp = {.mp_state = state};

	return give(vcpu->fd, KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &mp, why);
}

/* Both begin alike, up to apic_base. */
_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) == offsetof(struct kvm_sregs2, flags),
	       "SREGS and SREGS2 begin alike");

int kvm_vcpu_get_sregs2(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, struct kvm_sregs2 *to,
			struct errmsg *why)
{
	struct kvm_sregs old;

	if (vm->state.sregs2)
		return call(vcpu->fd, KVM_GET_SREGS2, "KVM_GET_SREGS2", to, why);
	int err = kvm_vcpu_get_sregs(vcpu, &old, why);
	*to = (struct kvm_sregs2){.flags = 0};
	if (!err)
		memcpy(to, &old, offsetof(struct kvm_sregs2, flags));
	return err;
}

int kvm_vcpu_set_sregs2(const struct kvm_vm *vm, struct kvm_vcpu *vcpu,
			const struct kvm_sregs2 *from, struct errmsg *why)
{
	struct kvm_sregs old = {.interrupt_bitmap = {0}}; /* the events say it */

	if (vm->state.sregs2)
		return give(vcpu->fd, KVM_SET_SREGS2, "KVM_SET_SREGS2", from, why);
	memcpy(&old, from, offsetof(struct kvm_sregs2, flags));
	return kvm_vcpu_set_sregs(vcpu, &old, why);
}

int kvm_vcpu_get_xsave(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, void *area,
		       struct errmsg *why)
{
	if (vm->state.xsave2)
		return call(vcpu->fd, KVM_GET_XSAVE2, "KVM_GET_XSAVE2", area, why);
	return call(vcpu->fd, KVM_GET_XSAVE, "KVM_GET_XSAVE", area, why);
}

int kvm_vcpu_set_xsave(struct kvm_vcpu *vcpu, const void *area, struct errmsg *why)
{
	return give(vcpu->fd, KVM_SET_XSAVE, "KVM_SET_XSAVE", area, why);
}

int kvm_vcpu_get_xcr0(struct kvm_vcpu *vcpu, uint64_t *xcr0, struct errmsg *why)
{
	struct kvm_xcrs xcrs = {0};
	int err = call(vcpu->fd, KVM_GET_XCRS, "KVM_GET_XCRS", &xcrs, why);

	if (!err && (xcrs.nr_xcrs > 1 || xcrs.xcrs[0].xcr))
		return err_set(why, ENOTSUP, "KVM_GET_XCRS: a register beside XCR0");
	*xcr0 = xcrs.nr_xcrs ? xcrs.xcrs[0].value : 0;
	return err;
}

int kvm_vcpu_set_xcr0(struct kvm_vcpu *vcpu, uint64_t xcr0, struct errmsg *why)
{
	const struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = xcr0}}};

	return give(vcpu->fd, KVM_SET_XCRS, "KVM_SET_XCRS", &xcrs, why);
}

int kvm_vcpu_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *to, struct errmsg *why)
{
	return call(vcpu->fd, KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS", to, why);
}

int kvm_vcpu_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *from,
			   struct errmsg *why)
{
	return give(vcpu->fd, KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", from, why);
}

int kvm_vcpu_get_lapic(struct kvm_vcpu *vcpu, void *area, struct errmsg *why)
{
	return call(vcpu->fd, KVM_GET_LAPIC, "KVM_GET_LAPIC", area, why);
}

int kvm_vcpu_set_lapic(struct kvm_vcpu *vcpu, const void *area, struct errmsg *why)
{
	return give(vcpu->fd, KVM_SET_LAPIC, "KVM_SET_LAPIC", area, why);
}

int kvm_vcpu_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *to, struct errmsg *why)
{
	return call(vcpu->fd, KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", to, why);
}

int kvm_vcpu_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *from,
			struct errmsg *why)
{
	return give(vcpu->fd, KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", from, why);
}

static int msrs_done(int done, const struct kvm_msrs *list, const char *name, struct errmsg *why)
{
	if (done < 0)
		return err_set(why, errno, "%s", name);
	if ((uint32_t)done < list->nmsrs)
		return err_set(why, EINVAL, "%s stops at MSR 0x%x = 0x%llx", name,
			       list->entries[done].index,
			       (unsigned long long)list->entries[done].data);
	return 0;
}

int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu, void *list, struct errmsg *why)
{
	return msrs_done(ioctl(vcpu->fd, KVM_GET_MSRS, list), list, "KVM_GET_MSRS", why);
}

int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const void *list, struct errmsg *why)
{
	return msrs_done(ioctl(vcpu->fd, KVM_SET_MSRS, list), list, "KVM_SET_MSRS", why);
}

/* --- time ----------------------------------------------------------------------------------------- */

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz, struct errmsg *why)
{
	if (ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0)
		return err_set(why, errno, "KVM_SET_TSC_KHZ %u", khz);
	return 0;
}

int kvm_vcpu_get_tsc_offset(struct kvm_vcpu *vcpu, uint64_t *offset, struct errmsg *why)
{
	const struct kvm_device_attr attr = tsc_offset_attr(offset);

	return give(vcpu->fd, KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR (TSC offset)", &attr, why);
}

int kvm_vcpu_set_tsc_offset(struct kvm_vcpu *vcpu, uint64_t offset, struct errmsg *why)
{
	const struct kvm_device_attr attr = tsc_offset_attr(&offset);

	return give(vcpu->fd, KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR (TSC offset)", &attr, why);
}

int kvm_vcpu_was_stopped(struct kvm_vcpu *vcpu, struct errmsg *why)
{
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL)
		return err_set(why, errno, "KVM_KVMCLOCK_CTRL");
	return 0;
}

/*
 * KVM gives all three of one instant when the host's clock source is the TSC and the guest's vCPUs are in
 * step; else we read the other two ourselves, some microseconds later.
 */
int kvm_vm_get_clock(const struct kvm_vm *vm, struct kvm_clock_data *to, struct errmsg *why)
{
	int err = call(vm->fd, KVM_GET_CLOCK, "KVM_GET_CLOCK", to, why);

	if (!(to->flags & KVM_CLOCK_REALTIME))
		to->realtime = clock_ns(CLOCK_REALTIME);
	if (!(to->flags & KVM_CLOCK_HOST_TSC))
		to->host_tsc = __builtin_ia32_rdtsc();
	return err;
}

static int set_clock(const struct kvm_vm *vm, const struct kvm_clock_data *data, struct errmsg *why)
{
	return give(vm->fd, KVM_SET_CLOCK, "KVM_SET_CLOCK", data, why);
}

int kvm_vm_set_clock(const struct kvm_vm *vm, uint64_t clock_ns, struct errmsg *why)
{
	return set_clock(vm, &(struct kvm_clock_data){.clock = clock_ns}, why);
}

int kvm_vm_set_clock_at(const struct kvm_vm *vm, uint64_t clock_ns_then, uint64_t realtime_ns,
			struct errmsg *why)
{
	struct kvm_clock_data data = {.clock = clock_ns_then};

	if (vm->state.clock_realtime) {
		data.flags = KVM_CLOCK_REALTIME;
		data.realtime = realtime_ns;
	} else {
		uint64_t now = clock_ns(CLOCK_REALTIME);
		data.clock += now > realtime_ns ? now - realtime_ns : 0;
	}
	return set_clock(vm, &data, why);
}
