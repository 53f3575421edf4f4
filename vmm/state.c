/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/state.h"

#include "vmm/device_state.h"
#include "vmm/vcpu_state.h"
#include "vmm/vmgenid.h"

static struct vm_shape shape_of(const struct vmm *m)
{
	return (struct vm_shape){
		.cpus = m->cpus,
		.mem_bytes = m->ram.size,
		.flags = (m->boot_timer ? SNAP_MACHINE_BOOT_TIMER : 0) |
			 (m->console ? SNAP_MACHINE_CONSOLE : 0),
	};
}

int state_save(struct vmm *m, struct snap_out *out, struct errmsg *why)
{
	const struct vm_shape shape = shape_of(m);
	struct vm_instant at;

	snap_out_reset(out);
	int err = machine_save_vm(&m->kvm, &m->vcpu[0].kvm, &shape, &at, out, why);
	for (unsigned i = 0; !err && i < m->cpus; i++)
		err = vcpu_save(&m->kvm, &m->vcpu[i].kvm, &at, out, why);
	if (err)
		return err;
	devices_save(m, out);
	vmgenid_save(m, out);
	return snap_out_finish(out, why);
}

int state_load_cpus(struct kvm_vm *kvm, const struct state_cpus *cpus, const struct vmm *m,
		    enum vm_clock clock, const struct snap_in *in, struct errmsg *why)
{
	const struct vm_shape shape = shape_of(m);
	struct vm_load load;

	int err = machine_check_vm(kvm, cpus->at[0], &shape, clock, in, &load, why);
	for (unsigned i = 0; !err && i < m->cpus; i++)
		err = vcpu_check(kvm, cpus->at[i], &load, in, why);
	if (err)
		return err;
	machine_load_begin(&load);
	for (unsigned i = 0; !err && i < m->cpus; i++)
		err = vcpu_load(kvm, cpus->at[i], &load, in, why);
	return err ? err : machine_load_vm(kvm, &load, why);
}
