/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_image.h - inside boot*.c: files read with bounds, and what a kernel image turned out to be
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_BOOT_IMAGE_H
#define SPORE_VMM_BOOT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"
#include "vmm/boot.h"

/* A regular file with the size it had when it was looked at; reads beyond that are our bug. */
struct boot_file {
	int fd;
	uint64_t size;
	const char *what; /* "kernel" or "initrd", for messages */
};

/* Return: 0; -EINVAL no fd, not a regular file, empty; -errno. */
int boot_file_init(struct boot_file *file, int fd, const char *what, struct errmsg *why);

/*
 * boot_file_read() - read exactly `len` bytes at `off`, which lie within file->size
 * Return: 0; -EBADMSG the file has become shorter; -errno.
 */
int boot_file_read(const struct boot_file *file, uint64_t off, void *buf, size_t len,
		   struct errmsg *why);

/*
 * boot_file_load() - the same straight into guest memory, with no copy between
 * `at`, `len` must lie in one region of `gm`: the caller has checked and worded that.
 */
int boot_file_load(const struct boot_file *file, uint64_t off, const struct gmem *gm, gpa_t at,
		   uint64_t len, struct errmsg *why);

/* The Linux setup header and the fields of the zero page that are set here (boot.rst). */
enum boot_zp {
	ZP_RSDP = 0x070, /* u64 */
	ZP_E820_COUNT = 0x1e8,
	ZP_SETUP = 0x1f1, /* the setup header begins */
	ZP_SETUP_SECTS = 0x1f1,
	ZP_SYSSIZE = 0x1f4,
	ZP_BOOT_FLAG = 0x1fe,
	ZP_JUMP_LEN = 0x201, /* the header ends this many bytes after 0x202 */
	ZP_MAGIC = 0x202,
	ZP_VERSION = 0x206,
	ZP_LOADER = 0x210,
	ZP_LOADFLAGS = 0x211,
	ZP_RAMDISK = 0x218,
	ZP_RAMDISK_SIZE = 0x21c,
	ZP_CMDLINE = 0x228,
	ZP_INITRD_MAX = 0x22c,
	ZP_ALIGNMENT = 0x230,
	ZP_XLOADFLAGS = 0x236,
	ZP_CMDLINE_SIZE = 0x238,
	ZP_PREF_ADDRESS = 0x258,
	ZP_INIT_SIZE = 0x260,
	ZP_SETUP_END = 0x290, /* where the zero page has room for the header to end */
	ZP_E820 = 0x2d0,
};
#define BOOT_SETUP_MAGIC 0x53726448u /* "HdrS" */
#define BOOT_FLAG        0xaa55u

struct boot_image {
	enum boot_protocol protocol;
	uint64_t entry;
	uint64_t start, end;  /* of what lies below the gap, with bss or room to unpack */
	uint64_t initrd_last; /* the initrd's last byte may not lie above this */
	uint64_t cmdline_max; /* bytes without the NUL */
	uint8_t setup[ZP_SETUP_END - ZP_SETUP]; /* bzImage: its setup header, else zero */
};

/* Load an ELF or a bzImage: everything is checked before guest memory is written. */
int boot_elf_load(const struct boot_file *file, const struct gmem *gm, struct boot_image *image,
		  struct errmsg *why);
int boot_bzimage_load(const struct boot_file *file, const struct gmem *gm, struct boot_image *image,
		      struct errmsg *why);

/* Words for a range that lies outside memory.  Return: -ENOMEM. */
int boot_no_room(const struct gmem *gm, const char *what, uint64_t start, uint64_t size,
		 struct errmsg *why);

/* Page tables, descriptor table and registers of the boot CPU.  Return: 0, -EFAULT. */
int boot_cpu_setup(const struct gmem *gm, struct boot_entry *entry);

#endif
