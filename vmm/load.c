/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes and descriptors to a paused machine.  Everything of the state is checked before anything of it is put
 * in place, but for what only KVM or a device can judge; after a failure the machine is over.
 */
#include <errno.h>
#include <string.h>

#include "vmm/capture.h"
#include "vmm/connect.h"
#include "vmm/device_state.h"
#include "vmm/state.h"
#include "vmm/vmgenid.h"

static bool has_lazy(const struct vmm_memory *memory)
{
	for (uint64_t i = 0; i < memory->run_count; i++)
		if (memory->run[i].kind == VMM_RUN_LAZY)
			return true;
	return false;
}

static int load_check(const struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why)
{
	if (m->state != VMM_EMPTY)
		return err_set(why, EINVAL, "only an empty VM can be loaded");
	if (cfg->flags & ~(VMM_LOAD_REALTIME | VMM_LOAD_CLONE))
		return err_set(why, EINVAL, "unknown flags of a load");
	if (m->lazy.uffd < 0 && has_lazy(&cfg->memory))
		return err_set(why, ENOTSUP,
			       "memory cannot come when it is touched: this VM has no userfaultfd");
	return 0;
}

/* First what the guest knows of them, then what stands behind. */
static int load_devices(struct vmm *m, const struct vmm_load_cfg *cfg, const struct snap_in *in,
			struct errmsg *why)
{
	int err = devices_load(m, in, why);
	if (!err)
		err = vmgenid_load(m, in, why);
	return err ? err : devices_connect(m, cfg, why);
}

static int load_memory(struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why)
{
	uint64_t pages = m->ram.size / SNAP_PAGE_SIZE;

	int err = memory_keep(&m->capture->base, &m->lazy.runs, &cfg->memory, pages, why);
	if (!err)
		err = memory_map(&m->capture->base, m->ram.map, pages, why);
	if (!err && m->lazy.runs.count)
		err = lazy_load(m, cfg->pager_fd, why);
	if (!err)
		capture_private(m);
	return err;
}

static int load_cpus(struct vmm *m, const struct vmm_load_cfg *cfg, const struct snap_in *in,
		     struct errmsg *why)
{
	bool jump = cfg->flags & VMM_LOAD_REALTIME;
	struct state_cpus cpus;

	for (unsigned i = 0; i < m->cpus; i++)
		cpus.at[i] = &m->vcpu[i].kvm;
	return state_load_cpus(&m->kvm, &cpus, m, jump ? VM_CLOCK_PASSED : VM_CLOCK_STOOD, in, why);
}

/* The clock last, with the vCPUs: what came before took time. */
static int load_all(struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why)
{
	struct snap_in in;

	int err = snap_in_open(&in, cfg->state, cfg->state_len, why);
	if (!err)
		err = load_memory(m, cfg, why);
	if (!err)
		err = load_devices(m, cfg, &in, why);
	if (!err)
		err = load_cpus(m, cfg, &in, why);
	if (!err && (cfg->flags & VMM_LOAD_CLONE))
		err = vmgenid_bump(m, why);
	return err;
}

int machine_load(struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why)
{
	struct errmsg text = {""};

	int err = load_check(m, cfg, why);
	if (err)
		return err;
	err = load_all(m, cfg, &text);
	if (err) {
		machine_end(m, VMM_EXIT_ERROR, "load: %s", text.text);
		return err_set(why, 0, "%s", text.text), err;
	}
	machine_stamp(m, &m->timings.loaded);
	m->state = VMM_PAUSED;
	return 0;
}
