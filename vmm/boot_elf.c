/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_elf.c - an uncompressed kernel: ELF64, loaded at its physical addresses
 *
 * Headers are read into locals, every segment is checked against the file and against guest memory,
 * and only then is anything written.  All segments together may not hold more bytes than the file has,
 * which bounds the work a hostile file can ask for.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/ckd.h"
#include "base/cleanup.h"
#include "vmm/boot_image.h"
#include "vmm/layout.h"

#define XEN_NOTE_PHYS32_ENTRY 18u /* xen public/elfnote.h */
#define XEN_NOTE_NAME         "Xen"
#define NO_ENTRY              UINT64_MAX

struct elf {
	const struct boot_file *file;
	const struct gmem *gm;
	Elf64_Ehdr head;
	unsigned count;
	Elf64_Phdr phdr[BOOT_PHDRS_MAX];
};

/* The identification and machine of a file that begins with ELFMAG. */
static int elf_check_head(const Elf64_Ehdr *h, struct errmsg *why)
{
	if (h->e_ident[EI_CLASS] != ELFCLASS64)
		err_set(why, 0, "kernel is not a 64-bit ELF (class %u)", h->e_ident[EI_CLASS]);
	else if (h->e_ident[EI_DATA] != ELFDATA2LSB)
		err_set(why, 0, "kernel is a big-endian ELF");
	else if (h->e_machine != EM_X86_64)
		err_set(why, 0, "kernel is an ELF for machine %u, not for x86-64 (%u)",
			h->e_machine, EM_X86_64);
	else if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		err_set(why, 0, "kernel is an ELF of type %u, not an executable", h->e_type);
	else if (h->e_phnum == 0 || h->e_phentsize != sizeof(Elf64_Phdr))
		err_set(why, 0, "kernel ELF has no program headers");
	else if (h->e_phnum > BOOT_PHDRS_MAX)
		err_set(why, 0, "kernel ELF has %u program headers, more than %u", h->e_phnum,
			BOOT_PHDRS_MAX);
	else
		return 0;
	return -ENOEXEC;
}

static int elf_read_heads(struct elf *elf, struct errmsg *why)
{
	const struct boot_file *file = elf->file;

	if (file->size < sizeof(elf->head)) {
		err_set(why, 0, "kernel file is truncated: %" PRIu64 " bytes hold no ELF header",
			file->size);
		return -EBADMSG;
	}
	int err = boot_file_read(file, 0, &elf->head, sizeof(elf->head), why);
	if (!err)
		err = elf_check_head(&elf->head, why);
	if (err)
		return err;

	size_t len = elf->head.e_phnum * sizeof(Elf64_Phdr);
	if (!ckd_in_range(elf->head.e_phoff, len, file->size)) {
		err_set(why, 0,
			"kernel file is truncated: program headers lie behind its end (%" PRIu64
			" bytes)",
			file->size);
		return -EBADMSG;
	}
	elf->count = elf->head.e_phnum;
	return boot_file_read(file, elf->head.e_phoff, elf->phdr, len, why);
}

/* What the checks look at and what is loaded must be the same: one rule for both. */
static bool is_loaded(const Elf64_Phdr *p)
{
	return p->p_type == PT_LOAD && (p->p_filesz || p->p_memsz);
}

/* One segment against the file and against memory. */
static int elf_check_segment(const struct elf *elf, const Elf64_Phdr *p, struct errmsg *why)
{
	uint64_t end;

	if (p->p_filesz > p->p_memsz) {
		err_set(why, 0,
			"kernel segment at 0x%" PRIx64 " has more bytes in the file than in memory",
			p->p_paddr);
		return -EBADMSG;
	}
	if (!ckd_in_range(p->p_offset, p->p_filesz, elf->file->size)) {
		err_set(why, 0,
			"kernel file is truncated: segment at 0x%" PRIx64
			" lies behind its end (%" PRIu64 " bytes)",
			p->p_paddr, elf->file->size);
		return -EBADMSG;
	}
	if (p->p_paddr < LAYOUT_KERNEL) {
		err_set(why, 0, "kernel segment at 0x%" PRIx64 " lies below 0x%x", p->p_paddr,
			LAYOUT_KERNEL);
		return -ENOEXEC;
	}
	if (!ckd_ok_add(&end, p->p_paddr, p->p_memsz) ||
	    !gm_contains(elf->gm, gpa(p->p_paddr), p->p_memsz))
		return boot_no_room(elf->gm, "kernel segment", p->p_paddr, p->p_memsz, why);
	return 0;
}

/* All segments; finds where the kernel begins and ends below the gap. */
static int elf_check_segments(const struct elf *elf, struct boot_image *image, struct errmsg *why)
{
	uint64_t total = 0;

	image->start = UINT64_MAX;
	image->end = LAYOUT_KERNEL;
	for (unsigned i = 0; i < elf->count; i++) {
		const Elf64_Phdr *p = &elf->phdr[i];
		if (!is_loaded(p))
			continue;
		int err = elf_check_segment(elf, p, why);
		if (err)
			return err;
		if (p->p_filesz > elf->file->size - total) {
			err_set(why, 0,
				"kernel segments take more bytes than the file has (%" PRIu64 ")",
				elf->file->size);
			return -EBADMSG;
		}
		total += p->p_filesz;
		if (p->p_paddr < image->start)
			image->start = p->p_paddr;
		if (p->p_paddr < LAYOUT_GAP && p->p_paddr + p->p_memsz > image->end)
			image->end = p->p_paddr + p->p_memsz;
	}
	if (image->start == UINT64_MAX) {
		err_set(why, 0, "kernel ELF has nothing to load");
		return -ENOEXEC;
	}
	return 0;
}

