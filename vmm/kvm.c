/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fnv.h"

/*
 * Where Intel's VMX keeps the three pages of its real-mode task segment when it lacks "unrestricted
 * guest" (Documentation/virt/kvm/api.rst, KVM_SET_TSS_ADDR): below 4 GiB, outside RAM and devices.
 */
#define KVM_TSS_ADDR 0xfffbd000ul

#define KVM_CREATE_TRIES 5 /* KVM_CREATE_VM may be interrupted while it waits for other VMs */

static int kvm_check_api(int dev_fd, struct errmsg *why)
{
	int version = ioctl(dev_fd, KVM_GET_API_VERSION, 0);

	if (version < 0)
		return err_set(why, errno, "KVM_GET_API_VERSION (is this /dev/kvm?)");
	if (version != KVM_API_VERSION)
		return err_set(why, ENOTSUP, "KVM API version %d, not %d", version,
			       KVM_API_VERSION);
	return 0;
}

static int kvm_split_irqchip(struct kvm_vm *vm, struct errmsg *why)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {KVM_GSI_COUNT}};

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		return err_set(why, errno, "KVM_ENABLE_CAP(SPLIT_IRQCHIP)");
	return 0;
}

/*
 * A pending exception then keeps its payload (CR2, DR6), and a pending shutdown is told, in a vCPU's events:
 * neither is acted upon behind our back when state is read.  Kernels without them do the former.
 */
static void kvm_exact_events(const struct kvm_vm *vm)
{
	struct kvm_enable_cap payload = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};
	struct kvm_enable_cap fault = {.cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = {1}};

	(void)ioctl(vm->fd, KVM_ENABLE_CAP, &payload);
	(void)ioctl(vm->fd, KVM_ENABLE_CAP, &fault);
}

/* Dirty logs (if one is ever switched on) start with all bits set and protect no page before it is asked for. */
static int kvm_manual_log(struct kvm_vm *vm, struct errmsg *why)
{
	const uint64_t want = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {want}};

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		return err_set(why, errno, "KVM_ENABLE_CAP(MANUAL_DIRTY_LOG_PROTECT2)");
	return 0;
}

int kvm_vm_create(struct kvm_vm *vm, int dev_fd, struct errmsg *why)
{
	*vm = (struct kvm_vm){.dev_fd = dev_fd, .fd = -1};
	int err = kvm_check_api(dev_fd, why);
	if (err)
		return err;
	int size = ioctl(dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return err_set(why, size < 0 ? errno : EPROTO, "KVM_GET_VCPU_MMAP_SIZE");

	cleanup_close int fd = -1;
	for (int i = 0; i < KVM_CREATE_TRIES && fd < 0; i++) {
		fd = ioctl(dev_fd, KVM_CREATE_VM, 0);
		if (fd < 0 && errno != EINTR)
			break;
	}
	if (fd < 0)
		return err_set(why, errno, "KVM_CREATE_VM");
	vm->run_size = (size_t)size;
	vm->tsc_deadline = ioctl(dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	if (ioctl(fd, KVM_SET_TSS_ADDR, KVM_TSS_ADDR))
		return err_set(why, errno, "KVM_SET_TSS_ADDR");
	vm->fd = fd;
	err = kvm_manual_log(vm, why);
	if (!err)
		err = kvm_split_irqchip(vm, why);
	if (err) {
		vm->fd = -1;
		return err;
	}
	kvm_exact_events(vm);
	steal_fd(&fd);
	return 0;
}

void kvm_vm_destroy(struct kvm_vm *vm)
{
	if (vm->fd >= 0)
		close(vm->fd);
	vm->fd = -1;
}

int kvm_vm_set_slot(struct kvm_vm *vm, unsigned slot, gpa_t start, void *host, uint64_t size,
		    bool log_dirty, struct errmsg *why)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = start.v,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		return err_set(why, errno, "KVM_SET_USER_MEMORY_REGION slot %u, %llu MiB", slot,
			       (unsigned long long)(size >> 20));
	return 0;
}

int kvm_vm_get_log(struct kvm_vm *vm, unsigned slot, uint64_t *bitmap, struct errmsg *why)
{
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

	return ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log)
		       ? err_set(why, errno, "KVM_GET_DIRTY_LOG slot %u", slot)
		       : 0;
}

int kvm_vm_clear_log(struct kvm_vm *vm, unsigned slot, uint64_t first, uint64_t pages,
		     const uint64_t *bitmap, struct errmsg *why)
{
	struct kvm_clear_dirty_log log = {
		.slot = slot,
		.first_page = first,
		.num_pages = (uint32_t)pages,
		.dirty_bitmap = (void *)(uintptr_t)bitmap,
	};

	return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &log)
		       ? err_set(why, errno, "KVM_CLEAR_DIRTY_LOG slot %u", slot)
		       : 0;
}

int kvm_vm_irqfd(struct kvm_vm *vm, unsigned gsi, int fd, struct errmsg *why)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};

	if (ioctl(vm->fd, KVM_IRQFD, &irqfd))
		return err_set(why, errno, "KVM_IRQFD gsi %u", gsi);
	return 0;
}

