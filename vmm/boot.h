/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h - put a kernel, its initrd and what they need to know into guest memory
 *
 * Three kinds of kernel are told apart by their first bytes: an ELF with the PVH note (entered in 32-bit
 * protected mode with rbx = start info), an ELF without it (entered in long mode at e_entry with
 * rsi = zero page) and a bzImage (entered in long mode 0x200 bytes behind its start).  A guest gets the
 * PVH start info and the Linux zero page alike, whichever it was entered by.
 *
 * The files are hostile and may change or shrink while they are read: each header is read once into a
 * local copy, checked, and used; payload goes from the file straight into guest memory and is never
 * looked at.  Nothing here knows KVM: the state of the boot CPU comes back as plain numbers.
 *
 * Thread: ctl, before any vCPU runs.  Guest memory must be fresh (all zero): what a kernel expects to be
 * zero (its bss) is not written, so that it costs no page.
 * Sources: Linux Documentation/arch/x86/boot.rst (protocol 2.12 to 2.15), the PVH boot ABI
 * (xen docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h), ELF gABI.
 */
#ifndef SPORE_VMM_BOOT_H
#define SPORE_VMM_BOOT_H

#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"

#define BOOT_PHDRS_MAX  64u      /* program headers looked at; a kernel with more is refused */
#define BOOT_NOTES_MAX  0x10000u /* bytes of one note segment */
#define BOOT_MEMMAP_MAX 32u      /* entries of the guest's memory map */

struct boot_params {
	int kernel_fd;       /* regular file; read by offset, its position is not used */
	int initrd_fd;       /* regular file, or -1 */
	const char *cmdline; /* NUL-terminated; NULL is an empty one */
	uint64_t rsdp;       /* guest-physical address of the ACPI RSDP, 0 = none */
};

enum boot_protocol { BOOT_PVH, BOOT_LINUX64 };

/* The hidden part of a segment register, field by field as struct kvm_segment has it. */
struct boot_segment {
	uint64_t base;
	uint32_t limit; /* bytes - 1 */
	uint16_t selector;
	uint8_t type, present, dpl, db, s, l, g;
};

/* State of the boot CPU at its first instruction.  What is not named is 0 (idt: limit 0). */
struct boot_entry {
	enum boot_protocol protocol;
	uint64_t rip, rsp, rbx, rsi, rflags;
	struct boot_segment cs, data, tr; /* data: ds, es, fs, gs, ss */
	uint64_t gdt_base;
	uint16_t gdt_limit;
	uint64_t cr0, cr3, cr4, efer;
	/* For logs and tests: */
	uint64_t kernel_start, kernel_end; /* with bss, or the room a bzImage unpacks into */
	uint64_t initrd_start, initrd_size;
};

/*
 * boot_load() - load everything and say how to enter it
 * @gm:  regions as layout.h has them; the first starts at 0 and holds at least 1 MiB
 * @out: written only on success
 *
 * Bounds: reads at most the size each file had when it was opened here; BOOT_*_MAX.
 * Return: 0; -EINVAL no kernel, bad command line, memory too small; -ENOEXEC not a kernel that we boot;
 * -EBADMSG damaged or truncated; -ENOMEM does not fit guest memory; -errno of a failed read.
 */
int boot_load(const struct gmem *gm, const struct boot_params *params, struct boot_entry *out,
	      struct errmsg *why) __attribute__((warn_unused_result));

/* One range of the guest's memory map; types as in e820. */
enum boot_mem_type { BOOT_MEM_RAM = 1, BOOT_MEM_RESERVED = 2, BOOT_MEM_ACPI = 3 };
struct boot_mem {
	uint64_t start, size;
	enum boot_mem_type type;
};

/* Fills `map` in ascending order.  Return: number of entries. */
unsigned boot_memmap(const struct gmem *gm, struct boot_mem map[static BOOT_MEMMAP_MAX]);

#endif
