/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_bzimage.c - a compressed kernel, entered by the 64-bit boot protocol
 *
 * The file is a setup part (real-mode code we never run, with the setup header in it) and a kernel part.
 * The kernel part goes to 1 MiB and is entered 0x200 bytes behind its start; it moves itself out of its
 * own way and unpacks to pref_address, for which init_size bytes are kept free of the initrd.
 * Source: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", "64-bit Boot Protocol".
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/ckd.h"
#include "vmm/boot_image.h"
#include "vmm/layout.h"

#define VERSION_MIN   0x020cu /* xloadflags came with 2.12 */
#define XLF_KERNEL_64 1u
#define ENTRY_64      0x200u
#define SECTOR        512u
#define SECTS_DEFAULT 4u  /* what setup_sects = 0 means */
#define SYSSIZE_UNIT  16u /* bytes; the last unit may be cut short */
#define HEAD_SIZE     ZP_SETUP_END

/* The parts of the file and of memory, from a checked header. */
struct bzimage {
	uint64_t off, len;     /* kernel part in the file */
	uint64_t pref, unpack; /* where it unpacks, and the room it needs there */
};

static int bzimage_check_head(const uint8_t *head, struct errmsg *why)
{
	unsigned version = le16_load(head + ZP_VERSION);

	if (version < VERSION_MIN)
		err_set(why, 0, "bzImage speaks boot protocol %u.%02u, older than 2.12",
			version >> 8, version & 0xff);
	else if (!(le16_load(head + ZP_XLOADFLAGS) & XLF_KERNEL_64))
		err_set(why, 0, "bzImage has no 64-bit entry");
	else
		return 0;
	return -ENOEXEC;
}

static int bzimage_plan(const struct boot_file *file, const uint8_t *head, struct bzimage *bz,
			struct errmsg *why)
{
	uint64_t sects = head[ZP_SETUP_SECTS] ? head[ZP_SETUP_SECTS] : SECTS_DEFAULT;
	uint64_t said = (uint64_t)le32_load(head + ZP_SYSSIZE) * SYSSIZE_UNIT;

	bz->off = (sects + 1) * SECTOR;
	uint64_t there = bz->off < file->size ? file->size - bz->off : 0;
	if (there <= ENTRY_64 || said > there + SYSSIZE_UNIT - 1) {
		err_set(why, 0,
			"kernel file is truncated: bzImage of %" PRIu64 " bytes has only %" PRIu64,
			bz->off + said, file->size);
		return -EBADMSG;
	}
	bz->len = said && said < there ? said : there;
	bz->pref = le64_load(head + ZP_PREF_ADDRESS);
	bz->unpack = le32_load(head + ZP_INIT_SIZE);
	return 0;
}

static int bzimage_check_room(const struct gmem *gm, const struct bzimage *bz,
			      struct boot_image *image, struct errmsg *why)
{
	uint64_t end;

	if (!gm_contains(gm, gpa(LAYOUT_KERNEL), bz->len))
		return boot_no_room(gm, "kernel", LAYOUT_KERNEL, bz->len, why);
	if (bz->pref < LAYOUT_KERNEL || !ckd_ok_add(&end, bz->pref, bz->unpack) ||
	    end > LAYOUT_GAP || !gm_contains(gm, gpa(bz->pref), bz->unpack))
		return boot_no_room(gm, "unpacked kernel", bz->pref, bz->unpack, why);
	image->start = LAYOUT_KERNEL;
	image->end = end > LAYOUT_KERNEL + bz->len ? end : LAYOUT_KERNEL + bz->len;
	return 0;
}

/* Keeps the setup header for the zero page: from 0x1f1 to where its jump instruction says it ends. */
static void bzimage_keep_setup(const uint8_t *head, struct boot_image *image)
{
	size_t end = ZP_MAGIC + (size_t)head[ZP_JUMP_LEN];

	if (end > ZP_SETUP_END)
		end = ZP_SETUP_END;
	memcpy(image->setup, head + ZP_SETUP, end - ZP_SETUP);
	image->initrd_last = le32_load(head + ZP_INITRD_MAX);
	image->cmdline_max = le32_load(head + ZP_CMDLINE_SIZE);
	if (image->cmdline_max == 0 || image->cmdline_max > LAYOUT_CMDLINE_MAX - 1)
		image->cmdline_max = LAYOUT_CMDLINE_MAX - 1;
}

int boot_bzimage_load(const struct boot_file *file, const struct gmem *gm, struct boot_image *image,
		      struct errmsg *why)
{
	uint8_t head[HEAD_SIZE];
	struct bzimage bz;

	if (file->size < sizeof(head)) {
		err_set(why, 0, "kernel file is truncated: %" PRIu64 " bytes hold no setup header",
			file->size);
		return -EBADMSG;
	}
	int err = boot_file_read(file, 0, head, sizeof(head), why);
	if (!err)
		err = bzimage_check_head(head, why);
	if (!err)
		err = bzimage_plan(file, head, &bz, why);
	if (!err)
		err = bzimage_check_room(gm, &bz, image, why);
	if (err)
		return err;
	bzimage_keep_setup(head, image);
	image->protocol = BOOT_LINUX64;
	image->entry = LAYOUT_KERNEL + ENTRY_64;
	return boot_file_load(file, bz.off, gm, gpa(LAYOUT_KERNEL), bz.len, why);
}
