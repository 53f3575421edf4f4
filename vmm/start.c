/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/start.h"

#include <string.h>

#include "vmm/acpi.h"
#include "vmm/boot.h"
#include "vmm/boot_cmdline.h"
#include "vmm/layout.h"
#include "vmm/mptable.h"

#define MSR_MISC_ENABLE         0x1a0u
#define MSR_MTRR_DEF_TYPE       0x2ffu
#define MISC_ENABLE_FAST_STRING 1u
#define MTRR_ENABLED_WRITE_BACK (1u << 11 | 6u)

/* Guests booted with acpi=off find our devices by arguments; the interrupt controllers by the MP table. */
static bool wants_device_args(const char *args)
{
	return args && strstr(args, "acpi=off");
}

static const struct vmm_drive *root_drive(const struct vmm_config *cfg)
{
	for (uint32_t i = 0; i < cfg->drive_count; i++)
		if (cfg->drive[i].is_root)
			return &cfg->drive[i];
	return NULL;
}

static int start_cmdline(struct vmm *m, const struct vmm_config *cfg, struct boot_cmdline *line,
			 struct errmsg *why)
{
	const struct vmm_drive *root = root_drive(cfg);

	int err =
		boot_cmdline_init(line, cfg->cmdline, cfg->cmdline ? strlen(cfg->cmdline) : 0, why);
	if (!err)
		err = boot_cmdline_add(line, why, "pci=off");
	if (!err && root)
		err = boot_cmdline_add_root(line, root->partuuid,
					    root->read_only ? BOOT_ROOT_RO : BOOT_ROOT_RW, why);
	for (unsigned i = 0; !err && wants_device_args(cfg->cmdline) && i < m->dev_count; i++)
		err = boot_cmdline_add_virtio(line, i, why);
	return err;
}

static struct kvm_segment segment_of(const struct boot_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->type,
		.present = s->present,
		.dpl = s->dpl,
		.db = s->db,
		.s = s->s,
		.l = s->l,
		.g = s->g,
	};
}

static int start_registers(struct vcpu *boot, const struct boot_entry *entry, struct errmsg *why)
{
	struct kvm_sregs sregs;
	const struct kvm_regs regs = {
		.rip = entry->rip,
		.rsp = entry->rsp,
		.rbp = entry->rsp,
		.rbx = entry->rbx,
		.rsi = entry->rsi,
		.rflags = entry->rflags,
	};

	int err = kvm_vcpu_get_sregs(&boot->kvm, &sregs, why);
	if (err)
		return err;
	sregs.cs = segment_of(&entry->cs);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment_of(&entry->data);
	sregs.tr = segment_of(&entry->tr);
	sregs.gdt.base = entry->gdt_base;
	sregs.gdt.limit = entry->gdt_limit;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr0 = entry->cr0;
	sregs.cr3 = entry->cr3;
	sregs.cr4 = entry->cr4;
	sregs.efer = entry->efer;
	err = kvm_vcpu_set_sregs(&boot->kvm, &sregs, why);
	return err ? err : kvm_vcpu_set_regs(&boot->kvm, &regs, why);
}

/* As firmware leaves them: string instructions may be fast, memory is write-back. */
static int start_msrs(struct vmm *m, struct errmsg *why)
{
	int err = 0;

	for (unsigned i = 0; !err && i < m->cpus; i++) {
		err = kvm_vcpu_set_msr(&m->vcpu[i].kvm, MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING,
				       true, why);
		if (!err)
			err = kvm_vcpu_set_msr(&m->vcpu[i].kvm, MSR_MTRR_DEF_TYPE,
					       MTRR_ENABLED_WRITE_BACK, true, why);
	}
	return err;
}

int start_load(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	struct boot_cmdline line;
	struct boot_entry entry;
	struct boot_params params = {
		.kernel_fd = cfg->kernel_fd,
		.initrd_fd = cfg->initrd_fd,
		.cmdline = line.text,
	};

	const struct acpi_config tables = {
		.cpus = m->cpus,
		.virtio_count = m->dev_count,
		.com1 = ACPI_HAS_COM1,
		.sleep_port = LAYOUT_SLEEP,
		.generation = ACPI_HAS_GENERATION,
	};

	int err = start_cmdline(m, cfg, &line, why);
	if (!err)
		err = acpi_write(&m->gm, &tables, &params.rsdp, why);
	if (!err)
		err = mptable_write(&m->gm, m->cpus, why);
	if (!err)
		err = vmgenid_init(m, why);
	if (!err)
		err = boot_load(&m->gm, &params, &entry, why);
	if (!err)
		err = start_registers(&m->vcpu[0], &entry, why);
	return err ? err : start_msrs(m, why);
}
