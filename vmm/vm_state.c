/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm_state.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/cpuid.h"
#include "vmm/kvm_state.h"

#define PPM                UINT64_C(1000000)
/* Fraction bits of the hardware's TSC ratio: Intel SDM 3, 26.6.5 (48); AMD APM 2, 15.30.5 (32). */
#define TSC_FRACTION_INTEL 48u
#define TSC_FRACTION_AMD   32u

__extension__ typedef unsigned __int128 u128;

static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	return (uint64_t)((u128)a * b / c);
}

/* --- TSC ------------------------------------------------------------------------------------------ */

bool tsc_needs_scaling(const struct kvm_vm *vm, uint32_t khz)
{
	uint64_t host = vm->state.tsc_khz;
	uint64_t apart = khz > host ? khz - host : host - khz;

	return apart * PPM > host * KVM_TSC_TOLERANCE_PPM;
}

static struct cpuid_view kept(const struct kvm_vcpu *vcpu)
{
	return (struct cpuid_view){vcpu->cpuid->nent, vcpu->cpuid->entry};
}

static unsigned tsc_fraction(const struct kvm_vcpu *vcpu)
{
	const struct cpuid_view table = kept(vcpu);
	const struct cpuid_identity id = cpuid_identity(&table);

	return memcmp(id.vendor, "GenuineIntel", sizeof(id.vendor)) == 0 ? TSC_FRACTION_INTEL
									 : TSC_FRACTION_AMD;
}

uint64_t tsc_scaled(const struct kvm_vm *vm, const struct kvm_vcpu *vcpu, uint32_t khz,
		    uint64_t host_tsc)
{
	if (!tsc_needs_scaling(vm, khz))
		return host_tsc;
	unsigned fraction = tsc_fraction(vcpu);
	uint64_t ratio = mul_div(UINT64_C(1) << fraction, khz, vm->state.tsc_khz);
	return (uint64_t)((u128)host_tsc * ratio >> fraction);
}

static uint64_t realtime_passed(const struct vm_load *load)
{
	return load->realtime_ns > load->saved.realtime_ns
		       ? load->realtime_ns - load->saved.realtime_ns
		       : 0;
}

uint64_t tsc_passed(const struct kvm_vm *vm, const struct kvm_vcpu *vcpu,
		    const struct vm_load *load, uint32_t khz)
{
	switch (load->clock) {
	case VM_CLOCK_PASSED: return mul_div(realtime_passed(load), khz, NS_PER_SEC / 1000);
	case VM_CLOCK_RUNNING:
		return tsc_scaled(vm, vcpu, khz, load->host_tsc) -
		       tsc_scaled(vm, vcpu, khz, load->saved.host_tsc);
	default: return 0;
	}
}

/* --- save ----------------------------------------------------------------------------------------- */

int machine_save_vm(const struct kvm_vm *vm, const struct kvm_vcpu *first,
		    const struct vm_shape *shape, struct vm_instant *at, struct snap_out *out,
		    struct errmsg *why)
{
	const struct cpuid_view table = kept(first);
	const struct cpuid_identity id = cpuid_identity(&table);
	struct kvm_clock_data clock = {.flags = 0};

	int err = kvm_vm_get_clock(vm, &clock, why);
	if (err)
		return err;
	*at = (struct vm_instant){clock.clock, clock.realtime, clock.host_tsc};
	struct snap_machine *to = snap_put(out, SNAP_MACHINE, SNAP_MACHINE_VERSION, 0, sizeof(*to));
	if (!to)
		return err_set(why, out->err, "the machine's state");
	*to = (struct snap_machine){
		.cpus = shape->cpus,
		.layout = SNAP_LAYOUT_VERSION,
		.mem_bytes = shape->mem_bytes,
		.flags = shape->flags,
		.host_tsc_khz = vm->state.tsc_khz,
		.cpu_signature = id.signature,
		.cpuid_hash = first->cpuid->hash,
		.clock_ns = at->clock_ns,
		.realtime_ns = at->realtime_ns,
		.host_tsc = at->host_tsc,
	};
	memcpy(to->cpu_vendor, id.vendor, sizeof(to->cpu_vendor));
	return 0;
}

/* --- load ----------------------------------------------------------------------------------------- */

