/* SPDX-License-Identifier: Apache-2.0 */
/* libvmm.h's captures and loads on top of capture.h: checks of the caller, and no work of its own. */
#include <string.h>

#include "vmm/api.h"
#include "vmm/capture.h"
#include "vmm/working_set.h"

int vmm_capture(struct vmm *m, const struct vmm_capture_cfg *cfg, struct vmm_captured *out,
		struct vmm_error *why)
{
	struct vmm_capture_cfg full = {.size = 0};

	int err = take_config(&full, sizeof(full), cfg, cfg->size, "vmm_capture_cfg", why);
	return err ? err : machine_capture(m, &full, out, text_of(why));
}

int vmm_tidy(struct vmm *m, struct vmm_error *why)
{
	return machine_tidy(m, text_of(why));
}

int vmm_settle(struct vmm *m, uint64_t sequence, enum vmm_outcome outcome, struct vmm_error *why)
{
	return machine_settle(m, sequence, outcome, text_of(why));
}

int vmm_load(struct vmm *m, const struct vmm_load_cfg *cfg, struct vmm_error *why)
{
	struct vmm_load_cfg full = {.size = 0};

	int err = take_config(&full, sizeof(full), cfg, cfg->size, "vmm_load_cfg", why);
	return err ? err : machine_load(m, &full, text_of(why));
}

int vmm_working_set(struct vmm *m, struct vmm_working_set *out, struct vmm_error *why)
{
	return machine_working_set(m, out, text_of(why));
}

void vmm_shape(const struct vmm *m, struct vmm_shape *out)
{
	*out = (struct vmm_shape){
		.cpus = m->cpus,
		.mem_mib = m->ram.size >> 20,
		.generation = m->capture && m->capture->base.runs.count,
		.captures = m->capture ? m->capture->sequence : 0,
		.sources = m->capture ? m->capture->base.source_count : 0,
	};
}