/* True when an instruction at `at` would come from a loaded segment. */
static bool elf_loads(const struct elf *elf, uint64_t at)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const Elf64_Phdr *p = &elf->phdr[i];
		if (is_loaded(p) && at >= p->p_paddr && at - p->p_paddr < p->p_memsz)
			return true;
	}
	return false;
}

/* The PVH entry among the notes in `in`, or NO_ENTRY.  Damaged notes end the search. */
static uint64_t notes_find_entry(struct bytes_in in)
{
	while (in.left) {
		uint32_t name_len = bytes_u32(&in);
		uint32_t desc_len = bytes_u32(&in);
		uint32_t type = bytes_u32(&in);
		const uint8_t *name = bytes_take(&in, align_up((uint64_t)name_len, 4));
		const uint8_t *desc = bytes_take(&in, desc_len);

		if (in.bad)
			break;
		if (type == XEN_NOTE_PHYS32_ENTRY && name_len == sizeof(XEN_NOTE_NAME) &&
		    memcmp(name, XEN_NOTE_NAME, sizeof(XEN_NOTE_NAME)) == 0 && desc_len >= 4)
			return desc_len >= 8 ? le64_load(desc) : le32_load(desc);
		/* The last note of a segment may go without its padding. */
		uint64_t pad = align_up((uint64_t)desc_len, 4) - desc_len;
		bytes_take(&in, pad < in.left ? (size_t)pad : in.left);
	}
	return NO_ENTRY;
}

/* Looks through one note segment.  *entry is written when a PVH entry is there. */
static int elf_read_notes(const struct elf *elf, const Elf64_Phdr *p, uint64_t *entry,
			  struct errmsg *why)
{
	if (!ckd_in_range(p->p_offset, p->p_filesz, elf->file->size)) {
		err_set(why, 0,
			"kernel file is truncated: notes lie behind its end (%" PRIu64 " bytes)",
			elf->file->size);
		return -EBADMSG;
	}
	if (p->p_filesz > BOOT_NOTES_MAX) {
		err_set(why, 0, "kernel ELF has %" PRIu64 " bytes of notes, more than %u",
			(uint64_t)p->p_filesz, BOOT_NOTES_MAX);
		return -EBADMSG;
	}
	cleanup_free uint8_t *notes = malloc(p->p_filesz + 1);
	if (!notes)
		return err_set(why, ENOMEM, "read the kernel's notes");
	int err = boot_file_read(elf->file, p->p_offset, notes, p->p_filesz, why);
	if (err)
		return err;
	uint64_t found = notes_find_entry(bytes_in(notes, p->p_filesz));
	if (found != NO_ENTRY)
		*entry = found;
	return 0;
}

/* PVH when a note offers it, else long mode at e_entry; either must lie in what is loaded. */
static int elf_find_entry(const struct elf *elf, struct boot_image *image, struct errmsg *why)
{
	uint64_t pvh = NO_ENTRY;

	for (unsigned i = 0; i < elf->count && pvh == NO_ENTRY; i++) {
		if (elf->phdr[i].p_type != PT_NOTE)
			continue;
		int err = elf_read_notes(elf, &elf->phdr[i], &pvh, why);
		if (err)
			return err;
	}
	image->protocol = pvh == NO_ENTRY ? BOOT_LINUX64 : BOOT_PVH;
	image->entry = pvh == NO_ENTRY ? elf->head.e_entry : pvh;
	if (!elf_loads(elf, image->entry) || (pvh != NO_ENTRY && pvh > UINT32_MAX)) {
		err_set(why, 0, "kernel's %s entry 0x%" PRIx64 " lies outside its segments",
			pvh == NO_ENTRY ? "64-bit" : "PVH", image->entry);
		return -ENOEXEC;
	}
	return 0;
}

int boot_elf_load(const struct boot_file *file, const struct gmem *gm, struct boot_image *image,
		  struct errmsg *why)
{
	struct elf elf = {.file = file, .gm = gm};

	int err = elf_read_heads(&elf, why);
	if (!err)
		err = elf_check_segments(&elf, image, why);
	if (!err)
		err = elf_find_entry(&elf, image, why);
	for (unsigned i = 0; !err && i < elf.count; i++) {
		const Elf64_Phdr *p = &elf.phdr[i];
		if (is_loaded(p))
			err = boot_file_load(file, p->p_offset, gm, gpa(p->p_paddr), p->p_filesz,
					     why);
	}
	image->initrd_last = UINT32_MAX;
	image->cmdline_max = LAYOUT_CMDLINE_MAX - 1;
	return err;
}