static int check_form(const struct snap_machine *m, struct errmsg *why)
{
	static const uint64_t none[sizeof(m->rsvd) / sizeof(m->rsvd[0])];

	if (m->layout != SNAP_LAYOUT_VERSION)
		return err_set(why, EBADMSG,
			       "machine state: address map of version %u, only %u is known",
			       m->layout, SNAP_LAYOUT_VERSION);
	if (m->flags & ~SNAP_MACHINE_FLAGS || memcmp(m->rsvd, none, sizeof(none)) != 0)
		return err_set(why, EBADMSG, "machine state: unknown flags");
	if (m->clock_ns > INT64_MAX || m->realtime_ns > INT64_MAX || !m->host_tsc_khz)
		return err_set(why, EBADMSG, "machine state: times out of range");
	return 0;
}

static int check_shape(const struct snap_machine *m, const struct vm_shape *shape,
		       struct errmsg *why)
{
	if (m->cpus != shape->cpus)
		return err_set(why, 0, "the state has %u vCPUs, this machine %u", m->cpus,
			       shape->cpus);
	if (m->mem_bytes != shape->mem_bytes)
		return err_set(why, 0, "the state has %llu bytes of memory, this machine %llu",
			       (unsigned long long)m->mem_bytes,
			       (unsigned long long)shape->mem_bytes);
	if ((m->flags ^ shape->flags) & SNAP_MACHINE_BOOT_TIMER)
		return err_set(why, 0, "the state and this machine differ in the boot timer");
	return 0;
}

static int check_processor(const struct snap_machine *m, const struct kvm_vcpu *first,
			   struct errmsg *why)
{
	const struct cpuid_view table = kept(first);
	const struct cpuid_identity here = cpuid_identity(&table);
	struct cpuid_identity saved = {.signature = m->cpu_signature};

	memcpy(saved.vendor, m->cpu_vendor, sizeof(saved.vendor));
	return cpuid_same_processor(&saved, &here, why);
}

int machine_check_vm(const struct kvm_vm *vm, const struct kvm_vcpu *first,
		     const struct vm_shape *shape, enum vm_clock clock, const struct snap_in *in,
		     struct vm_load *load, struct errmsg *why)
{
	struct snap_machine m;

	int err = snap_take(in, SNAP_MACHINE, SNAP_MACHINE_VERSION, 0, &m, sizeof(m), why);
	if (!err)
		err = check_form(&m, why);
	if (!err)
		err = check_shape(&m, shape, why);
	if (!err)
		err = check_processor(&m, first, why);
	if (!err && (snap_count(in, SNAP_MACHINE) != 1 || snap_count(in, SNAP_VCPU) != m.cpus))
		err = err_set(why, EBADMSG, "machine state: %u sections of vCPUs for %u",
			      snap_count(in, SNAP_VCPU), m.cpus);
	if (!err && clock == VM_CLOCK_RUNNING && m.host_tsc_khz != vm->state.tsc_khz)
		err = err_set(why, EXDEV, "the machine was not saved in this boot of this host");
	if (!err)
		*load = (struct vm_load){.saved = m, .clock = clock};
	return err;
}

void machine_load_begin(struct vm_load *load)
{
	load->realtime_ns = clock_ns(CLOCK_REALTIME);
	load->host_tsc = __builtin_ia32_rdtsc();
}

/* By the TSC, a step of the host's wall clock in between changes nothing. */
static uint64_t running_clock(const struct vm_load *load)
{
	uint64_t cycles = __builtin_ia32_rdtsc() - load->saved.host_tsc;

	return load->saved.clock_ns + mul_div(cycles, NS_PER_SEC / 1000, load->saved.host_tsc_khz);
}

int machine_load_vm(const struct kvm_vm *vm, const struct vm_load *load, struct errmsg *why)
{
	const struct snap_machine *m = &load->saved;

	switch (load->clock) {
	case VM_CLOCK_PASSED: return kvm_vm_set_clock_at(vm, m->clock_ns, m->realtime_ns, why);
	case VM_CLOCK_RUNNING: return kvm_vm_set_clock(vm, running_clock(load), why);
	default: return kvm_vm_set_clock(vm, m->clock_ns, why);
	}
}
