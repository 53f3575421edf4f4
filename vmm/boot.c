/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.c - load order, memory map, and the two tables a kernel may read: start info and zero page
 *
 * See boot.h for the contract.  Order: check everything that needs no file, load the kernel, place the
 * initrd by what the kernel left free, then write the tables.
 */
#include "vmm/boot.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/ckd.h"
#include "vmm/boot_cmdline.h"
#include "vmm/boot_image.h"
#include "vmm/layout.h"

/* struct hvm_start_info, version 1, and what it points to, all in one page. */
#define PVH_MAGIC       0x336ec578u
#define PVH_VERSION     1u
#define PVH_MODULE      (LAYOUT_PVH_INFO + 0x40)
#define PVH_MEMMAP      (LAYOUT_PVH_INFO + 0x80)
#define PVH_INFO_BYTES  56u
#define PVH_MODULE_SIZE 32u
#define PVH_MEMMAP_SIZE 24u
#define E820_SIZE       20u
#define LOADER_OTHER    0xffu /* type_of_loader: none that Linux knows */
#define LOADED_HIGH     1u
#define SETUP_VERSION   0x020fu

static_assert(PVH_INFO_BYTES <= PVH_MODULE - LAYOUT_PVH_INFO, "start info");
static_assert(PVH_MODULE_SIZE <= PVH_MEMMAP - PVH_MODULE, "module list");
static_assert(PVH_MEMMAP + BOOT_MEMMAP_MAX * PVH_MEMMAP_SIZE <=
		      LAYOUT_PVH_INFO + LAYOUT_PVH_INFO_SIZE,
	      "memory map");
static_assert(ZP_E820 + BOOT_MEMMAP_MAX * E820_SIZE <= LAYOUT_ZERO_PAGE_SIZE, "e820");

static void map_add(struct boot_mem *map, unsigned *count, uint64_t start, uint64_t size,
		    enum boot_mem_type type)
{
	if (!size)
		return;
	assert(*count < BOOT_MEMMAP_MAX);
	map[(*count)++] = (struct boot_mem){start, size, type};
}

unsigned boot_memmap(const struct gmem *gm, struct boot_mem map[static BOOT_MEMMAP_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < gm->count; i++) {
		uint64_t start = gm->region[i].start, size = gm->region[i].size;
		if (start != 0 || size < LAYOUT_FIRMWARE_END) {
			map_add(map, &count, start, size, BOOT_MEM_RAM);
			continue;
		}
		map_add(map, &count, 0, LAYOUT_MPTABLE, BOOT_MEM_RAM);
		map_add(map, &count, LAYOUT_MPTABLE, LAYOUT_BASE_END - LAYOUT_MPTABLE,
			BOOT_MEM_RESERVED);
		map_add(map, &count, LAYOUT_VMGENID, LAYOUT_ACPI - LAYOUT_VMGENID,
			BOOT_MEM_RESERVED);
		map_add(map, &count, LAYOUT_ACPI, LAYOUT_ACPI_MAX, BOOT_MEM_ACPI);
		map_add(map, &count, LAYOUT_KERNEL, size - LAYOUT_KERNEL, BOOT_MEM_RAM);
	}
	return count;
}

static int load_kernel(const struct gmem *gm, int fd, struct boot_image *image, struct errmsg *why)
{
	struct boot_file file;
	uint8_t magic[SELFMAG] = {0};
	uint8_t setup_magic[4] = {0};

	int err = boot_file_init(&file, fd, "kernel", why);
	if (!err && file.size >= sizeof(magic))
		err = boot_file_read(&file, 0, magic, sizeof(magic), why);
	if (!err && file.size >= ZP_MAGIC + sizeof(setup_magic))
		err = boot_file_read(&file, ZP_MAGIC, setup_magic, sizeof(setup_magic), why);
	if (err)
		return err;
	if (memcmp(magic, ELFMAG, SELFMAG) == 0)
		return boot_elf_load(&file, gm, image, why);
	if (le32_load(setup_magic) == BOOT_SETUP_MAGIC)
		return boot_bzimage_load(&file, gm, image, why);
	err_set(why, 0,
		"kernel is neither an ELF nor a bzImage: %" PRIu64
		" bytes that begin with %02x %02x %02x %02x",
		file.size, magic[0], magic[1], magic[2], magic[3]);
	return -ENOEXEC;
}