int kvm_vm_ioeventfd(struct kvm_vm *vm, gpa_t at, uint32_t value, int fd, struct errmsg *why)
{
	struct kvm_ioeventfd ioeventfd = {
		.datamatch = value,
		.addr = at.v,
		.len = sizeof(value),
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	if (ioctl(vm->fd, KVM_IOEVENTFD, &ioeventfd))
		return err_set(why, errno, "KVM_IOEVENTFD at 0x%llx", (unsigned long long)at.v);
	return 0;
}

int kvm_vm_set_routes(struct kvm_vm *vm, const struct kvm_route route[KVM_GSI_COUNT])
{
	struct { /* begins as struct kvm_irq_routing does */
		uint32_t nr, flags;
		struct kvm_irq_routing_entry entry[KVM_GSI_COUNT];
	} table = {.nr = 0};

	for (unsigned gsi = 0; gsi < KVM_GSI_COUNT; gsi++) {
		if (!route[gsi].on)
			continue;
		table.entry[table.nr++] = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi.address_lo = (uint32_t)route[gsi].address,
			.u.msi.address_hi = (uint32_t)(route[gsi].address >> 32),
			.u.msi.data = route[gsi].data,
		};
	}
	return ioctl(vm->fd, KVM_SET_GSI_ROUTING, &table) ? -errno : 0;
}

int kvm_vm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};

	return ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

int kvm_supported_cpuid(int dev_fd, struct cpuid_table *out, struct errmsg *why)
{
	_Static_assert(offsetof(struct cpuid_table, entry) == offsetof(struct kvm_cpuid2, entries),
		       "kvm_cpuid begins as kvm_cpuid2 does");
	out->nent = KVM_CPUID_MAX;
	out->padding = 0;
	if (ioctl(dev_fd, KVM_GET_SUPPORTED_CPUID, out))
		return err_set(why, errno, "KVM_GET_SUPPORTED_CPUID");
	return 0;
}

int kvm_vcpu_create(struct kvm_vcpu *vcpu, const struct kvm_vm *vm, unsigned id, struct errmsg *why)
{
	*vcpu = (struct kvm_vcpu){.fd = -1};
	cleanup_close int fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (fd < 0)
		return err_set(why, errno, "KVM_CREATE_VCPU %u", id);
	void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run == MAP_FAILED)
		return err_set(why, errno, "mmap of vCPU %u's run page", id);
	*vcpu = (struct kvm_vcpu){
		.fd = steal_fd(&fd), .id = id, .run_size = vm->run_size, .run = run};
	return 0;
}

void kvm_vcpu_destroy(struct kvm_vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	free(vcpu->cpuid);
	*vcpu = (struct kvm_vcpu){.fd = -1};
}

int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct cpuid_table *cpuid, struct errmsg *why)
{
	size_t bytes = cpuid->nent * sizeof(cpuid->entry[0]);
	struct cpuid_kept *kept = malloc(sizeof(*kept) + bytes);

	if (!kept)
		return err_set(why, ENOMEM, "CPUID");
	kept->nent = cpuid->nent;
	memcpy(kept->entry, cpuid->entry, bytes);
	kept->hash = fnv1a(kept->entry, bytes);
	free(vcpu->cpuid);
	vcpu->cpuid = kept;
	return ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) ? err_set(why, errno, "KVM_SET_CPUID2") : 0;
}

int kvm_vcpu_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs, struct errmsg *why)
{
	return ioctl(vcpu->fd, KVM_SET_SREGS, sregs) ? err_set(why, errno, "KVM_SET_SREGS") : 0;
}

int kvm_vcpu_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs, struct errmsg *why)
{
	return ioctl(vcpu->fd, KVM_GET_SREGS, sregs) ? err_set(why, errno, "KVM_GET_SREGS") : 0;
}

int kvm_vcpu_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs, struct errmsg *why)
{
	return ioctl(vcpu->fd, KVM_SET_REGS, regs) ? err_set(why, errno, "KVM_SET_REGS") : 0;
}

int kvm_vcpu_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs, struct errmsg *why)
{
	return ioctl(vcpu->fd, KVM_GET_REGS, regs) ? err_set(why, errno, "KVM_GET_REGS") : 0;
}

int kvm_vcpu_set_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool optional,
		     struct errmsg *why)
{
	struct { /* begins as struct kvm_msrs does */
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry;
	} msr = {.nmsrs = 1, .entry = {.index = index, .data = value}};

	int set = ioctl(vcpu->fd, KVM_SET_MSRS, &msr);
	if (set == 1 || (set == 0 && optional))
		return 0;
	return err_set(why, set < 0 ? errno : EINVAL, "KVM_SET_MSRS 0x%x", index);
}

int kvm_vcpu_set_signal(struct kvm_vcpu *vcpu, int signal, struct errmsg *why)
{
	/* The kernel's sigset is 64 bits; what KVM_RUN runs with: all blocked but `signal`. */
	struct { /* begins as struct kvm_signal_mask does */
		uint32_t len;
		uint64_t set;
	} __attribute__((packed)) mask = {
		.len = sizeof(mask.set),
		.set = ~(UINT64_C(1) << (signal - 1)),
	};

	return ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask)
		       ? err_set(why, errno, "KVM_SET_SIGNAL_MASK")
		       : 0;
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) ? -errno : 0;
}
