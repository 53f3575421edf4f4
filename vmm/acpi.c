/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.c - the tables, written front to back into one buffer
 *
 * Order in memory: RSDP (where guests look for it), then each table behind those it points to: DSDT, FADT,
 * MADT, XSDT.  A table is begun with a header and closed with its length and checksum.
 * A new device is a function called by dsdt_devices(); a new table is one called by write_tables() and
 * named in xsdt_write().
 */
#include "vmm/acpi.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "vmm/aml.h"
#include "vmm/layout.h"
#include "vmm/libvmm.h"

#define OEM_ID       "SPORE "
#define OEM_TABLE_ID "SPOREVMM"
#define CREATOR_ID   "SPOR"

enum { HEADER_SIZE = 36, RSDP_SIZE = 36, RSDP_SIZE_V1 = 20, FADT_SIZE = 276 };
enum { HEADER_LENGTH = 4, HEADER_CHECKSUM = 9 };
#define TABLES_MAX 0x2000u /* bytes; 32 CPUs and 19 devices take less than half */
static_assert(TABLES_MAX <= LAYOUT_ACPI_MAX, "ACPI tables");

/* Fields of the FADT that are not zero (ACPI 6.5, table 5.9). */
enum fadt {
	FADT_BOOT_ARCH = 109,
	FADT_FLAGS = 112,
	FADT_RESET_REG = 116,
	FADT_RESET_VALUE = 128,
	FADT_MINOR = 131,
	FADT_X_DSDT = 140,
	FADT_SLEEP_CONTROL = 244,
	FADT_SLEEP_STATUS = 256,
	FADT_HYPERVISOR = 268,
};
enum { BOOT_NO_VGA = 1 << 2, BOOT_NO_CMOS_RTC = 1 << 5 }; /* and no 8042, no legacy devices */
enum {
	FLAG_WBINVD = 1 << 0,
	FLAG_POWER_BUTTON = 1 << 4, /* none of fixed hardware */
	FLAG_SLEEP_BUTTON = 1 << 5, /* likewise */
	FLAG_RESET_REG = 1 << 10,
	FLAG_HW_REDUCED = 1 << 20,
};
enum { RESET_VALUE = 0xfe, GAS_IO = 1, GAS_BYTE = 1 };
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_LAPIC_ENABLED = 1 };
enum { S5_TYPE = 5 };
enum { NOTIFY_CHANGED = 0x80 }; /* what both devices say when they have changed */

struct tables {
	const struct acpi_config *cfg;
	uint8_t raw[TABLES_MAX];
	struct bytes_out out;
	size_t xsdt, fadt, madt, dsdt; /* where each begins */
};

static uint64_t guest_addr(size_t off)
{
	return LAYOUT_ACPI + off;
}

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	unsigned sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += bytes[i];
	return (uint8_t)(0u - sum);
}

static void put_zeros(struct bytes_out *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes_put_u8(out, 0);
}

/* Begins a table on a boundary of 8.  Return: where. */
static size_t table_begin(struct bytes_out *out, const char sign[static 4], uint8_t revision)
{
	put_zeros(out, (8 - out->len % 8) % 8);
	size_t begin = out->len;

	bytes_put(out, sign, 4);
	bytes_put_u32(out, 0); /* length and checksum: table_end() */
	bytes_put_u8(out, revision);
	bytes_put_u8(out, 0);
	bytes_put(out, OEM_ID, 6);
	bytes_put(out, OEM_TABLE_ID, 8);
	bytes_put_u32(out, 1);
	bytes_put(out, CREATOR_ID, 4);
	bytes_put_u32(out, 1);
	return begin;
}

static void table_end(struct bytes_out *out, size_t begin)
{
	uint8_t *table = out->buf + begin;
	size_t len = out->len - begin;

	assert(!out->full);
	le32_store(table + HEADER_LENGTH, (uint32_t)len);
	table[HEADER_CHECKSUM] = checksum(table, len);
}

/* Generic address structure: one byte-wide port. */
static void gas_store(uint8_t *at, uint16_t port)
{
	at[0] = GAS_IO;
	at[1] = 8; /* bits */
	at[3] = GAS_BYTE;
	le64_store(at + 4, port);
}

