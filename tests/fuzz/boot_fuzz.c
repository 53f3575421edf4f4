/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as kernel, initrd and command line, into 16 MiB of guest memory; then ACPI and MP tables for
 * any counts.  Input: 8 bytes of choices, then the kernel, then the initrd.
 * Asserted: an entry that is reported lies in memory, the initrd does not touch the kernel, and the tables
 * sum to 0.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/gmem.h"
#include "vmm/acpi.h"
#include "vmm/boot.h"
#include "vmm/boot_cmdline.h"
#include "vmm/layout.h"
#include "vmm/libvmm.h"
#include "vmm/mptable.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MEM     (UINT64_C(16) << 20)
#define CHOICES 8u

static int kernel_fd = -1, initrd_fd = -1;
static uint8_t *mem;

static void set_up_once(void)
{
	if (mem)
		return;
	kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
	initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	mem = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VERIFY(kernel_fd >= 0 && initrd_fd >= 0 && mem != MAP_FAILED);
}

/* @extra: the file is longer than its bytes by this much, sparse. */
static void fill(int fd, const uint8_t *bytes, size_t len, size_t extra)
{
	VERIFY(ftruncate(fd, 0) == 0);
	VERIFY(ftruncate(fd, (off_t)(len + extra)) == 0);
	VERIFY(pwrite(fd, bytes, len, 0) == (ssize_t)len);
}

static uint8_t sum(uint64_t at, size_t len)
{
	uint8_t s = 0;
	for (size_t i = 0; i < len; i++)
		s = (uint8_t)(s + mem[at + i]);
	return s;
}

static void check_loaded(const struct gmem *gm, const struct boot_entry *e)
{
	VERIFY(gm_contains(gm, gpa(e->rip), 1));
	VERIFY(e->kernel_start >= LAYOUT_KERNEL && e->kernel_end <= MEM);
	VERIFY(!e->initrd_size || (e->initrd_start >= e->kernel_end &&
				   gm_contains(gm, gpa(e->initrd_start), e->initrd_size)));
	VERIFY(le32_load(mem + LAYOUT_PVH_INFO) == 0x336ec578);
	VERIFY(le32_load(mem + LAYOUT_ZERO_PAGE + 0x202) == 0x53726448);
}

static void try_tables(const struct gmem *gm, const uint8_t *choice)
{
	struct acpi_config cfg = {.cpus = choice[0],
				  .virtio_count = choice[1],
				  .com1 = choice[2] & 1 ? ACPI_HAS_COM1 : ACPI_NO_COM1,
				  .sleep_port = choice[2] & 2 ? LAYOUT_SLEEP : 0};
	uint64_t rsdp;

	if (acpi_write(gm, &cfg, &rsdp, NULL) == 0)
		VERIFY(sum(rsdp, 36) == 0);
	else
		VERIFY(cfg.cpus < 1 || cfg.cpus > VMM_CPUS_MAX ||
		       cfg.virtio_count > LAYOUT_VIRTIO_MAX);
	if (mptable_write(gm, choice[0], NULL) == 0)
		VERIFY(sum(LAYOUT_MPTABLE, 16) == 0);
}

static void try_cmdline(const uint8_t *bytes, size_t len)
{
	struct boot_cmdline line;

	if (boot_cmdline_init(&line, (const char *)bytes, len, NULL) != 0)
		return;
	VERIFY(line.len == len && strlen(line.text) == len);
	if (boot_cmdline_add_root(&line, NULL, BOOT_ROOT_RO, NULL) == 0)
		VERIFY(strlen(line.text) == line.len && strstr(line.text, "root=/dev/vda ro"));
	VERIFY(boot_cmdline_check(line.text, line.len, NULL) == (int)line.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct gmem gm = {0};
	struct boot_entry entry;
	struct errmsg why;

	if (len < CHOICES)
		return 0;
	const uint8_t *choice = data, *rest = data + CHOICES;
	size_t rest_len = len - CHOICES;
	size_t kernel_len = choice[3] & 1 ? rest_len : rest_len * choice[4] / 256;

	set_up_once();
	VERIFY(madvise(mem, MEM, MADV_DONTNEED) == 0);
	VERIFY(gm_add(&gm, gpa(0), mem, MEM) == 0);
	fill(kernel_fd, rest, kernel_len, (size_t)choice[5] << 12);
	fill(initrd_fd, rest + kernel_len, rest_len - kernel_len, (size_t)choice[6] << 16);
	struct boot_params params = {.kernel_fd = kernel_fd,
				     .initrd_fd = choice[3] & 2 ? initrd_fd : -1,
				     .cmdline = "console=ttyS0",
				     .rsdp = LAYOUT_ACPI};
	why.text[0] = '\0';
	if (boot_load(&gm, &params, &entry, &why) == 0)
		check_loaded(&gm, &entry);
	else
		VERIFY(why.text[0]); /* no failure without a reason */
	try_tables(&gm, choice);
	try_cmdline(rest, rest_len);
	return 0;
}