/* As high as it fits below the gap, below what the kernel can reach, and above the kernel. */
static int load_initrd(const struct gmem *gm, int fd, const struct boot_image *image,
		       struct boot_entry *entry, struct errmsg *why)
{
	struct boot_file file;

	int err = boot_file_init(&file, fd, "initrd", why);
	if (err)
		return err;
	uint64_t top = gm->region[0].size;
	if (top - 1 > image->initrd_last)
		top = image->initrd_last + 1;
	if (file.size > top || align_down(top - file.size, GM_PAGE) < image->end) {
		err_set(why, 0,
			"initrd of %" PRIu64 " bytes does not fit guest memory of %" PRIu64
			" MiB above the kernel (0x%" PRIx64 "-0x%" PRIx64 ")",
			file.size, gm_size(gm) >> 20, image->start, image->end);
		return -ENOMEM;
	}
	entry->initrd_start = align_down(top - file.size, GM_PAGE);
	entry->initrd_size = file.size;
	return boot_file_load(&file, 0, gm, gpa(entry->initrd_start), file.size, why);
}

static int write_cmdline(const struct gmem *gm, const char *text, const struct boot_image *image,
			 struct errmsg *why)
{
	size_t len = strlen(text);

	if (len > image->cmdline_max) {
		err_set(why, 0, "kernel command line has %zu bytes, this kernel takes %" PRIu64,
			len, image->cmdline_max);
		return -EINVAL;
	}
	return gm_write(gm, gpa(LAYOUT_CMDLINE), text, len + 1);
}

static int write_start_info(const struct gmem *gm, const struct boot_params *params,
			    const struct boot_entry *entry, const struct boot_mem *map,
			    unsigned count)
{
	uint8_t page[PVH_MEMMAP - LAYOUT_PVH_INFO + BOOT_MEMMAP_MAX * PVH_MEMMAP_SIZE] = {0};
	struct bytes_out info = bytes_out(page, PVH_INFO_BYTES);
	struct bytes_out module = bytes_out(page + (PVH_MODULE - LAYOUT_PVH_INFO), PVH_MODULE_SIZE);
	struct bytes_out mem =
		bytes_out(page + (PVH_MEMMAP - LAYOUT_PVH_INFO), BOOT_MEMMAP_MAX * PVH_MEMMAP_SIZE);

	bytes_put_u32(&info, PVH_MAGIC);
	bytes_put_u32(&info, PVH_VERSION);
	bytes_put_u32(&info, 0); /* flags: not the initial domain */
	bytes_put_u32(&info, entry->initrd_size ? 1 : 0);
	bytes_put_u64(&info, entry->initrd_size ? PVH_MODULE : 0);
	bytes_put_u64(&info, LAYOUT_CMDLINE);
	bytes_put_u64(&info, params->rsdp);
	bytes_put_u64(&info, PVH_MEMMAP);
	bytes_put_u32(&info, count);
	bytes_put_u32(&info, 0);

	bytes_put_u64(&module, entry->initrd_start);
	bytes_put_u64(&module, entry->initrd_size);

	for (unsigned i = 0; i < count; i++) {
		bytes_put_u64(&mem, map[i].start);
		bytes_put_u64(&mem, map[i].size);
		bytes_put_u32(&mem, map[i].type);
		bytes_put_u32(&mem, 0);
	}
	assert(!info.full && !module.full && !mem.full);
	return gm_write(gm, gpa(LAYOUT_PVH_INFO), page, sizeof(page));
}