static void fadt_write(struct tables *t)
{
	t->fadt = table_begin(&t->out, "FACP", 6);
	put_zeros(&t->out, FADT_SIZE - HEADER_SIZE);
	assert(!t->out.full);

	uint8_t *f = t->raw + t->fadt;
	le16_store(f + FADT_BOOT_ARCH, BOOT_NO_VGA | BOOT_NO_CMOS_RTC);
	le32_store(f + FADT_FLAGS, FLAG_WBINVD | FLAG_POWER_BUTTON | FLAG_SLEEP_BUTTON |
					   FLAG_RESET_REG | FLAG_HW_REDUCED);
	gas_store(f + FADT_RESET_REG, LAYOUT_I8042_CMD);
	f[FADT_RESET_VALUE] = RESET_VALUE;
	f[FADT_MINOR] = 5;
	le64_store(f + FADT_X_DSDT, guest_addr(t->dsdt));
	if (t->cfg->sleep_port) {
		gas_store(f + FADT_SLEEP_CONTROL, t->cfg->sleep_port);
		gas_store(f + FADT_SLEEP_STATUS, (uint16_t)(t->cfg->sleep_port + 1));
	}
	memcpy(f + FADT_HYPERVISOR, "SPORE\0\0", 8);
	table_end(&t->out, t->fadt);
}

/* No PIC (PCAT_COMPAT clear), one I/O APIC from GSI 0, no overrides: ISA GSIs are edge, active high. */
static void madt_write(struct tables *t)
{
	struct bytes_out *out = &t->out;

	t->madt = table_begin(out, "APIC", 5);
	bytes_put_u32(out, (uint32_t)LAYOUT_LAPIC);
	bytes_put_u32(out, 0);
	bytes_put_u8(out, MADT_IOAPIC);
	bytes_put_u8(out, 12);
	bytes_put_u8(out, 0); /* id */
	bytes_put_u8(out, 0);
	bytes_put_u32(out, (uint32_t)LAYOUT_IOAPIC);
	bytes_put_u32(out, 0);
	for (unsigned cpu = 0; cpu < t->cfg->cpus; cpu++) {
		bytes_put_u8(out, MADT_LAPIC);
		bytes_put_u8(out, 8);
		bytes_put_u8(out, (uint8_t)cpu);
		bytes_put_u8(out, (uint8_t)cpu);
		bytes_put_u32(out, MADT_LAPIC_ENABLED);
	}
	table_end(out, t->madt);
}

/* Device V0nn: a virtio-mmio page and its interrupt. */
static void dsdt_virtio(struct bytes_out *out, unsigned index)
{
	const char name[5] = {'V', '0', (char)('0' + index / 10), (char)('0' + index % 10), 0};
	struct aml_crs crs;

	aml_crs_init(&crs);
	aml_crs_memory32(&crs, (uint32_t)layout_virtio_addr(index), (uint32_t)LAYOUT_PAGE);
	aml_crs_interrupt(&crs, layout_virtio_gsi(index));

	size_t dev = aml_device(out, name);
	aml_name_str(out, "_HID", "LNRO0005");
	aml_name_int(out, "_UID", index);
	aml_name_int(out, "_CCA", 1); /* DMA is coherent */
	aml_name_crs(out, &crs);
	aml_end(out, dev);
}

static void dsdt_com1(struct bytes_out *out)
{
	struct aml_crs crs;

	aml_crs_init(&crs);
	aml_crs_io(&crs, LAYOUT_COM1, LAYOUT_COM1_SIZE);
	aml_crs_interrupt(&crs, LAYOUT_COM1_GSI);

	size_t dev = aml_device(out, "COM1");
	aml_name_eisa(out, "_HID", "PNP0501");
	aml_name_int(out, "_UID", 0);
	aml_name_crs(out, &crs);
	aml_end(out, dev);
}

static void dsdt_vmgenid(struct bytes_out *out)
{
	static const uint64_t addr[] = {LAYOUT_VMGENID & UINT32_MAX,
					(uint64_t)LAYOUT_VMGENID >> 32};

	size_t dev = aml_device(out, "VGEN");
	aml_name_str(out, "_HID", "QEMUVGID"); /* as QEMU's; drivers go by the other id */
	aml_name_str(out, "_CID", "VM_Gen_Counter");
	aml_name_str(out, "_DDN", "VM_Gen_Counter");
	aml_name_package(out, "ADDR", addr, ARRAY_LEN(addr));
	aml_end(out, dev);
}

