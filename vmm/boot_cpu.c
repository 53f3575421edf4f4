/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_cpu.c - the boot CPU as the kernel expects to find it
 *
 * PVH: 32-bit protected mode, paging off, flat segments, rbx = start info.  Every bit the ABI does not
 * ask for is clear (ET is hard-wired).
 * Linux 64-bit: long mode, the first 4 GiB mapped one to one by 2 MiB pages, selectors 0x10 (code) and
 * 0x18 (data) as boot.rst asks, rsi = zero page.
 * Interrupts are off and the IDT is empty: a fault this early ends the guest.
 */
#include <string.h>

#include "base/bytes.h"
#include "vmm/boot_image.h"
#include "vmm/layout.h"

enum { SEL_CODE = 0x10, SEL_DATA = 0x18, SEL_TSS = 0x20, GDT_ENTRIES = 6 };

#define CR0_PE      (UINT64_C(1) << 0)
#define CR0_ET      (UINT64_C(1) << 4)
#define CR0_PG      (UINT64_C(1) << 31)
#define CR4_PAE     (UINT64_C(1) << 5)
#define EFER_LME    (UINT64_C(1) << 8)
#define EFER_LMA    (UINT64_C(1) << 10)
#define RFLAGS_ONE  UINT64_C(2) /* bit 1 always reads 1 */
#define PTE_PRESENT UINT64_C(1)
#define PTE_WRITE   UINT64_C(2)
#define PTE_LARGE   UINT64_C(0x80)

enum { SEG_CODE = 0xb /* execute, read, accessed */, SEG_DATA = 0x3, SEG_TSS = 0xb /* busy */ };

static const struct boot_segment data_flat = {
	.limit = UINT32_MAX,
	.selector = SEL_DATA,
	.type = SEG_DATA,
	.present = 1,
	.db = 1,
	.s = 1,
	.g = 1,
};
static const struct boot_segment task = {
	.limit = 0x67,
	.selector = SEL_TSS,
	.type = SEG_TSS,
	.present = 1,
};

static struct boot_segment code_segment(enum boot_protocol protocol)
{
	return (struct boot_segment){
		.limit = UINT32_MAX,
		.selector = SEL_CODE,
		.type = SEG_CODE,
		.present = 1,
		.db = protocol == BOOT_PVH,
		.s = 1,
		.l = protocol == BOOT_LINUX64,
		.g = 1,
	};
}

/* The descriptor that would load `seg` (Intel SDM 3, 3.4.5). */
static uint64_t descriptor(const struct boot_segment *seg)
{
	uint64_t limit = seg->g ? seg->limit >> 12 : seg->limit;
	uint64_t low = (limit & 0xffff) | (seg->base & 0xffffff) << 16;
	uint64_t access = (uint64_t)seg->type | (uint64_t)seg->s << 4 | (uint64_t)seg->dpl << 5 |
			  (uint64_t)seg->present << 7;
	uint64_t flags = (uint64_t)seg->l << 1 | (uint64_t)seg->db << 2 | (uint64_t)seg->g << 3;

	return low | access << 40 | (limit >> 16 & 0xf) << 48 | flags << 52 |
	       (seg->base >> 24 & 0xff) << 56;
}

static int write_gdt(const struct gmem *gm, const struct boot_entry *entry)
{
	uint8_t gdt[GDT_ENTRIES * 8] = {0};

	le64_store(gdt + SEL_CODE, descriptor(&entry->cs));
	le64_store(gdt + SEL_DATA, descriptor(&entry->data));
	le64_store(gdt + SEL_TSS, descriptor(&entry->tr));
	return gm_write(gm, gpa(LAYOUT_GDT), gdt, sizeof(gdt));
}

static int write_page_tables(const struct gmem *gm)
{
	uint8_t page[GM_PAGE] = {0};

	le64_store(page, LAYOUT_PDPT | PTE_PRESENT | PTE_WRITE);
	int err = gm_write(gm, gpa(LAYOUT_PML4), page, sizeof(page));
	for (unsigned i = 0; i < LAYOUT_PD_COUNT; i++)
		le64_store(page + i * 8, (LAYOUT_PD + i * GM_PAGE) | PTE_PRESENT | PTE_WRITE);
	if (!err)
		err = gm_write(gm, gpa(LAYOUT_PDPT), page, sizeof(page));
	for (unsigned i = 0; !err && i < LAYOUT_PD_COUNT; i++) {
		for (unsigned k = 0; k < GM_PAGE / 8; k++)
			le64_store(page + k * 8, ((uint64_t)i << 30 | (uint64_t)k << 21) |
							 PTE_PRESENT | PTE_WRITE | PTE_LARGE);
		err = gm_write(gm, gpa(LAYOUT_PD + i * GM_PAGE), page, sizeof(page));
	}
	return err;
}

int boot_cpu_setup(const struct gmem *gm, struct boot_entry *entry)
{
	entry->rflags = RFLAGS_ONE;
	entry->cs = code_segment(entry->protocol);
	entry->data = data_flat;
	entry->tr = task;
	entry->gdt_base = LAYOUT_GDT;
	entry->gdt_limit = GDT_ENTRIES * 8 - 1;
	entry->cr0 = CR0_PE | CR0_ET;

	int err = write_gdt(gm, entry);
	if (err || entry->protocol == BOOT_PVH) {
		entry->rbx = LAYOUT_PVH_INFO;
		return err;
	}
	entry->rsi = LAYOUT_ZERO_PAGE;
	entry->rsp = LAYOUT_STACK_TOP;
	entry->cr0 |= CR0_PG;
	entry->cr3 = LAYOUT_PML4;
	entry->cr4 = CR4_PAE;
	entry->efer = EFER_LME | EFER_LMA;
	return write_page_tables(gm);
}