static int write_zero_page(const struct gmem *gm, const struct boot_params *params,
			   const struct boot_image *image, const struct boot_entry *entry,
			   const struct boot_mem *map, unsigned count)
{
	uint8_t page[LAYOUT_ZERO_PAGE_SIZE] = {0};
	struct bytes_out e820 = bytes_out(page + ZP_E820, sizeof(page) - ZP_E820);

	memcpy(page + ZP_SETUP, image->setup, sizeof(image->setup));
	if (le32_load(page + ZP_MAGIC) != BOOT_SETUP_MAGIC) { /* an ELF brings no header */
		le16_store(page + ZP_BOOT_FLAG, BOOT_FLAG);
		le32_store(page + ZP_MAGIC, BOOT_SETUP_MAGIC);
		le16_store(page + ZP_VERSION, SETUP_VERSION);
		page[ZP_LOADFLAGS] = LOADED_HIGH;
		le32_store(page + ZP_ALIGNMENT, 0x1000000);
		le32_store(page + ZP_CMDLINE_SIZE, LAYOUT_CMDLINE_MAX - 1);
	}
	page[ZP_LOADER] = LOADER_OTHER;
	le32_store(page + ZP_RAMDISK, (uint32_t)entry->initrd_start);
	le32_store(page + ZP_RAMDISK_SIZE, (uint32_t)entry->initrd_size);
	le32_store(page + ZP_CMDLINE, LAYOUT_CMDLINE);
	le64_store(page + ZP_RSDP, params->rsdp);
	page[ZP_E820_COUNT] = (uint8_t)count;
	for (unsigned i = 0; i < count; i++) {
		bytes_put_u64(&e820, map[i].start);
		bytes_put_u64(&e820, map[i].size);
		bytes_put_u32(&e820, map[i].type);
	}
	assert(!e820.full);
	return gm_write(gm, gpa(LAYOUT_ZERO_PAGE), page, sizeof(page));
}

static int check_memory(const struct gmem *gm, struct errmsg *why)
{
	if (gm->count && gm->region[0].start == 0 && gm->region[0].size >= LAYOUT_FIRMWARE_END &&
	    gm->region[0].size <= LAYOUT_GAP)
		return 0;
	return err_set(why, 0, "guest memory of %" PRIu64 " bytes cannot be booted: 1 MiB at least",
		       gm_size(gm));
}

/* What is written for the kernel once it and its initrd are in place. */
static int write_tables(const struct gmem *gm, const struct boot_params *params,
			const struct boot_image *image, struct boot_entry *entry)
{
	struct boot_mem map[BOOT_MEMMAP_MAX];
	unsigned count = boot_memmap(gm, map);

	int err = write_start_info(gm, params, entry, map, count);
	if (!err)
		err = write_zero_page(gm, params, image, entry, map, count);
	if (!err)
		err = boot_cpu_setup(gm, entry);
	return err;
}

int boot_load(const struct gmem *gm, const struct boot_params *params, struct boot_entry *out,
	      struct errmsg *why)
{
	const char *cmdline = params->cmdline ? params->cmdline : "";
	struct boot_image image = {0};
	struct boot_entry entry = {0};

	int err = check_memory(gm, why);
	if (err)
		return err;
	err = boot_cmdline_check(cmdline, strlen(cmdline), why);
	if (err < 0)
		return err;
	err = load_kernel(gm, params->kernel_fd, &image, why);
	if (!err)
		err = write_cmdline(gm, cmdline, &image, why);
	if (!err && params->initrd_fd >= 0)
		err = load_initrd(gm, params->initrd_fd, &image, &entry, why);
	if (err)
		return err;
	entry.protocol = image.protocol;
	entry.rip = image.entry;
	entry.kernel_start = image.start;
	entry.kernel_end = image.end;
	err = write_tables(gm, params, &image, &entry);
	if (err)
		return err_set(why, err, "write boot tables");
	*out = entry;
	return 0;
}