static void dsdt_vmclock(struct bytes_out *out)
{
	struct aml_crs crs;

	aml_crs_init(&crs);
	aml_crs_memory32(&crs, LAYOUT_VMCLOCK, (uint32_t)LAYOUT_PAGE);

	size_t dev = aml_device(out, "VCLK");
	aml_name_str(out, "_HID", "AMZNC10C");
	aml_name_str(out, "_CID", "VMCLOCK");
	aml_name_str(out, "_DDN", "VMCLOCK");
	aml_name_crs(out, &crs);
	aml_end(out, dev);
}

/* One interrupt stands for both: they change together. */
static void dsdt_ged(struct bytes_out *out)
{
	struct aml_crs crs;

	aml_crs_init(&crs);
	aml_crs_interrupt(&crs, LAYOUT_GED_GSI);

	size_t dev = aml_device(out, "GED_");
	aml_name_str(out, "_HID", "ACPI0013");
	aml_name_int(out, "_UID", 0);
	aml_name_crs(out, &crs);
	size_t method = aml_method(out, "_EVT", 1);
	aml_notify(out, "_SB_", "VGEN", NOTIFY_CHANGED);
	aml_notify(out, "_SB_", "VCLK", NOTIFY_CHANGED);
	aml_end(out, method);
	aml_end(out, dev);
}

static void dsdt_devices(struct bytes_out *out, const struct acpi_config *cfg)
{
	if (cfg->com1 == ACPI_HAS_COM1)
		dsdt_com1(out);
	for (unsigned i = 0; i < cfg->virtio_count; i++)
		dsdt_virtio(out, i);
	if (cfg->generation == ACPI_HAS_GENERATION) {
		dsdt_vmgenid(out);
		dsdt_vmclock(out);
		dsdt_ged(out);
	}
}

static void dsdt_write(struct tables *t)
{
	static const uint64_t s5[] = {S5_TYPE, 0, 0, 0};

	t->dsdt = table_begin(&t->out, "DSDT", 2);
	if (t->cfg->sleep_port)
		aml_name_package(&t->out, "_S5_", s5, ARRAY_LEN(s5));
	size_t scope = aml_scope(&t->out, "_SB_");
	dsdt_devices(&t->out, t->cfg);
	aml_end(&t->out, scope);
	table_end(&t->out, t->dsdt);
}

static void xsdt_write(struct tables *t)
{
	t->xsdt = table_begin(&t->out, "XSDT", 1);
	bytes_put_u64(&t->out, guest_addr(t->fadt));
	bytes_put_u64(&t->out, guest_addr(t->madt));
	table_end(&t->out, t->xsdt);
}

static void rsdp_fill(uint8_t *rsdp, uint64_t xsdt)
{
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, OEM_ID, 6);
	rsdp[15] = 2; /* revision: there is an XSDT, and no RSDT */
	le32_store(rsdp + 20, RSDP_SIZE);
	le64_store(rsdp + 24, xsdt);
	rsdp[8] = checksum(rsdp, RSDP_SIZE_V1);
	rsdp[32] = checksum(rsdp, RSDP_SIZE);
}

static void write_tables(struct tables *t)
{
	t->out = bytes_out(t->raw, sizeof(t->raw));
	put_zeros(&t->out, RSDP_SIZE);
	dsdt_write(t);
	fadt_write(t);
	madt_write(t);
	xsdt_write(t);
	rsdp_fill(t->raw, guest_addr(t->xsdt));
}

int acpi_write(const struct gmem *gm, const struct acpi_config *cfg, uint64_t *rsdp,
	       struct errmsg *why)
{
	struct tables t = {.cfg = cfg};

	if (cfg->cpus < 1 || cfg->cpus > VMM_CPUS_MAX)
		return err_set(why, 0, "ACPI tables for %u CPUs: 1 to %u", cfg->cpus, VMM_CPUS_MAX);
	if (cfg->virtio_count > LAYOUT_VIRTIO_MAX)
		return err_set(why, 0, "ACPI tables for %u virtio devices: at most %u",
			       cfg->virtio_count, LAYOUT_VIRTIO_MAX);
	write_tables(&t);
	int err = gm_write(gm, gpa(LAYOUT_ACPI), t.raw, t.out.len);
	if (err)
		return err_set(why, err, "write ACPI tables at 0x%x", LAYOUT_ACPI);
	*rsdp = LAYOUT_ACPI;
	return 0;
}
