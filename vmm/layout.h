/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - the guest-physical address map, x86-64
 *
 *   0x00000500  GDT of the first instruction
 *   0x00006000  PVH start info, module list and memory map (one page)
 *   0x00007000  Linux zero page (struct boot_params)
 *   0x00008000  first stack, grows down from 0x8ff0
 *   0x00009000  page tables: PML4, PDPT, four page directories (identity, 4 GiB in 2 MiB pages)
 *   0x00020000  kernel command line
 *   0x0009fc00  MP table (last KiB of base memory, where Linux looks first)
 *   0x000de000  VM generation id page; 0x000df000 VMClock page
 *   0x000e0000  ACPI: RSDP and all tables
 *   0x00100000  kernel, then free memory; initrd as high as it fits below the gap
 *   0xc0000000  gap of 1 GiB: boot timer, virtio-mmio pages, IOAPIC, local APIC, KVM's own pages
 *   0x100000000 the rest of memory
 *
 * Addresses a client can see are those of Firecracker, so that one guest runs under both.
 * All sizes in bytes.  Everything below 1 MiB that is listed here is kept from the guest's allocator by
 * the memory map that boot.c writes, except what is only needed before the kernel has its own copy.
 */
#ifndef SPORE_VMM_LAYOUT_H
#define SPORE_VMM_LAYOUT_H

#include <assert.h>
#include <stdint.h>

/* --- below 1 MiB ------------------------------------------------------------------------------- */
#define LAYOUT_GDT            0x500u
#define LAYOUT_GDT_SIZE       0x100u
#define LAYOUT_PVH_INFO       0x6000u
#define LAYOUT_PVH_INFO_SIZE  0x1000u
#define LAYOUT_ZERO_PAGE      0x7000u
#define LAYOUT_ZERO_PAGE_SIZE 0x1000u
#define LAYOUT_STACK          0x8000u
#define LAYOUT_STACK_SIZE     0x1000u
#define LAYOUT_STACK_TOP      0x8ff0u
#define LAYOUT_PML4           0x9000u
#define LAYOUT_PDPT           0xa000u
#define LAYOUT_PD             0xb000u /* four of them, side by side */
#define LAYOUT_PD_COUNT       4u
#define LAYOUT_TABLES_SIZE    (2 * 0x1000u + LAYOUT_PD_COUNT * 0x1000u)
#define LAYOUT_CMDLINE        0x20000u
#define LAYOUT_CMDLINE_MAX    2048u /* with the terminating NUL */
#define LAYOUT_MPTABLE        0x9fc00u
#define LAYOUT_MPTABLE_MAX    0x400u
#define LAYOUT_BASE_END       0xa0000u /* end of base memory: 640 KiB */
#define LAYOUT_VMGENID        0xde000u
#define LAYOUT_VMCLOCK        0xdf000u
#define LAYOUT_FIRMWARE_END   0x100000u
#define LAYOUT_ACPI           0xe0000u /* the RSDP stands first */
#define LAYOUT_ACPI_MAX       (LAYOUT_FIRMWARE_END - LAYOUT_ACPI)
#define LAYOUT_KERNEL         0x100000u /* lowest address a kernel may ask for */

/* --- the gap ------------------------------------------------------------------------------------ */
#define LAYOUT_GAP          UINT64_C(0xc0000000)
#define LAYOUT_GAP_END      UINT64_C(0x100000000)
#define LAYOUT_PAGE         UINT64_C(0x1000)
#define LAYOUT_BOOT_TIMER   LAYOUT_GAP
#define LAYOUT_VIRTIO       (LAYOUT_GAP + LAYOUT_PAGE) /* device n: one page at + n pages */
#define LAYOUT_GSI_VIRTIO   5u                         /* device n: GSI 5 + n */
#define LAYOUT_GSI_COUNT    24u                        /* pins of the IOAPIC */
#define LAYOUT_VIRTIO_MAX   (LAYOUT_GSI_COUNT - LAYOUT_GSI_VIRTIO)
#define LAYOUT_IOAPIC       UINT64_C(0xfec00000)
#define LAYOUT_IOAPIC_SIZE  LAYOUT_PAGE
#define LAYOUT_LAPIC        UINT64_C(0xfee00000)
#define LAYOUT_LAPIC_SIZE   UINT64_C(0x100000)   /* with the window of MSI addresses */
#define LAYOUT_IDENTITY_MAP UINT64_C(0xfffbc000) /* KVM_SET_IDENTITY_MAP_ADDR: one page */
#define LAYOUT_TSS          UINT64_C(0xfffbd000) /* KVM_SET_TSS_ADDR: three pages */
#define LAYOUT_HIGH         LAYOUT_GAP_END       /* RAM goes on here */

