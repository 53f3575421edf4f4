/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu_state.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fnv.h"
#include "vmm/cpuid.h"
#include "vmm/kvm_state.h"
#include "vmm/msr.h"
#include "wire/snap_cpu.h"

/* A new vCPU has these already (Intel SDM 3, table 9-1). */
#define DR6_RESET  UINT64_C(0xffff0ff0)
#define DR7_RESET  UINT64_C(0x400)
#define XCR0_RESET UINT64_C(1)

#define DR_HIGH UINT64_C(0xffffffff00000000) /* of DR6 and DR7: reserved */

/* The XSAVE area (SDM 1, 13.4): legacy region, then the header. */
#define XSAVE_MXCSR  24u
#define XSAVE_BV     512u
#define XSAVE_COMP   520u
#define XSAVE_RSVD   528u
#define XSAVE_RSVD_N 48u
#define MXCSR_HIGH   0xffff0000u /* reserved */

/* The structs go to KVM in place. */
#define SAME(ours, theirs) \
	_Static_assert(sizeof(struct ours) == sizeof(struct theirs), #ours " is KVM's " #theirs)
#define SAME_AT(ours, field, theirs, its)                                              \
	_Static_assert(offsetof(struct ours, field) == offsetof(struct theirs, its) && \
			       sizeof(((struct ours *)0)->field) ==                    \
				       sizeof(((struct theirs *)0)->its),              \
		       #ours "." #field " is KVM's " #theirs "." #its)
SAME(snap_regs, kvm_regs);
SAME_AT(snap_regs, rsi, kvm_regs, rsi);
SAME_AT(snap_regs, rflags, kvm_regs, rflags);
SAME(snap_segment, kvm_segment);
SAME_AT(snap_segment, selector, kvm_segment, selector);
SAME_AT(snap_segment, unusable, kvm_segment, unusable);
SAME(snap_sregs, kvm_sregs2);
SAME_AT(snap_sregs, ldt, kvm_sregs2, ldt);
SAME_AT(snap_sregs, idt, kvm_sregs2, idt);
SAME_AT(snap_sregs, apic_base, kvm_sregs2, apic_base);
SAME_AT(snap_sregs, pdptr, kvm_sregs2, pdptrs);
SAME(snap_events, kvm_vcpu_events);
SAME_AT(snap_events, interrupt_injected, kvm_vcpu_events, interrupt.injected);
SAME_AT(snap_events, nmi_injected, kvm_vcpu_events, nmi.injected);
SAME_AT(snap_events, smi_smm, kvm_vcpu_events, smi.smm);
SAME_AT(snap_events, triple_fault, kvm_vcpu_events, triple_fault.pending);
SAME_AT(snap_events, exception_payload, kvm_vcpu_events, exception_payload);
SAME(snap_cpuid, kvm_cpuid_entry2);
SAME_AT(snap_cpuid, eax, kvm_cpuid_entry2, eax);
SAME(snap_msr, kvm_msr_entry);
SAME_AT(snap_msr, value, kvm_msr_entry, data);
SAME(snap_list, kvm_msrs);
SAME(snap_list, kvm_cpuid2);
_Static_assert(SNAP_LAPIC_SIZE == sizeof(struct kvm_lapic_state), "snap_vcpu.lapic");
_Static_assert(SNAP_MSR_MAX == KVM_MSR_MAX && SNAP_CPUID_MAX == KVM_CPUID_MAX, "limits");

/* --- save ----------------------------------------------------------------------------------------- */

/* Guest TSC at the instant `at`. */
static int save_tsc(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct vm_instant *at,
		    struct snap_vcpu *to, struct errmsg *why)
{
	struct {
		struct snap_list head;
		struct snap_msr tsc;
	} list = {.head = {.count = 1}, .tsc = {.index = MSR_TSC}};
	uint64_t offset = 0;

	if (vm->state.tsc_fixed) {
		to->tsc = at->host_tsc;
		return 0;
	}
	if (vm->state.tsc_offset) {
		int err = kvm_vcpu_get_tsc_offset(vcpu, &offset, why);
		to->tsc = tsc_scaled(vm, vcpu, to->tsc_khz, at->host_tsc) + offset;
		return err;
	}
	int err = kvm_vcpu_get_msrs(vcpu, &list, why);
	uint64_t since = __builtin_ia32_rdtsc() - at->host_tsc;
	to->tsc = list.tsc.value - tsc_scaled(vm, vcpu, to->tsc_khz, since);
	return err;
}

static int save_debug(struct kvm_vcpu *vcpu, struct snap_vcpu *to, struct errmsg *why)
{
	struct kvm_debugregs debug = {.flags = 0};
	int err = kvm_vcpu_get_debugregs(vcpu, &debug, why);

	memcpy(to->dr, debug.db, sizeof(to->dr));
	to->dr6 = debug.dr6;
	to->dr7 = debug.dr7;
	return err;
}

static size_t save_cpuid(const struct kvm_vcpu *vcpu, uint8_t *at)
{
	struct snap_list *head = (void *)at;
	size_t bytes = vcpu->cpuid->nent * sizeof(struct snap_cpuid);

	head->count = vcpu->cpuid->nent;
	memcpy(head + 1, vcpu->cpuid->entry, bytes);
	return sizeof(*head) + bytes;
}

static int save_msrs(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, uint8_t *at,
		     struct errmsg *why)
{
	struct snap_list *head = (void *)at;
	struct snap_msr *msr = (void *)(head + 1);

	head->count = vm->state.msr_count;
	for (uint32_t i = 0; i < head->count; i++)
		msr[i].index = vm->state.msr[i];
	return kvm_vcpu_get_msrs(vcpu, head, why);
}

/*
 * MP_STATE first: reading it lets KVM take INIT and SIPI that wait, which changes everything else.
 * TSC_DEADLINE (an MSR) before LAPIC: a timer that runs out between the two is then saved as armed for a
 * moment in the past, and goes off at once where it is loaded; the other way round KVM would have cleared
 * the deadline after we had taken an APIC without the interrupt, and the guest would wait for ever.  So a saved
 * deadline of zero does mean that none is armed: it needs no rewriting.
 * Events last: reading them turns a queued NMI into a pending one, and all that came before is in them.
 */
static int save_registers(const struct kvm_vm *vm, struct kvm_vcpu *vcpu,
			  const struct vm_instant *at, struct snap_vcpu *to, struct errmsg *why)
{
	uint8_t *xsave = (uint8_t *)(to + 1), *lists = xsave + to->xsave_len;

	int err = kvm_vcpu_get_mp_state(vcpu, &to->mp_state, why);
	if (!err)
		err = kvm_vcpu_get_regs(vcpu, (void *)&to->regs, why);
	if (!err)
		err = kvm_vcpu_get_sregs2(vm, vcpu, (void *)&to->sregs, why);
	if (!err)
		err = kvm_vcpu_get_xsave(vm, vcpu, xsave, why);
	if (!err)
		err = kvm_vcpu_get_xcr0(vcpu, &to->xcr0, why);
	if (!err)
		err = save_debug(vcpu, to, why);
	if (!err)
		err = save_tsc(vm, vcpu, at, to, why);
	if (!err)
		err = save_msrs(vm, vcpu, lists + save_cpuid(vcpu, lists), why);
	if (!err)
		err = kvm_vcpu_get_lapic(vcpu, to->lapic, why);
	return err ? err : kvm_vcpu_get_events(vcpu, (void *)&to->events, why);
}

int vcpu_save(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct vm_instant *at,
	      struct snap_out *out, struct errmsg *why)
{
	size_t len = sizeof(struct snap_vcpu) + vm->state.xsave_size +
		     2 * sizeof(struct snap_list) + vcpu->cpuid->nent * sizeof(struct snap_cpuid) +
		     vm->state.msr_count * sizeof(struct snap_msr);
	struct snap_vcpu *to = snap_put(out, SNAP_VCPU, SNAP_VCPU_VERSION, vcpu->id, len);

	if (!to)
		return err_set(why, out->err, "vCPU %u: the machine's state", vcpu->id);
	to->tsc_khz = vcpu->tsc_khz ? vcpu->tsc_khz : vm->state.tsc_khz;
	to->xsave_len = vm->state.xsave_size;
	int err = save_registers(vm, vcpu, at, to, why);
	return err ? err_wrap(why, err, "vCPU %u", vcpu->id) : 0;
}

/* --- check ---------------------------------------------------------------------------------------- */

/* A section taken apart, in place. */
struct parts {
	const struct snap_vcpu *head;
	const uint8_t *xsave;
	const struct snap_list *cpuid, *msrs;
};

static const struct snap_cpuid *cpuid_of(const struct parts *p)
{
	return (const void *)(p->cpuid + 1);
}

static const struct snap_msr *msrs_of(const struct parts *p)
{
	return (const void *)(p->msrs + 1);
}

static int bad(struct errmsg *why, const char *what)
{
	return err_set(why, EBADMSG, "its %s cannot be", what);
}

static const struct snap_list *take_list(struct bytes_in *in, uint32_t max, size_t size)
{
	const struct snap_list *head = (const void *)bytes_take(in, sizeof(*head));

	if (!head || head->rsvd || head->count > max || !bytes_take(in, head->count * size))
		return NULL;
	return head;
}

static int take_parts(const struct snap_in *in, unsigned id, struct parts *p, struct errmsg *why)
{
	uint32_t version = 0;
	size_t len = 0;
	const void *payload = snap_find(in, SNAP_VCPU, id, &version, &len);
	struct bytes_in left = bytes_in(payload, len);

	if (!payload)
		return bad(why, "absence");
	if (version != SNAP_VCPU_VERSION)
		return err_set(why, EBADMSG, "its section has version %u, only %u is known",
			       version, SNAP_VCPU_VERSION);
	p->head = (const void *)bytes_take(&left, sizeof(*p->head));
	if (!p->head || p->head->rsvd || p->head->xsave_len % 8 ||
	    p->head->xsave_len < SNAP_XSAVE_MIN || p->head->xsave_len > SNAP_XSAVE_MAX)
		return bad(why, "length");
	p->xsave = bytes_take(&left, p->head->xsave_len);
	p->cpuid = take_list(&left, SNAP_CPUID_MAX, sizeof(struct snap_cpuid));
	p->msrs = take_list(&left, SNAP_MSR_MAX, sizeof(struct snap_msr));
	return !p->xsave || !p->cpuid || !p->msrs || left.left ? bad(why, "length") : 0;
}

static bool all_zero(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static bool segments_fine(const struct snap_sregs *s)
{
	const struct snap_segment *seg[] = {&s->cs, &s->ds, &s->es, &s->fs,
					    &s->gs, &s->ss, &s->tr, &s->ldt};

	for (unsigned i = 0; i < ARRAY_LEN(seg); i++)
		if (seg[i]->rsvd || seg[i]->type > 15 || seg[i]->dpl > 3 ||
		    (seg[i]->present | seg[i]->db | seg[i]->s | seg[i]->l | seg[i]->g |
		     seg[i]->avl | seg[i]->unusable) > 1)
			return false;
	return all_zero(s->gdt.rsvd, sizeof(s->gdt.rsvd)) &&
	       all_zero(s->idt.rsvd, sizeof(s->idt.rsvd));
}

static bool events_fine(const struct snap_events *e)
{
	const uint8_t truths[] = {e->exception_injected,   e->exception_has_code,
				  e->exception_pending,    e->interrupt_injected,
				  e->interrupt_soft,       e->nmi_injected,
				  e->nmi_masked,           e->smi_smm,
				  e->smi_pending,          e->smi_inside_nmi,
				  e->smi_latched_init,     e->triple_fault,
				  e->exception_has_payload};

	for (unsigned i = 0; i < ARRAY_LEN(truths); i++)
		if (truths[i] > 1)
			return false;
	return !(e->flags & ~SNAP_EVENTS_ALL) && e->exception_nr < 32 && e->nmi_pending <= 2 &&
	       e->interrupt_shadow <= 3 && e->sipi_vector <= 0xff && !e->rsvd0 && !e->smi_smm &&
	       all_zero(e->rsvd1, sizeof(e->rsvd1));
}

/* What KVM itself would refuse, or take and choke on when it enters the guest. */
static int check_registers(const struct snap_vcpu *v, struct errmsg *why)
{
	if (v->mp_state > SNAP_MP_SIPI_RECEIVED)
		return bad(why, "activity state");
	if (!segments_fine(&v->sregs) || v->sregs.flags & ~(uint64_t)SNAP_SREGS_PDPTRS)
		return bad(why, "segments");
	if (v->dr6 & DR_HIGH || v->dr7 & DR_HIGH)
		return bad(why, "debug registers");
	if (v->xcr0 && !(v->xcr0 & XCR0_RESET))
		return bad(why, "XCR0");
	return events_fine(&v->events) ? 0 : bad(why, "events");
}

static int check_xsave(const struct kvm_vm *vm, const struct parts *p, struct errmsg *why)
{
	if (le32_load(p->xsave + XSAVE_MXCSR) & MXCSR_HIGH || le64_load(p->xsave + XSAVE_COMP) ||
	    !all_zero(p->xsave + XSAVE_RSVD, XSAVE_RSVD_N) ||
	    (!p->head->xcr0 && le64_load(p->xsave + XSAVE_BV)))
		return bad(why, "XSAVE area");
	if (p->head->xsave_len != vm->state.xsave_size)
		return err_set(why, EXDEV, "its XSAVE area has %u bytes, this host's %u",
			       p->head->xsave_len, vm->state.xsave_size);
	return 0;
}

static int check_tsc(const struct kvm_vm *vm, const struct snap_vcpu *v, struct errmsg *why)
{
	if (!v->tsc_khz || v->tsc_khz > INT32_MAX)
		return bad(why, "TSC frequency");
	if (vm->state.tsc_fixed && v->tsc > __builtin_ia32_rdtsc())
		return err_set(
			why, EXDEV,
			"its TSC would go back: this host's KVM shows guests the host's own");
	if (tsc_needs_scaling(vm, v->tsc_khz) && !vm->state.tsc_control)
		return err_set(
			why, EXDEV,
			"its TSC runs at %u kHz, this host's at %u, and the processor cannot "
			"scale it",
			v->tsc_khz, vm->state.tsc_khz);
	return 0;
}

static bool cpuid_same(const struct parts *p, const struct kvm_vcpu *vcpu)
{
	return p->cpuid->count == vcpu->cpuid->nent &&
	       memcmp(cpuid_of(p), vcpu->cpuid->entry,
		      p->cpuid->count * sizeof(struct snap_cpuid)) == 0;
}

static int check_cpuid(const struct parts *p, const struct kvm_vcpu *vcpu,
		       const struct vm_load *load, struct errmsg *why)
{
	const struct snap_cpuid *entry = cpuid_of(p);
	const struct cpuid_view saved = {p->cpuid->count, (const void *)entry};
	const struct cpuid_view here = {vcpu->cpuid->nent, vcpu->cpuid->entry};
	bool same = cpuid_same(p, vcpu);
	uint64_t hash = same ? vcpu->cpuid->hash : fnv1a(entry, saved.nent * sizeof(*entry));

	if (vcpu->id == 0 && hash != load->saved.cpuid_hash)
		return bad(why, "CPUID (its hash differs)");
	if (same)
		return 0;
	for (uint32_t i = 0; i < p->cpuid->count; i++)
		if (!all_zero(entry[i].rsvd, sizeof(entry[i].rsvd)) ||
		    entry[i].flags & ~(uint32_t)KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
			return bad(why, "CPUID");
	return cpuid_check(&saved, &here, why);
}

/* Both lists are in the same order: one walk along this KVM's finds each of the saved ones in turn. */
static int check_msrs(const struct kvm_vm *vm, const struct parts *p, struct errmsg *why)
{
	const struct kvm_state_caps *here = &vm->state;
	const struct snap_msr *msr = msrs_of(p);
	uint32_t k = 0;

	for (uint32_t i = 0; i < p->msrs->count; i++, k++) {
		if (msr[i].rsvd || (i && msr_order(msr[i - 1].index, msr[i].index) >= 0))
			return bad(why, "list of MSRs");
		while (k < here->msr_count && here->msr[k] != msr[i].index)
			k++;
		if (k == here->msr_count && !msr_is_state(msr[i].index))
			return bad(why, "list of MSRs");
		if (k == here->msr_count)
			return err_set(why, EXDEV, "this host's KVM does not know its MSR 0x%x",
				       msr[i].index);
	}
	return 0;
}

static int check_parts(const struct kvm_vm *vm, const struct kvm_vcpu *vcpu,
		       const struct vm_load *load, const struct parts *p, struct errmsg *why)
{
	int err = check_registers(p->head, why);
	if (!err)
		err = check_cpuid(p, vcpu, load, why);
	if (!err)
		err = check_xsave(vm, p, why);
	if (!err)
		err = check_tsc(vm, p->head, why);
	return err ? err : check_msrs(vm, p, why);
}

int vcpu_check(const struct kvm_vm *vm, const struct kvm_vcpu *vcpu, const struct vm_load *load,
	       const struct snap_in *in, struct errmsg *why)
{
	struct parts p;

	int err = take_parts(in, vcpu->id, &p, why);
	if (!err)
		err = check_parts(vm, vcpu, load, &p, why);
	return err ? err_wrap(why, err, "vCPU %u", vcpu->id) : 0;
}

/* --- load ----------------------------------------------------------------------------------------- */

static int load_cpuid(struct kvm_vcpu *vcpu, const struct parts *p, struct errmsg *why)
{
	struct cpuid_table table = {.nent = p->cpuid->count};

	if (cpuid_same(p, vcpu))
		return 0;
	memcpy(table.entry, cpuid_of(p), table.nent * sizeof(table.entry[0]));
	return kvm_vcpu_set_cpuid(vcpu, &table, why);
}

static int load_tsc_khz(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct snap_vcpu *v,
			struct errmsg *why)
{
	if (v->tsc_khz == vm->state.tsc_khz)
		return 0;
	vcpu->tsc_khz = v->tsc_khz;
	return kvm_vcpu_set_tsc_khz(vcpu, v->tsc_khz, why);
}

/*
 * All vCPUs of a load reckon from one instant, so that they are in step whenever each is loaded.  Without
 * the attribute KVM makes equal values that are written within a second equal; there `load` must not dawdle.
 */
static int load_tsc(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct vm_load *load,
		    const struct snap_vcpu *v, struct errmsg *why)
{
	uint64_t tsc = v->tsc + tsc_passed(vm, vcpu, load, v->tsc_khz);
	const struct {
		struct snap_list head;
		struct snap_msr tsc;
	} list = {.head = {.count = 1}, .tsc = {.index = MSR_TSC, .value = tsc}};

	if (vm->state.tsc_fixed)
		return 0;
	if (!vm->state.tsc_offset)
		return kvm_vcpu_set_msrs(vcpu, &list, why);
	return kvm_vcpu_set_tsc_offset(vcpu, tsc - tsc_scaled(vm, vcpu, v->tsc_khz, load->host_tsc),
				       why);
}

static int load_debug(struct kvm_vcpu *vcpu, const struct snap_vcpu *v, struct errmsg *why)
{
	struct kvm_debugregs debug = {.dr6 = v->dr6, .dr7 = v->dr7};

	if (v->dr6 == DR6_RESET && v->dr7 == DR7_RESET && all_zero(v->dr, sizeof(v->dr)))
		return 0;
	memcpy(debug.db, v->dr, sizeof(v->dr));
	return kvm_vcpu_set_debugregs(vcpu, &debug, why);
}

static int load_events(struct kvm_vcpu *vcpu, const struct snap_vcpu *v, struct errmsg *why)
{
	struct snap_events content = v->events;

	content.flags = 0; /* which fields mean something; they mean nothing new if all are zero */
	if (all_zero(&content, sizeof(content)))
		return 0;
	return kvm_vcpu_set_events(vcpu, (const void *)&v->events, why);
}

/* A new vCPU 0 may run, the others wait for INIT. */
static int load_mp_state(struct kvm_vcpu *vcpu, const struct snap_vcpu *v, struct errmsg *why)
{
	uint32_t fresh = vcpu->id == 0 ? SNAP_MP_RUNNABLE : SNAP_MP_UNINITIALIZED;

	return v->mp_state == fresh ? 0 : kvm_vcpu_set_mp_state(vcpu, v->mp_state, why);
}

/*
 * CPUID before all that KVM checks against it.  REGS before the events, which it clears.  SREGS (APIC base)
 * before LAPIC; LAPIC (timer's mode) and TSC before TSC_DEADLINE, which is the last of the MSRs: else the
 * deadline is dropped, or means another moment.  Steal time, kvmclock and the other MSRs that make KVM write
 * to guest memory do so at the first run only.
 */
static int load_parts(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct vm_load *load,
		      const struct parts *p, struct errmsg *why)
{
	const struct snap_vcpu *v = p->head;

	int err = load_cpuid(vcpu, p, why);
	if (!err)
		err = load_tsc_khz(vm, vcpu, v, why);
	if (!err)
		err = load_mp_state(vcpu, v, why);
	if (!err)
		err = kvm_vcpu_set_regs(vcpu, (const void *)&v->regs, why);
	if (!err)
		err = kvm_vcpu_set_sregs2(vm, vcpu, (const void *)&v->sregs, why);
	if (!err)
		err = kvm_vcpu_set_xsave(vcpu, p->xsave, why);
	if (!err && v->xcr0 && v->xcr0 != XCR0_RESET)
		err = kvm_vcpu_set_xcr0(vcpu, v->xcr0, why);
	if (!err)
		err = load_debug(vcpu, v, why);
	if (!err)
		err = kvm_vcpu_set_lapic(vcpu, v->lapic, why);
	if (!err)
		err = load_tsc(vm, vcpu, load, v, why);
	if (!err)
		err = kvm_vcpu_set_msrs(vcpu, p->msrs, why);
	if (!err)
		err = load_events(vcpu, v, why);
	if (!err && load->clock != VM_CLOCK_RUNNING)
		err = kvm_vcpu_was_stopped(vcpu, why);
	return err;
}

int vcpu_load(const struct kvm_vm *vm, struct kvm_vcpu *vcpu, const struct vm_load *load,
	      const struct snap_in *in, struct errmsg *why)
{
	struct parts p;

	int err = take_parts(in, vcpu->id, &p, why);
	if (!err)
		err = load_parts(vm, vcpu, load, &p, why);
	return err ? err_wrap(why, err, "vCPU %u", vcpu->id) : 0;
}
