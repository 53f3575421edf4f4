/* SPDX-License-Identifier: Apache-2.0 */
/* libvmm.h on top of machine.h and lifecycle.c: checks of the caller, and no work of its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "devices/vballoon.h"
#include "vmm/api.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"

#define MIB (UINT64_C(1) << 20)

_Static_assert(sizeof(struct vmm_error) == sizeof(struct errmsg),
	       "the public error text is base/err.h's");

/* What vmm_seal() will need when the configuration is gone. */
static void remember_seal(struct vmm *m, const struct vmm_config *cfg)
{
	m->seal = (struct sandbox_cfg){
		.uid = cfg->seal_uid,
		.gid = cfg->seal_gid,
		.no_namespaces = cfg->seal_no_namespaces,
		.no_seccomp = cfg->seal_no_seccomp,
	};
	if (!cfg->has_vsock || !cfg->vsock.uds_path)
		return;
	snprintf(m->seal_path, sizeof(m->seal_path), "%s", cfg->vsock.uds_path);
	m->seal.uds_path = m->seal_path;
}

int take_config(void *full, size_t known, const void *given, size_t size, const char *name,
		struct vmm_error *why)
{
	if (size > known || size < sizeof(size))
		return err_set(text_of(why), 0, "%s.size is %zu: this library knows %zu", name,
			       size, known);
	memcpy(full, given, size);
	return 0;
}

int vmm_create(struct vmm **out, const struct vmm_config *cfg, struct vmm_error *why)
{
	struct vmm_config full = {.size = 0};

	int err = take_config(&full, sizeof(full), cfg, cfg->size, "vmm_config", why);
	if (!err)
		err = machine_create(out, &full, text_of(why));
	if (!err)
		remember_seal(*out, &full);
	return err;
}

int vmm_seal(struct vmm *m, struct vmm_error *why)
{
	if (m->state != VMM_CREATED || m->sealed)
		return err_set(text_of(why), EINVAL, "a VM is sealed once, before it starts");
	int err = sandbox_process(&m->seal, NULL, text_of(why));
	m->sealed = !err;
	return err;
}

int vmm_start(struct vmm *m, struct vmm_error *why)
{
	if (m->state != VMM_CREATED)
		return err_set(text_of(why), EINVAL, "the VM has been started before");
	return machine_run(m, text_of(why));
}

int vmm_pause(struct vmm *m, struct vmm_error *why)
{
	return machine_pause(m, text_of(why));
}

int vmm_resume(struct vmm *m, struct vmm_error *why)
{
	if (m->state == VMM_CREATED)
		return err_set(text_of(why), EINVAL, "the VM has not been started");
	return machine_run(m, text_of(why));
}

int vmm_stop(struct vmm *m, struct vmm_error *why)
{
	(void)why;
	machine_end(m, VMM_EXIT_STOPPED, "stopped");
	machine_halt(m);
	return 0;
}

enum vmm_state vmm_state(const struct vmm *m)
{
	return machine_want(m) == WANT_ENDED ? VMM_ENDED : m->state;
}

int vmm_exit_fd(const struct vmm *m)
{
	return m->exit_fd;
}

static pthread_mutex_t *lock_of(const struct vmm *m)
{
	return (pthread_mutex_t *)(uintptr_t)&m->lock;
}

enum vmm_exit vmm_exit_reason(const struct vmm *m, struct vmm_error *text)
{
	cleanup_unlock pthread_mutex_t *held = hold(lock_of(m));
	if (text)
		*text = m->exit_text;
	return m->exit;
}

void vmm_timings(const struct vmm *m, struct vmm_timings *out)
{
	cleanup_unlock pthread_mutex_t *held = hold(lock_of(m));
	*out = m->timings;
}

static uint64_t peek(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void vmm_counters(const struct vmm *m, struct vmm_counters *out)
{
	*out = (struct vmm_counters){0};
	for (unsigned i = 0; i < m->cpus; i++) {
		out->exits_io += peek(&m->vcpu[i].exits_io);
		out->exits_mmio += peek(&m->vcpu[i].exits_mmio);
		out->exits_other += peek(&m->vcpu[i].exits_other);
	}
	for (unsigned i = 0; i < m->dev_count; i++)
		out->device_breaks += peek(&mmio_dev(m->dev[i])->breaks);
	if (m->console)
		console_counts(m->console, &out->serial_bytes, &out->serial_dropped);
}

static int need_balloon(const struct vmm *m, struct vmm_error *why)
{
	return m->balloon ? 0 : err_set(text_of(why), ENODEV, "the VM has no balloon");
}

int vmm_balloon_set(struct vmm *m, uint32_t amount_mib, struct vmm_error *why)
{
	int err = need_balloon(m, why);
	if (err)
		return err;
	if (amount_mib > gm_size(&m->gm) / MIB)
		return err_set(text_of(why), 0, "a balloon of %u MiB in a guest of %llu MiB",
			       amount_mib, (unsigned long long)(gm_size(&m->gm) / MIB));
	vballoon_set_target(m->balloon, amount_mib * VBALLOON_PAGES_PER_MIB);
	return 0;
}

static void stats_fill(struct vmm_balloon_stats *to, const struct vballoon_info *from)
{
	static_assert(offsetof(struct vmm_balloon_stats, direct_reclaims) -
				      offsetof(struct vmm_balloon_stats, swap_in) ==
			      (VBALLOON_STAT_COUNT - 1) * sizeof(uint64_t),
		      "statistics in the order of their tags");
	to->target_mib = from->target_pages / VBALLOON_PAGES_PER_MIB;
	to->actual_mib = from->actual_pages / VBALLOON_PAGES_PER_MIB;
	to->inflated_bytes = from->inflated_bytes;
	to->reported_bytes = from->reported_bytes;
	to->given_back_bytes = from->given_back_bytes;
	to->answers = from->stat_count;
	to->known = from->stat_mask;
	memcpy((uint8_t *)to + offsetof(struct vmm_balloon_stats, swap_in), from->stat,
	       sizeof(from->stat));
}

int vmm_balloon_stats(const struct vmm *m, struct vmm_balloon_stats *out, struct vmm_error *why)
{
	struct vballoon_info info;
	struct vmm_balloon_stats full = {.size = out->size};

	if (out->size > sizeof(full) || out->size < sizeof(out->size))
		return err_set(text_of(why), 0,
			       "vmm_balloon_stats.size is %zu: this library knows %zu", out->size,
			       sizeof(full));
	int err = need_balloon(m, why);
	if (err)
		return err;
	vballoon_info(m->balloon, &info);
	stats_fill(&full, &info);
	memcpy(out, &full, out->size);
	return 0;
}

int vmm_new_generation(struct vmm *m, struct vmm_error *why)
{
	if (m->state != VMM_PAUSED)
		return err_set(text_of(why), EINVAL, "only a paused VM becomes another generation");
	return vmgenid_bump(m, text_of(why));
}

void vmm_destroy(struct vmm *m)
{
	if (!m)
		return;
	if (m->state != VMM_ENDED)
		vmm_stop(m, NULL);
	machine_destroy(m);
}

const char *vmm_version(void)
{
	return SPORE_VERSION;
}