/* --- ports and their interrupts ------------------------------------------------------------------ */
#define LAYOUT_COM1       0x3f8u
#define LAYOUT_COM1_SIZE  8u
#define LAYOUT_COM1_GSI   4u
#define LAYOUT_GED_GSI    3u /* generic event device: generation id and VMClock */
#define LAYOUT_I8042_DATA 0x60u
#define LAYOUT_I8042_CMD  0x64u
#define LAYOUT_SLEEP      0x600u /* ACPI sleep control, 1 byte; sleep status behind it */
#define LAYOUT_SLEEP_SIZE 2u

/* Bytes of RAM below the gap and above 4 GiB, when the guest has `mem` bytes. */
static inline uint64_t layout_low_size(uint64_t mem)
{
	return mem < LAYOUT_GAP ? mem : LAYOUT_GAP;
}

static inline uint64_t layout_high_size(uint64_t mem)
{
	return mem - layout_low_size(mem);
}

static inline uint64_t layout_virtio_addr(unsigned index)
{
	assert(index < LAYOUT_VIRTIO_MAX);
	return LAYOUT_VIRTIO + index * LAYOUT_PAGE;
}

static inline uint32_t layout_virtio_gsi(unsigned index)
{
	assert(index < LAYOUT_VIRTIO_MAX);
	return LAYOUT_GSI_VIRTIO + index;
}

/* Each range ends where, or before, the next one begins. */
#define LAYOUT_BEFORE(at, size, next) \
	static_assert((at) + (size) <= (next), #at " runs into " #next)
LAYOUT_BEFORE(LAYOUT_GDT, LAYOUT_GDT_SIZE, LAYOUT_PVH_INFO);
LAYOUT_BEFORE(LAYOUT_PVH_INFO, LAYOUT_PVH_INFO_SIZE, LAYOUT_ZERO_PAGE);
LAYOUT_BEFORE(LAYOUT_ZERO_PAGE, LAYOUT_ZERO_PAGE_SIZE, LAYOUT_STACK);
LAYOUT_BEFORE(LAYOUT_STACK_TOP, 0, LAYOUT_STACK + LAYOUT_STACK_SIZE);
LAYOUT_BEFORE(LAYOUT_STACK, LAYOUT_STACK_SIZE, LAYOUT_PML4);
LAYOUT_BEFORE(LAYOUT_PML4, LAYOUT_PAGE, LAYOUT_PDPT);
LAYOUT_BEFORE(LAYOUT_PDPT, LAYOUT_PAGE, LAYOUT_PD);
LAYOUT_BEFORE(LAYOUT_PML4, LAYOUT_TABLES_SIZE, LAYOUT_CMDLINE);
LAYOUT_BEFORE(LAYOUT_CMDLINE, LAYOUT_CMDLINE_MAX, LAYOUT_MPTABLE);
LAYOUT_BEFORE(LAYOUT_MPTABLE, LAYOUT_MPTABLE_MAX, LAYOUT_BASE_END);
LAYOUT_BEFORE(LAYOUT_BASE_END, 0, LAYOUT_VMGENID);
LAYOUT_BEFORE(LAYOUT_VMGENID, LAYOUT_PAGE, LAYOUT_VMCLOCK);
LAYOUT_BEFORE(LAYOUT_VMCLOCK, LAYOUT_PAGE, LAYOUT_ACPI);
LAYOUT_BEFORE(LAYOUT_ACPI, LAYOUT_ACPI_MAX, LAYOUT_KERNEL);
LAYOUT_BEFORE(LAYOUT_BOOT_TIMER, LAYOUT_PAGE, LAYOUT_VIRTIO);
LAYOUT_BEFORE(LAYOUT_VIRTIO, LAYOUT_VIRTIO_MAX *LAYOUT_PAGE, LAYOUT_IOAPIC);
LAYOUT_BEFORE(LAYOUT_IOAPIC, LAYOUT_IOAPIC_SIZE, LAYOUT_LAPIC);
LAYOUT_BEFORE(LAYOUT_LAPIC, LAYOUT_LAPIC_SIZE, LAYOUT_IDENTITY_MAP);
LAYOUT_BEFORE(LAYOUT_IDENTITY_MAP, LAYOUT_PAGE, LAYOUT_TSS);
LAYOUT_BEFORE(LAYOUT_TSS, 3 * LAYOUT_PAGE, LAYOUT_GAP_END);
static_assert(LAYOUT_GED_GSI < LAYOUT_COM1_GSI, "event device shares a GSI");
static_assert(LAYOUT_COM1_GSI < LAYOUT_GSI_VIRTIO, "COM1 shares a virtio GSI");
static_assert(LAYOUT_I8042_CMD < LAYOUT_COM1, "ports overlap");
LAYOUT_BEFORE(LAYOUT_COM1, LAYOUT_COM1_SIZE, LAYOUT_SLEEP);

#endif
