/* SPDX-License-Identifier: Apache-2.0 */
/* mptable.c - see mptable.h; MP 1.4, chapter 4 */
#include "vmm/mptable.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "vmm/layout.h"
#include "vmm/libvmm.h"

enum { POINTER_SIZE = 16, HEADER_SIZE = 44, CPU_SIZE = 20, ENTRY_SIZE = 8 };
enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL };
enum { CPU_ENABLED = 1, CPU_BOOT = 2 };
enum { INT_VECTORED, INT_NMI, INT_SMI, INT_EXTINT };
enum { HEADER_LENGTH = 4, HEADER_CHECKSUM = 7, HEADER_COUNT = 34 };
enum { POINTER_CHECKSUM = 10 };

#define SPEC_REVISION  4u    /* 1.4 */
#define LAPIC_VERSION  0x14u /* integrated */
#define IOAPIC_VERSION 0x20u
#define IOAPIC_ENABLED 1u
#define CPU_SIGNATURE  0x600u
#define CPU_FEATURES   0x201u /* FPU, APIC */
#define BUS_ISA        0u
#define ALL_LAPICS     0xffu

/* A bus, an I/O APIC, an interrupt a pin, two local interrupts. */
#define ENTRIES_MAX (1 + 1 + LAYOUT_GSI_COUNT + 2)
static_assert(POINTER_SIZE + HEADER_SIZE + VMM_CPUS_MAX * CPU_SIZE + ENTRIES_MAX * ENTRY_SIZE <=
		      LAYOUT_MPTABLE_MAX,
	      "the MP table of the largest machine");

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	unsigned sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += bytes[i];
	return (uint8_t)(0u - sum);
}

static void put_header(struct bytes_out *out)
{
	bytes_put(out, "PCMP", 4);
	bytes_put_u16(out, 0); /* length: at the end */
	bytes_put_u8(out, SPEC_REVISION);
	bytes_put_u8(out, 0); /* checksum: at the end */
	bytes_put(out, "SPORE   ", 8);
	bytes_put(out, "MICROVM     ", 12);
	bytes_put_u32(out, 0); /* OEM table */
	bytes_put_u16(out, 0);
	bytes_put_u16(out, 0); /* number of entries: at the end */
	bytes_put_u32(out, (uint32_t)LAYOUT_LAPIC);
	bytes_put_u32(out, 0); /* no extended table */
}

static void put_cpu(struct bytes_out *out, uint8_t id)
{
	bytes_put_u8(out, ENTRY_CPU);
	bytes_put_u8(out, id);
	bytes_put_u8(out, LAPIC_VERSION);
	bytes_put_u8(out, (uint8_t)(CPU_ENABLED | (id == 0 ? CPU_BOOT : 0)));
	bytes_put_u32(out, CPU_SIGNATURE);
	bytes_put_u32(out, CPU_FEATURES);
	bytes_put_u64(out, 0);
}

static void put_ioapic(struct bytes_out *out, uint8_t id)
{
	bytes_put_u8(out, ENTRY_IOAPIC);
	bytes_put_u8(out, id);
	bytes_put_u8(out, IOAPIC_VERSION);
	bytes_put_u8(out, IOAPIC_ENABLED);
	bytes_put_u32(out, (uint32_t)LAYOUT_IOAPIC);
}

/* Polarity and trigger 0: what the bus has, for ISA active high and edge. */
static void put_interrupt(struct bytes_out *out, uint8_t entry, uint8_t type, uint8_t irq,
			  uint8_t apic, uint8_t pin)
{
	bytes_put_u8(out, entry);
	bytes_put_u8(out, type);
	bytes_put_u16(out, 0);
	bytes_put_u8(out, BUS_ISA);
	bytes_put_u8(out, irq);
	bytes_put_u8(out, apic);
	bytes_put_u8(out, pin);
}

static unsigned put_entries(struct bytes_out *out, unsigned cpus)
{
	uint8_t ioapic = (uint8_t)cpus;

	for (unsigned cpu = 0; cpu < cpus; cpu++)
		put_cpu(out, (uint8_t)cpu);
	bytes_put_u8(out, ENTRY_BUS);
	bytes_put_u8(out, BUS_ISA);
	bytes_put(out, "ISA   ", 6);
	put_ioapic(out, ioapic);
	for (unsigned pin = 0; pin < LAYOUT_GSI_COUNT; pin++)
		put_interrupt(out, ENTRY_INTERRUPT, INT_VECTORED, (uint8_t)pin, ioapic,
			      (uint8_t)pin);
	put_interrupt(out, ENTRY_LOCAL, INT_EXTINT, 0, 0, 0);
	put_interrupt(out, ENTRY_LOCAL, INT_NMI, 0, ALL_LAPICS, 1);
	return cpus + ENTRIES_MAX;
}

/* The pointer goes first; physical address right behind it. */
static void put_pointer(struct bytes_out *out)
{
	bytes_put(out, "_MP_", 4);
	bytes_put_u32(out, LAYOUT_MPTABLE + POINTER_SIZE);
	bytes_put_u8(out, 1); /* length, in units of 16 */
	bytes_put_u8(out, SPEC_REVISION);
	bytes_put_u8(out, 0);  /* checksum */
	bytes_put_u8(out, 0);  /* there is a table */
	bytes_put_u32(out, 0); /* no IMCR: virtual wire mode */
	out->buf[POINTER_CHECKSUM] = checksum(out->buf, POINTER_SIZE);
}

int mptable_write(const struct gmem *gm, unsigned cpus, struct errmsg *why)
{
	uint8_t raw[LAYOUT_MPTABLE_MAX];
	struct bytes_out out = bytes_out(raw, sizeof(raw));

	if (cpus < 1 || cpus > VMM_CPUS_MAX)
		return err_set(why, 0, "MP table for %u CPUs: 1 to %u", cpus, VMM_CPUS_MAX);
	put_pointer(&out);
	put_header(&out);
	unsigned count = put_entries(&out, cpus);
	assert(!out.full);

	uint8_t *table = raw + POINTER_SIZE;
	size_t len = out.len - POINTER_SIZE;
	le16_store(table + HEADER_LENGTH, (uint16_t)len);
	le16_store(table + HEADER_COUNT, (uint16_t)count);
	table[HEADER_CHECKSUM] = checksum(table, len);
	int err = gm_write(gm, gpa(LAYOUT_MPTABLE), raw, out.len);
	return err ? err_set(why, err, "write the MP table at 0x%x", LAYOUT_MPTABLE) : 0;
}
