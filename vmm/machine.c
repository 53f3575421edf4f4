/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assembly of a VM, in the order that KVM likes (kvm.h): VM, memory slots, vCPUs; then devices, whose
 * ioeventfds come last; then the kernel.  Dismantling is the reverse, visible in machine_destroy().
 */
#include "vmm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/capture.h"
#include "vmm/devices.h"
#include "vmm/kvm_state.h"
#include "vmm/layout.h"
#include "vmm/start.h"

#define MACHINE_RING_ENTRIES \
	256 /* of the loop; more in flight just enter the kernel in two steps */

static int machine_check(const struct vmm_config *cfg, struct errmsg *why)
{
	if (cfg->cpus < 1 || cfg->cpus > VMM_CPUS_MAX)
		return err_set(why, 0, "%u vCPUs: between 1 and %d are possible", cfg->cpus,
			       VMM_CPUS_MAX);
	if (cfg->drive_count > VMM_DRIVES_MAX)
		return err_set(why, 0, "%u drives: at most %d are possible", cfg->drive_count,
			       VMM_DRIVES_MAX);
	if (cfg->has_balloon && cfg->balloon.amount_mib > cfg->mem_mib)
		return err_set(why, 0, "a balloon of %u MiB in a guest of %llu MiB",
			       cfg->balloon.amount_mib, (unsigned long long)cfg->mem_mib);
	if (cfg->kernel_fd < 0)
		if (cfg->kernel_fd < 0 && !cfg->empty)
			return err_set(why, 0, "no kernel is given");
	return 0;
}

static struct vmm *machine_alloc(const struct vmm_config *cfg)
{
	struct vmm *m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->cpus = cfg->cpus;
	m->boot_timer = cfg->boot_timer;
	m->empty = cfg->empty;
	m->log = cfg->log;
	m->log_ctx = cfg->log_ctx;
	m->lazy.uffd = m->lazy.sock = -1;
	m->ram.fd = m->ram.read_fd = m->ram.mount_fd = m->kvm.fd = m->exit_fd = -1;
	irq_init(&m->irq, &m->kvm);
	VERIFY(pthread_mutex_init(&m->lock, NULL) == 0);
	VERIFY(pthread_cond_init(&m->changed, NULL) == 0);
	m->vcpu = calloc(cfg->cpus, sizeof(*m->vcpu));
	for (unsigned i = 0; m->vcpu && i < m->cpus; i++)
		m->vcpu[i].kvm.fd = -1;
	return m;
}

static int machine_create_memory(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	int err = cfg->empty ? ram_reserve(&m->ram, cfg->mem_mib, why)
			     : ram_create(&m->ram, cfg->mem_mib, why);
	if (!err)
		err = ram_describe(&m->ram, &m->gm, why);
	for (unsigned i = 0; !err && i < m->gm.count; i++)
		err = kvm_vm_set_slot(&m->kvm, i, gpa(m->gm.region[i].start),
				      ram_region_host(&m->ram, i), m->gm.region[i].size,
				      cfg->track_dirty_pages, why);
	return err;
}

static int machine_create_vcpus(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	cleanup_free struct cpuid_table *host = malloc(sizeof(*host));

	if (!host || !m->vcpu)
		return err_set(why, ENOMEM, "vCPUs");
	int err = kvm_supported_cpuid(cfg->kvm_fd, host, why);
	for (unsigned i = 0; !err && i < m->cpus; i++)
		err = vcpu_create(&m->vcpu[i], m, i, host, why);
	return err ? err : kvm_state_probe(&m->kvm, &m->vcpu[0].kvm, why);
}

static int machine_build(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	m->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->exit_fd < 0)
		return err_set(why, errno, "exit eventfd");
	int err = kvm_vm_create(&m->kvm, cfg->kvm_fd, why);
	if (err)
		return err;
	machine_stamp(m, &m->timings.kvm_ready);
	err = machine_create_memory(m, cfg, why);
	if (err)
		return err;
	machine_stamp(m, &m->timings.memory_ready);
	err = machine_create_vcpus(m, cfg, why);
	if (!err)
		err = loop_create(&m->loop, MACHINE_RING_ENTRIES, why);
	machine_stamp(m, &m->timings.vcpus_ready);
	if (!err)
		err = devices_create(m, cfg, why);
	machine_stamp(m, &m->timings.devices_ready);
	if (!err)
		err = lazy_create(m, cfg, why);
	if (!err && (cfg->empty || cfg->capturable))
		err = capture_create(m, cfg, why);
	if (!err && !cfg->empty)
		err = start_load(m, cfg, why);
	machine_stamp(m, &m->timings.kernel_loaded);
	return err;
}

int machine_create(struct vmm **out, const struct vmm_config *cfg, struct errmsg *why)
{
	uint64_t begin = clock_now();
	int err = machine_check(cfg, why);
	if (err)
		return err;
	struct vmm *m = machine_alloc(cfg);
	if (!m)
		return err_set(why, ENOMEM, "VM");
	m->timings.create_begin = begin;
	err = machine_build(m, cfg, why);
	if (err) {
		machine_destroy(m);
		return err;
	}
	machine_stamp(m, &m->timings.created);
	*out = m;
	return 0;
}

void machine_destroy(struct vmm *m)
{
	if (!m)
		return;
	loop_destroy(m->loop); /* its requests refer to the devices */
	devices_destroy(m);
	for (unsigned i = 0; m->vcpu && i < m->cpus; i++)
		kvm_vcpu_destroy(&m->vcpu[i].kvm);
	free(m->vcpu);
	kvm_vm_destroy(&m->kvm);
	capture_destroy(m);
	lazy_destroy(m);
	irq_deinit(&m->irq);
	ram_destroy(&m->ram);
	if (m->exit_fd >= 0)
		close(m->exit_fd);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
