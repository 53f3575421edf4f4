/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/home.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "vmm/devices.h"

static struct home *home_alloc(const struct vmm *m)
{
	struct home *home = calloc(1, sizeof(*home));

	if (!home)
		return NULL;
	home->kvm.fd = -1;
	irq_init(&home->irq, &home->kvm);
	home->vcpu = calloc(m->cpus, sizeof(*home->vcpu));
	for (unsigned i = 0; home->vcpu && i < m->cpus; i++)
		home->vcpu[i].fd = -1;
	return home;
}

static int home_slots(struct home *home, const struct vmm *m, bool log_dirty, struct errmsg *why)
{
	int err = ram_twin(&m->ram, &home->map, why);

	home->size = m->ram.size;
	for (unsigned i = 0; !err && i < m->gm.count; i++)
		err = kvm_vm_set_slot(&home->kvm, i, gpa(m->gm.region[i].start),
				      ram_region_at(&m->ram, home->map, i), m->gm.region[i].size,
				      log_dirty, why);
	return err;
}

static int home_vcpus(struct home *home, const struct vmm *m, int kvm_fd, struct errmsg *why)
{
	cleanup_free struct cpuid_table *host = malloc(sizeof(*host));

	if (!host || !home->vcpu)
		return err_set(why, ENOMEM, "vCPUs");
	int err = kvm_supported_cpuid(kvm_fd, host, why);
	for (unsigned i = 0; !err && i < m->cpus; i++)
		err = vcpu_make(&home->vcpu[i], &home->kvm, i, m->cpus, host, why);
	home->kvm.state = m->kvm.state; /* the same host */
	return err;
}

/* The same lines as the machine has, by eventfds of their own: Linux 6.17 binds an eventfd to one VM only. */
static int home_lines(struct home *home, const struct vmm *m, struct errmsg *why)
{
	for (unsigned gsi = 0; gsi < KVM_GSI_COUNT; gsi++) {
		if (m->irq.fd[gsi] < 0)
			continue;
		int fd = irq_line(&home->irq, gsi, why);
		if (fd < 0)
			return fd;
	}
	return irq_bind(&home->irq, why);
}

int home_create(struct home **out, struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	struct home *home = home_alloc(m);

	if (!home)
		return err_set(why, ENOMEM, "spare VM");
	int err = kvm_vm_create(&home->kvm, cfg->kvm_fd, why);
	if (!err)
		err = home_slots(home, m, cfg->track_dirty_pages, why);
	if (!err)
		err = home_vcpus(home, m, cfg->kvm_fd, why);
	if (!err)
		err = home_lines(home, m, why);
	if (!err)
		err = devices_bind_kicks(m, &home->kvm, why);
	if (err) {
		home_destroy(home, m->cpus);
		return err_wrap(why, err, "spare VM");
	}
	*out = home;
	return 0;
}

#define EXCHANGE(a, b)                            \
	do {                                      \
		__typeof__(a) exchange_tmp = (a); \
		(a) = (b);                        \
		(b) = exchange_tmp;               \
	} while (0)

void home_swap(struct vmm *m, struct home *home)
{
	EXCHANGE(m->kvm, home->kvm);
	for (unsigned i = 0; i < m->cpus; i++)
		EXCHANGE(m->vcpu[i].kvm, home->vcpu[i]);
	for (unsigned gsi = 0; gsi < KVM_GSI_COUNT; gsi++)
		EXCHANGE(m->irq.fd[gsi], home->irq.fd[gsi]);
	devices_set_lines(m);
	for (unsigned i = 0; i < m->gm.count; i++)
		gm_rebase(&m->gm, i, ram_region_at(&m->ram, home->map, i));
	EXCHANGE(m->ram.map, home->map);
}

void home_destroy(struct home *home, unsigned cpus)
{
	if (!home)
		return;
	for (unsigned i = 0; home->vcpu && i < cpus; i++)
		kvm_vcpu_destroy(&home->vcpu[i]);
	free(home->vcpu);
	kvm_vm_destroy(&home->kvm);
	irq_deinit(&home->irq);
	if (home->map)
		munmap(home->map, home->size);
	free(home);
}
