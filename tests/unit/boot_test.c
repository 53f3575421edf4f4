/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels, initrds and command lines, good and bad: hand-made files into plain memory, exact messages. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/gmem.h"
#include "vmm/boot.h"
#include "vmm/boot_cmdline.h"
#include "vmm/boot_image.h"
#include "vmm/layout.h"

#define MIB       (UINT64_C(1) << 20)
#define MEM       (16 * MIB)
#define CODE_AT   0x200000u
#define CODE_LEN  64u
#define BSS_LEN   0x3000u
#define NOTES_OFF 0x300u
#define CODE_OFF  0x400u
#define KIND_ELF  (CODE_OFF + CODE_LEN)

struct fixture {
	struct gmem gm;
	uint8_t *mem;
	uint64_t mapped;
	struct boot_entry entry;
	struct errmsg why;
};

static void map_memory(struct fixture *f, uint64_t low, uint64_t high)
{
	f->mapped = low + high;
	f->mem = mmap(NULL, f->mapped, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(f->mem, MAP_FAILED);
	assert_int_equal(gm_add(&f->gm, gpa(0), f->mem, low), 0);
	if (high)
		assert_int_equal(gm_add(&f->gm, gpa(LAYOUT_HIGH), f->mem + low, high), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	map_memory(f, MEM, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	munmap(f->mem, f->mapped);
	free(f);
	return 0;
}

static void remap(struct fixture *f, uint64_t low, uint64_t high)
{
	munmap(f->mem, f->mapped);
	f->gm = (struct gmem){0};
	map_memory(f, low, high);
}

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("boot_test", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	return fd;
}

/* --- files ---------------------------------------------------------------------------------------- */
struct elf_file {
	Elf64_Ehdr head;
	Elf64_Phdr phdr[3]; /* code, notes, stack: the last is of no interest to a loader */
	uint8_t pad[NOTES_OFF - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr)];
	uint8_t notes[CODE_OFF - NOTES_OFF];
	uint8_t code[CODE_LEN];
};
static_assert(sizeof(struct elf_file) == KIND_ELF, "no padding");

static struct elf_file elf_plain(void)
{
	struct elf_file e = {
		.head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				     EV_CURRENT},
			 .e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_entry = CODE_AT + 4,
			 .e_phoff = sizeof(Elf64_Ehdr),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 3},
		.phdr = {{.p_type = PT_LOAD,
			  .p_offset = CODE_OFF,
			  .p_paddr = CODE_AT,
			  .p_vaddr = 0xffffffff80000000u,
			  .p_filesz = CODE_LEN,
			  .p_memsz = CODE_LEN + BSS_LEN},
			 {.p_type = PT_NULL, .p_offset = NOTES_OFF},
			 {.p_type = PT_GNU_STACK}},
	};
	for (unsigned i = 0; i < CODE_LEN; i++)
		e.code[i] = (uint8_t)(0xa0 + i);
	return e;
}

/* Notes as Linux has them: one of another owner in front, then Xen's with an 8-byte address. */
static struct elf_file elf_pvh(void)
{
	struct elf_file e = elf_plain();
	struct bytes_out n = bytes_out(e.notes, sizeof(e.notes));

	bytes_put_u32(&n, 4), bytes_put_u32(&n, 5), bytes_put_u32(&n, 18);
	bytes_put(&n, "GNU\0abcde\0\0", 12);
	bytes_put_u32(&n, 4), bytes_put_u32(&n, 8), bytes_put_u32(&n, 18);
	bytes_put(&n, "Xen", 4);
	bytes_put_u64(&n, CODE_AT + 16);
	e.phdr[1].p_type = PT_NOTE;
	e.phdr[1].p_filesz = n.len;
	return e;
}

#define BZ_SECTS  2u
#define BZ_HEAD   ((BZ_SECTS + 1) * 512)
#define BZ_KERNEL 0x1000u
#define BZ_SIZE   (BZ_HEAD + BZ_KERNEL)

static void bzimage(uint8_t file[static BZ_SIZE])
{
	memset(file, 0, BZ_SIZE);
	file[0x1f1] = BZ_SECTS;
	le32_store(file + 0x1f4, BZ_KERNEL / 16);
	le16_store(file + 0x1fe, 0xaa55);
	file[0x200] = 0xeb;
	file[0x201] = 0x6a; /* header ends at 0x26c */
	memcpy(file + 0x202, "HdrS", 4);
	le16_store(file + 0x206, 0x20f);
	file[0x211] = 1;
	le32_store(file + 0x22c, 0x7fffffff);
	le32_store(file + 0x230, 0x200000);
	le16_store(file + 0x236, 0x3f);
	le32_store(file + 0x238, 2047);
	le64_store(file + 0x258, 0x400000);
	le32_store(file + 0x260, 0x300000);
	le32_store(file + 0x264, 0x1234);
	file[0x26c] = 0x77; /* behind the header: must not reach the zero page */
	memset(file + BZ_HEAD, 0x90, BZ_KERNEL);
}

/* --- one try --------------------------------------------------------------------------------------- */
static int try_params(struct fixture *f, const void *kernel, size_t len, const void *initrd,
		      size_t initrd_len, const char *cmdline)
{
	int fd = file_of(kernel, len);
	int initrd_fd = initrd ? file_of(initrd, initrd_len) : -1;
	struct boot_params p = {
		.kernel_fd = fd, .initrd_fd = initrd_fd, .cmdline = cmdline, .rsdp = LAYOUT_ACPI};

	int err = boot_load(&f->gm, &p, &f->entry, &f->why);
	close(fd);
	if (initrd_fd >= 0)
		close(initrd_fd);
	return err;
}

static int try_kernel(struct fixture *f, const void *kernel, size_t len)
{
	return try_params(f, kernel, len, NULL, 0, "console=ttyS0");
}

static void refused(struct fixture *f, const void *kernel, size_t len, int err, const char *text)
{
	assert_int_equal(try_kernel(f, kernel, len), err);
	assert_string_equal(f->why.text, text);
}

static void elf_refused(struct fixture *f, const struct elf_file *e, int err, const char *text)
{
	refused(f, e, sizeof(*e), err, text);
}

static uint64_t mem64(struct fixture *f, uint64_t at)
{
	return le64_load(f->mem + at);
}

static uint32_t mem32(struct fixture *f, uint64_t at)
{
	return le32_load(f->mem + at);
}

/* --- ELF ------------------------------------------------------------------------------------------- */
static void boot__elf_without_note__long_mode_at_entry(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_plain();

	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	assert_int_equal(f->entry.protocol, BOOT_LINUX64);
	assert_int_equal(f->entry.rip, CODE_AT + 4);
	assert_int_equal(f->entry.rsi, LAYOUT_ZERO_PAGE);
	assert_int_equal(f->entry.rsp, LAYOUT_STACK_TOP);
	assert_int_equal(f->entry.rflags, 2);
	assert_int_equal(f->entry.cr0, 0x80000011);
	assert_int_equal(f->entry.cr3, LAYOUT_PML4);
	assert_int_equal(f->entry.cr4, 0x20);
	assert_int_equal(f->entry.efer, 0x500);
	assert_int_equal(f->entry.cs.l, 1);
	assert_int_equal(f->entry.cs.db, 0);
	assert_int_equal(f->entry.kernel_start, CODE_AT);
	assert_int_equal(f->entry.kernel_end, CODE_AT + CODE_LEN + BSS_LEN);
	assert_memory_equal(f->mem + CODE_AT, e.code, CODE_LEN);
	assert_int_equal(mem32(f, CODE_AT + CODE_LEN), 0);
}

static void boot__elf_with_pvh_note__protected_mode(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();

	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	assert_int_equal(f->entry.protocol, BOOT_PVH);
	assert_int_equal(f->entry.rip, CODE_AT + 16);
	assert_int_equal(f->entry.rbx, LAYOUT_PVH_INFO);
	assert_int_equal(f->entry.cr0, 0x11);
	assert_int_equal(f->entry.cr3, 0);
	assert_int_equal(f->entry.cr4, 0);
	assert_int_equal(f->entry.efer, 0);
	assert_int_equal(f->entry.cs.l, 0);
	assert_int_equal(f->entry.cs.db, 1);
	assert_int_equal(f->entry.cs.limit, UINT32_MAX);
	assert_int_equal(f->entry.data.limit, UINT32_MAX);
	assert_int_equal(f->entry.tr.type, 0xb);
	assert_int_equal(f->entry.tr.limit, 0x67);
}

static void boot__pvh_note_of_4_bytes_unpadded_end__protected_mode(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_plain();
	struct bytes_out n = bytes_out(e.notes, sizeof(e.notes));

	bytes_put_u32(&n, 4), bytes_put_u32(&n, 4), bytes_put_u32(&n, 18);
	bytes_put(&n, "Xen", 4);
	bytes_put_u32(&n, CODE_AT + 20);
	e.phdr[1].p_type = PT_NOTE;
	e.phdr[1].p_filesz = n.len;
	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	assert_int_equal(f->entry.protocol, BOOT_PVH);
	assert_int_equal(f->entry.rip, CODE_AT + 20);
}

static void boot__damaged_notes__long_mode(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();

	le32_store(e.notes, 0xffffffff); /* name runs over the end */
	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	assert_int_equal(f->entry.protocol, BOOT_LINUX64);
}

static void boot__pvh_entry_outside_segments__refused(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();

	le64_store(e.notes + 24 + 16, CODE_AT + 0x100000);
	elf_refused(f, &e, -ENOEXEC, "kernel's PVH entry 0x300000 lies outside its segments");
}

static void boot__elf_entry_outside_segments__refused(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_plain();

	e.head.e_entry = 0xffffffff80000000u;
	elf_refused(f, &e, -ENOEXEC,
		    "kernel's 64-bit entry 0xffffffff80000000 lies outside its segments");
}

static void boot__elf_of_32_bit__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.head.e_ident[EI_CLASS] = ELFCLASS32;
	elf_refused(*state, &e, -ENOEXEC, "kernel is not a 64-bit ELF (class 1)");
}

static void boot__elf_big_endian__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.head.e_ident[EI_DATA] = ELFDATA2MSB;
	elf_refused(*state, &e, -ENOEXEC, "kernel is a big-endian ELF");
}

static void boot__elf_for_arm__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.head.e_machine = EM_AARCH64;
	elf_refused(*state, &e, -ENOEXEC, "kernel is an ELF for machine 183, not for x86-64 (62)");
}

static void boot__elf_object__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.head.e_type = ET_REL;
	elf_refused(*state, &e, -ENOEXEC, "kernel is an ELF of type 1, not an executable");
}

static void boot__elf_headers_absent_or_many__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.head.e_phnum = 0;
	elf_refused(*state, &e, -ENOEXEC, "kernel ELF has no program headers");
	e.head.e_phnum = 65;
	elf_refused(*state, &e, -ENOEXEC, "kernel ELF has 65 program headers, more than 64");
	e.head.e_phnum = 3;
	e.head.e_phoff = UINT64_MAX - 8;
	elf_refused(*state, &e, -EBADMSG,
		    "kernel file is truncated: program headers lie behind its end (1088 bytes)");
}

static void boot__elf_nothing_to_load__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.phdr[0].p_type = PT_NULL;
	elf_refused(*state, &e, -ENOEXEC, "kernel ELF has nothing to load");
}

static void boot__segment_outside_memory__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.phdr[0].p_paddr = MEM - 0x1000;
	elf_refused(*state, &e, -ENOMEM,
		    "kernel segment 0xfff000-0x1002040 does not fit guest memory of 16 MiB");
	e.phdr[0].p_paddr = CODE_AT;
	e.phdr[0].p_memsz = UINT64_MAX;
	elf_refused(*state, &e, -ENOMEM,
		    "kernel segment 0x200000-0x1fffff does not fit guest memory of 16 MiB");
}

static void boot__segment_below_1_mib__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.phdr[0].p_paddr = LAYOUT_ZERO_PAGE;
	elf_refused(*state, &e, -ENOEXEC, "kernel segment at 0x7000 lies below 0x100000");
}

static void boot__segment_behind_file_end__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.phdr[0].p_filesz = CODE_LEN + 1;
	elf_refused(
		*state, &e, -EBADMSG,
		"kernel file is truncated: segment at 0x200000 lies behind its end (1088 bytes)");
	e.phdr[0].p_offset = UINT64_MAX;
	elf_refused(
		*state, &e, -EBADMSG,
		"kernel file is truncated: segment at 0x200000 lies behind its end (1088 bytes)");
}

static void boot__segment_larger_in_file_than_in_memory__refused(void **state)
{
	struct elf_file e = elf_plain();

	e.phdr[0].p_memsz = CODE_LEN - 1;
	elf_refused(*state, &e, -EBADMSG,
		    "kernel segment at 0x200000 has more bytes in the file than in memory");
}

/* Found by the fuzzer: a segment of no memory was not checked, but read. */
static void boot__segment_of_no_memory__refused_or_skipped(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_plain();

	e.phdr[1] = (Elf64_Phdr){.p_type = PT_LOAD, .p_offset = UINT64_MAX, .p_filesz = 8};
	elf_refused(f, &e, -EBADMSG,
		    "kernel segment at 0x0 has more bytes in the file than in memory");
	e.phdr[1].p_filesz = 0;
	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
}

static void boot__segments_share_bytes_of_file__refused(void **state)
{
	struct elf_file e = elf_plain();

	for (unsigned i = 0; i < 2; i++) {
		e.phdr[i] = e.phdr[0];
		e.phdr[i].p_offset = 0;
		e.phdr[i].p_filesz = sizeof(e);
	}
	elf_refused(*state, &e, -EBADMSG,
		    "kernel segments take more bytes than the file has (1088)");
}

static void boot__notes_behind_end_or_huge__refused(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();

	e.phdr[1].p_filesz = sizeof(e);
	elf_refused(f, &e, -EBADMSG,
		    "kernel file is truncated: notes lie behind its end (1088 bytes)");

	size_t len = 0x20000;
	uint8_t *big = calloc(1, len);
	assert_non_null(big);
	e.phdr[1].p_filesz = 0x10001;
	memcpy(big, &e, sizeof(e));
	refused(f, big, len, -EBADMSG, "kernel ELF has 65537 bytes of notes, more than 65536");
	free(big);
}

static void boot__every_shorter_elf__refused_without_touching_memory(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();

	for (size_t len = 1; len < sizeof(e); len++)
		assert_true(try_kernel(f, &e, len) < 0);
	refused(f, &e, 63, -EBADMSG, "kernel file is truncated: 63 bytes hold no ELF header");
	for (uint64_t at = 0; at < MEM; at += 8)
		assert_int_equal(mem64(f, at), 0);
}

/* --- other files ------------------------------------------------------------------------------------- */
static void boot__no_kernel_or_no_file__refused(void **state)
{
	struct fixture *f = *state;
	struct boot_params p = {.kernel_fd = -1, .initrd_fd = -1};

	assert_int_equal(boot_load(&f->gm, &p, &f->entry, &f->why), -EINVAL);
	assert_string_equal(f->why.text, "no kernel given");
	p.kernel_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(boot_load(&f->gm, &p, &f->entry, &f->why), -EINVAL);
	assert_string_equal(f->why.text, "kernel is not a regular file");
	close(p.kernel_fd);
	assert_int_equal(boot_load(&f->gm, &p, &f->entry, &f->why), -EBADF);
	assert_string_equal(f->why.text, "look at the kernel file: Bad file descriptor");
}

static void boot__empty_and_garbage_kernels__refused(void **state)
{
	struct fixture *f = *state;
	static const uint8_t text[1024] = "#!/bin/sh\n";

	refused(f, "", 0, -EINVAL, "kernel file is empty");
	refused(f, text, sizeof(text), -ENOEXEC,
		"kernel is neither an ELF nor a bzImage: 1024 bytes that begin with 23 21 2f 62");
	refused(f, "\x7f", 1, -ENOEXEC,
		"kernel is neither an ELF nor a bzImage: 1 bytes that begin with 00 00 00 00");
}

static void boot__kernel_file_not_readable__errno_said(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_plain();
	int rw = file_of(&e, sizeof(e));
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", rw);
	struct boot_params p = {.kernel_fd = open(path, O_WRONLY | O_CLOEXEC), .initrd_fd = -1};
	assert_true(p.kernel_fd >= 0);
	assert_int_equal(boot_load(&f->gm, &p, &f->entry, &f->why), -EBADF);
	assert_string_equal(f->why.text, "read the kernel file at byte 0: Bad file descriptor");
	close(p.kernel_fd);
	close(rw);
}

/* The file was longer when its size was taken: as if it had been cut since. */
static void boot_file__shrinks_while_read__refused(void **state)
{
	struct fixture *f = *state;
	struct boot_file file = {.fd = file_of("12345", 5), .size = 8, .what = "initrd"};
	uint8_t buf[8];

	assert_int_equal(boot_file_read(&file, 0, buf, 5, &f->why), 0);
	assert_int_equal(boot_file_read(&file, 2, buf, 6, &f->why), -EBADMSG);
	assert_string_equal(f->why.text, "initrd file ended at byte 5 while it was read: it had 8");
	assert_int_equal(boot_file_load(&file, 0, &f->gm, gpa(CODE_AT), 8, &f->why), -EBADMSG);
	close(file.fd);
}

static void map_file(struct fixture *f, int memory)
{
	f->mem = mmap(f->mem, f->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0);
	assert_ptr_not_equal(f->mem, MAP_FAILED);
	gm_set_file(&f->gm, 0, memory, 0);
}

/* Memory in a file is filled through the file; what does not go that way is read into the mapping. */
static void boot_file__memory_in_file__bytes_in_place(void **state)
{
	struct fixture *f = *state;
	struct boot_file file = {.fd = file_of("0123456789", 10), .size = 10, .what = "initrd"};
	int memory = memfd_create("memory", MFD_CLOEXEC);

	assert_int_equal(ftruncate(memory, (off_t)f->mapped), 0);
	map_file(f, memory);
	assert_int_equal(boot_file_load(&file, 2, &f->gm, gpa(CODE_AT + 1), 7, &f->why), 0);
	assert_memory_equal(f->mem + CODE_AT,
			    "\0"
			    "2345678\0",
			    9);
	file.size = 20;
	assert_int_equal(boot_file_load(&file, 2, &f->gm, gpa(CODE_AT), 9, &f->why), -EBADMSG);
	gm_set_file(&f->gm, 0, file.fd, UINT64_C(1) << 63);
	assert_int_equal(boot_file_load(&file, 0, &f->gm, gpa(CODE_AT), 5, &f->why), 0);
	assert_memory_equal(f->mem + CODE_AT, "01234", 5);
	close(memory);
	close(file.fd);
}

/* --- bzImage ------------------------------------------------------------------------------------------ */
static void boot__bzimage__loaded_at_1_mib_header_in_zero_page(void **state)
{
	struct fixture *f = *state;
	uint8_t file[BZ_SIZE];

	bzimage(file);
	assert_int_equal(try_kernel(f, file, sizeof(file)), 0);
	assert_int_equal(f->entry.protocol, BOOT_LINUX64);
	assert_int_equal(f->entry.rip, 0x100200);
	assert_int_equal(f->entry.kernel_end, 0x700000);
	assert_memory_equal(f->mem + 0x100000, file + BZ_HEAD, BZ_KERNEL);
	assert_int_equal(mem32(f, 0x100000 + BZ_KERNEL), 0);
	const uint8_t *zp = f->mem + LAYOUT_ZERO_PAGE;
	assert_memory_equal(zp + 0x1f1, file + 0x1f1, 0x210 - 0x1f1);
	assert_int_equal(zp[0x210], 0xff);
	assert_int_equal(le32_load(zp + 0x264), 0x1234);
	assert_int_equal(zp[0x26c], 0);
	assert_int_equal(le32_load(zp + 0x228), LAYOUT_CMDLINE);
}

static void boot__bzimage_bad_headers__refused(void **state)
{
	struct fixture *f = *state;
	uint8_t file[BZ_SIZE];

	bzimage(file);
	le16_store(file + 0x206, 0x20b);
	refused(f, file, BZ_SIZE, -ENOEXEC, "bzImage speaks boot protocol 2.11, older than 2.12");
	bzimage(file);
	le16_store(file + 0x236, 0x3e);
	refused(f, file, BZ_SIZE, -ENOEXEC, "bzImage has no 64-bit entry");
	bzimage(file);
	refused(f, file, 0x28f, -EBADMSG,
		"kernel file is truncated: 655 bytes hold no setup header");
	refused(f, file, BZ_SIZE - 16, -EBADMSG,
		"kernel file is truncated: bzImage of 5632 bytes has only 5616");
	file[0x1f1] = 255;
	refused(f, file, BZ_SIZE, -EBADMSG,
		"kernel file is truncated: bzImage of 135168 bytes has only 5632");
	bzimage(file);
	le32_store(file + 0x260, 0xd00000);
	refused(f, file, BZ_SIZE, -ENOMEM,
		"unpacked kernel 0x400000-0x1100000 does not fit guest memory of 16 MiB");
	le64_store(file + 0x258, UINT64_MAX);
	refused(f, file, BZ_SIZE, -ENOMEM,
		"unpacked kernel 0xffffffffffffffff-0xcfffff does not fit guest memory of 16 MiB");
}

static void boot__bzimage_initrd_limit__obeyed(void **state)
{
	struct fixture *f = *state;
	uint8_t file[BZ_SIZE];

	bzimage(file);
	le32_store(file + 0x22c, 0x9fffff);
	assert_int_equal(try_params(f, file, BZ_SIZE, "initrd", 6, "x"), 0);
	assert_int_equal(f->entry.initrd_start, 0x9ff000);
	le32_store(file + 0x22c, 0x6fffff);
	assert_int_equal(try_params(f, file, BZ_SIZE, "initrd", 6, "x"), -ENOMEM);
	assert_string_equal(f->why.text, "initrd of 6 bytes does not fit guest memory of 16 MiB "
					 "above the kernel (0x100000-0x700000)");
}

static void boot__bzimage_cmdline_limit__obeyed(void **state)
{
	struct fixture *f = *state;
	uint8_t file[BZ_SIZE];

	bzimage(file);
	le32_store(file + 0x238, 4);
	assert_int_equal(try_params(f, file, BZ_SIZE, NULL, 0, "root"), 0);
	assert_int_equal(try_params(f, file, BZ_SIZE, NULL, 0, "root="), -EINVAL);
	assert_string_equal(f->why.text, "kernel command line has 5 bytes, this kernel takes 4");
}

/* --- what the kernel is told -------------------------------------------------------------------------- */
static void boot__initrd__top_of_memory_and_in_both_tables(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();
	uint8_t initrd[5000];

	memset(initrd, 0x5a, sizeof(initrd));
	assert_int_equal(try_params(f, &e, sizeof(e), initrd, sizeof(initrd), "quiet"), 0);
	uint64_t at = MEM - 0x2000;
	assert_int_equal(f->entry.initrd_start, at);
	assert_int_equal(f->entry.initrd_size, 5000);
	assert_memory_equal(f->mem + at, initrd, sizeof(initrd));

	assert_int_equal(mem32(f, LAYOUT_PVH_INFO), 0x336ec578);
	assert_int_equal(mem32(f, LAYOUT_PVH_INFO + 4), 1);
	assert_int_equal(mem32(f, LAYOUT_PVH_INFO + 12), 1);
	uint64_t module = mem64(f, LAYOUT_PVH_INFO + 16);
	assert_int_equal(mem64(f, module), at);
	assert_int_equal(mem64(f, module + 8), 5000);
	assert_string_equal((char *)f->mem + mem64(f, LAYOUT_PVH_INFO + 24), "quiet");
	assert_int_equal(mem64(f, LAYOUT_PVH_INFO + 32), LAYOUT_ACPI);

	assert_int_equal(mem32(f, LAYOUT_ZERO_PAGE + 0x218), at);
	assert_int_equal(mem32(f, LAYOUT_ZERO_PAGE + 0x21c), 5000);
	assert_int_equal(mem64(f, LAYOUT_ZERO_PAGE + 0x070), LAYOUT_ACPI);
	assert_int_equal(mem32(f, LAYOUT_ZERO_PAGE + 0x202), 0x53726448);
}

static void boot__no_initrd__no_module(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();

	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	assert_int_equal(mem32(f, LAYOUT_PVH_INFO + 12), 0);
	assert_int_equal(mem64(f, LAYOUT_PVH_INFO + 16), 0);
	assert_int_equal(mem32(f, LAYOUT_ZERO_PAGE + 0x218), 0);
}

static void boot__initrd_fills_room_exactly__fits_one_more_does_not(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();
	uint64_t end = CODE_AT + CODE_LEN + BSS_LEN;
	size_t room = (size_t)(MEM - ((end + 0xfff) & ~UINT64_C(0xfff)));
	uint8_t *initrd = calloc(1, room + 1);

	assert_non_null(initrd);
	assert_int_equal(try_params(f, &e, sizeof(e), initrd, room, "x"), 0);
	assert_int_equal(f->entry.initrd_start, MEM - room);
	assert_int_equal(try_params(f, &e, sizeof(e), initrd, room + 1, "x"), -ENOMEM);
	assert_string_equal(f->why.text, "initrd of 14663681 bytes does not fit guest memory of 16 "
					 "MiB above the kernel (0x200000-0x203040)");
	free(initrd);
	assert_int_equal(try_params(f, &e, sizeof(e), "", 0, "x"), -EINVAL);
	assert_string_equal(f->why.text, "initrd file is empty");
}

struct want_mem {
	uint64_t start, size;
	uint32_t type;
};

static void expect_map(struct fixture *f, const struct want_mem *want, unsigned count)
{
	uint64_t pvh = mem64(f, LAYOUT_PVH_INFO + 40);
	uint64_t e820 = LAYOUT_ZERO_PAGE + 0x2d0;

	assert_int_equal(mem32(f, LAYOUT_PVH_INFO + 48), count);
	assert_int_equal(f->mem[LAYOUT_ZERO_PAGE + 0x1e8], count);
	for (unsigned i = 0; i < count; i++, pvh += 24, e820 += 20) {
		assert_int_equal(mem64(f, pvh), want[i].start);
		assert_int_equal(mem64(f, pvh + 8), want[i].size);
		assert_int_equal(mem32(f, pvh + 16), want[i].type);
		assert_memory_equal(f->mem + e820, f->mem + pvh, 20);
	}
}

static void boot__memory_below_the_gap__map(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();
	static const struct want_mem want[] = {
		{0, 0x9fc00, 1},       {0x9fc00, 0x400, 2},           {0xde000, 0x2000, 2},
		{0xe0000, 0x20000, 3}, {0x100000, MEM - 0x100000, 1},
	};

	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	expect_map(f, want, 5);
}

static void boot__memory_beyond_the_gap__map_and_initrd_below(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();
	static const struct want_mem want[] = {
		{0, 0x9fc00, 1},       {0x9fc00, 0x400, 2},       {0xde000, 0x2000, 2},
		{0xe0000, 0x20000, 3}, {0x100000, 0xbff00000, 1}, {0x100000000, 0x40000000, 1},
	};

	remap(f, LAYOUT_GAP, 1024 * MIB);
	assert_int_equal(try_params(f, &e, sizeof(e), "initrd", 6, "x"), 0);
	assert_int_equal(f->entry.initrd_start, 0xbffff000);
	expect_map(f, want, 6);
}

static void boot__memory_below_1_mib__refused(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();

	remap(f, MIB - 0x1000, 0);
	elf_refused(f, &e, -EINVAL,
		    "guest memory of 1044480 bytes cannot be booted: 1 MiB at least");
	remap(f, MIB, 0);
	elf_refused(f, &e, -ENOMEM,
		    "kernel segment 0x200000-0x203040 does not fit guest memory of 1 MiB");
}

static void boot__page_tables__map_4_gib_to_itself(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_plain();

	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	for (uint64_t va = 0; va < UINT64_C(1) << 32; va += 0x200000) {
		uint64_t pml4e = mem64(f, f->entry.cr3 + (va >> 39 & 511) * 8);
		assert_int_equal(pml4e & 0xfff, 3);
		uint64_t pdpte = mem64(f, (pml4e & ~0xfffull) + (va >> 30 & 511) * 8);
		assert_int_equal(pdpte & 0xfff, 3);
		uint64_t pde = mem64(f, (pdpte & ~0xfffull) + (va >> 21 & 511) * 8);
		assert_int_equal(pde, va | 0x83);
	}
}

/* The descriptor tables must say what the registers say: a guest that reloads a selector goes on. */
static void boot__gdt__matches_segment_registers(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_plain(), pvh = elf_pvh();

	assert_int_equal(try_kernel(f, &e, sizeof(e)), 0);
	assert_int_equal(f->entry.gdt_base, LAYOUT_GDT);
	assert_true(f->entry.gdt_limit >= 0x28 - 1);
	assert_int_equal(mem64(f, LAYOUT_GDT), 0);
	assert_int_equal(mem64(f, LAYOUT_GDT + 0x10), 0x00af9b000000ffff);
	assert_int_equal(mem64(f, LAYOUT_GDT + 0x18), 0x00cf93000000ffff);
	assert_int_equal(mem64(f, LAYOUT_GDT + 0x20), 0x00008b0000000067);
	assert_int_equal(try_kernel(f, &pvh, sizeof(pvh)), 0);
	assert_int_equal(mem64(f, LAYOUT_GDT + 0x10), 0x00cf9b000000ffff);
}

/* --- the project's own kernel, once it is built ---------------------------------------------------- */
static int open_built(const char *name)
{
	const char *dir = getenv("SPORE_GUEST_DIR");
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "build/guest", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		print_message("skip: %s is not built\n", path);
		skip();
	}
	return fd;
}

static void load_built(struct fixture *f, const char *name)
{
	struct boot_params p = {.kernel_fd = open_built(name), .initrd_fd = -1, .cmdline = "quiet"};

	remap(f, 128 * MIB, 0);
	assert_int_equal(boot_load(&f->gm, &p, &f->entry, &f->why), 0);
	close(p.kernel_fd);
}

static void boot__built_vmlinux__pvh_entry_is_code(void **state)
{
	struct fixture *f = *state;

	load_built(f, "vmlinux");
	assert_int_equal(f->entry.protocol, BOOT_PVH);
	assert_true(f->entry.rip >= f->entry.kernel_start && f->entry.rip < f->entry.kernel_end);
	assert_int_equal(f->mem[f->entry.rip], 0xfc); /* cld: pvh_start_xen begins so */
}

static void boot__built_bzimage__64_bit_entry_is_code(void **state)
{
	struct fixture *f = *state;

	load_built(f, "bzImage");
	assert_int_equal(f->entry.protocol, BOOT_LINUX64);
	assert_int_equal(f->entry.rip, 0x100200);
	assert_int_equal(f->mem[f->entry.rip], 0xfc);     /* cld */
	assert_int_equal(f->mem[f->entry.rip + 1], 0xfa); /* cli */
}

/* --- command line -------------------------------------------------------------------------------------- */
static void boot__cmdline_too_long_or_not_printable__refused(void **state)
{
	struct fixture *f = *state;
	struct elf_file e = elf_pvh();
	char line[2049];

	memset(line, 'a', sizeof(line));
	line[2048] = '\0';
	assert_int_equal(try_params(f, &e, sizeof(e), NULL, 0, line), -EINVAL);
	assert_string_equal(f->why.text, "kernel command line has 2048 bytes, more than 2047");
	line[2047] = '\0';
	assert_int_equal(try_params(f, &e, sizeof(e), NULL, 0, line), 0);
	assert_int_equal(f->mem[LAYOUT_CMDLINE + 2046], 'a');
	assert_int_equal(f->mem[LAYOUT_CMDLINE + 2047], 0);
	assert_int_equal(try_params(f, &e, sizeof(e), NULL, 0, "quiet\n"), -EINVAL);
	assert_string_equal(f->why.text, "kernel command line has byte 0x0a at 5: only printable "
					 "ASCII may be there");
	assert_int_equal(try_params(f, &e, sizeof(e), NULL, 0, "caf\xc3\xa9"), -EINVAL);
	assert_string_equal(f->why.text, "kernel command line has byte 0xc3 at 3: only printable "
					 "ASCII may be there");
}

static void cmdline__default_and_additions__in_order(void **state)
{
	struct boot_cmdline line;
	(void)state;

	assert_int_equal(boot_cmdline_init(&line, NULL, 0, NULL), 0);
	assert_int_equal(boot_cmdline_add(&line, NULL, "pci=off"), 0);
	assert_int_equal(boot_cmdline_add_root(&line, NULL, BOOT_ROOT_RO, NULL), 0);
	assert_int_equal(boot_cmdline_add_virtio(&line, 0, NULL), 0);
	assert_int_equal(boot_cmdline_add_virtio(&line, 18, NULL), 0);
	assert_string_equal(line.text,
			    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux "
			    "i8042.dumbkbd swiotlb=noforce pci=off root=/dev/vda ro "
			    "virtio_mmio.device=4K@0xc0001000:5 "
			    "virtio_mmio.device=4K@0xc0013000:23");
	assert_int_equal(line.len, strlen(line.text));
}

static void cmdline__arguments_for_init__stay_last(void **state)
{
	struct boot_cmdline line;
	(void)state;

	assert_int_equal(boot_cmdline_init(&line, "quiet -- -v x", 13, NULL), 0);
	assert_int_equal(boot_cmdline_add_root(&line, "0eaa91a0-01", BOOT_ROOT_RW, NULL), 0);
	assert_string_equal(line.text, "quiet root=PARTUUID=0eaa91a0-01 rw -- -v x");
	assert_int_equal(boot_cmdline_init(&line, "", 0, NULL), 0);
	assert_int_equal(boot_cmdline_add(&line, NULL, "pci=off"), 0);
	assert_string_equal(line.text, "pci=off");
}

static void cmdline__no_room_or_nul__refused_and_unchanged(void **state)
{
	struct boot_cmdline line;
	struct errmsg why;
	char args[2047];
	(void)state;

	memset(args, 'a', sizeof(args));
	assert_int_equal(boot_cmdline_init(&line, args, 2039, &why), 0);
	assert_int_equal(boot_cmdline_add(&line, &why, "pci=off"), 0);
	assert_int_equal(line.len, 2047);
	assert_int_equal(boot_cmdline_add(&line, &why, "x"), -EINVAL);
	assert_string_equal(why.text, "kernel command line has 2049 bytes, more than 2047");
	assert_int_equal(line.len, 2047);
	assert_int_equal(boot_cmdline_init(&line, "a\0b", 3, &why), -EINVAL);
	assert_string_equal(why.text,
			    "kernel command line has byte 0x00 at 1: only printable ASCII "
			    "may be there");
	assert_int_equal(boot_cmdline_init(&line, "a", 1, &why), 0);
	assert_int_equal(boot_cmdline_add(&line, &why, "b\tc"), -EINVAL);
	assert_string_equal(line.text, "a");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(boot__elf_without_note__long_mode_at_entry),
		T(boot__elf_with_pvh_note__protected_mode),
		T(boot__pvh_note_of_4_bytes_unpadded_end__protected_mode),
		T(boot__damaged_notes__long_mode),
		T(boot__pvh_entry_outside_segments__refused),
		T(boot__elf_entry_outside_segments__refused),
		T(boot__elf_of_32_bit__refused),
		T(boot__elf_big_endian__refused),
		T(boot__elf_for_arm__refused),
		T(boot__elf_object__refused),
		T(boot__elf_headers_absent_or_many__refused),
		T(boot__elf_nothing_to_load__refused),
		T(boot__segment_outside_memory__refused),
		T(boot__segment_below_1_mib__refused),
		T(boot__segment_behind_file_end__refused),
		T(boot__segment_larger_in_file_than_in_memory__refused),
		T(boot__segment_of_no_memory__refused_or_skipped),
		T(boot__segments_share_bytes_of_file__refused),
		T(boot__notes_behind_end_or_huge__refused),
		T(boot__every_shorter_elf__refused_without_touching_memory),
		T(boot__no_kernel_or_no_file__refused),
		T(boot__empty_and_garbage_kernels__refused),
		T(boot__kernel_file_not_readable__errno_said),
		T(boot_file__shrinks_while_read__refused),
		T(boot_file__memory_in_file__bytes_in_place),
		T(boot__built_vmlinux__pvh_entry_is_code),
		T(boot__built_bzimage__64_bit_entry_is_code),
		T(boot__bzimage__loaded_at_1_mib_header_in_zero_page),
		T(boot__bzimage_bad_headers__refused),
		T(boot__bzimage_initrd_limit__obeyed),
		T(boot__bzimage_cmdline_limit__obeyed),
		T(boot__initrd__top_of_memory_and_in_both_tables),
		T(boot__no_initrd__no_module),
		T(boot__initrd_fills_room_exactly__fits_one_more_does_not),
		T(boot__memory_below_the_gap__map),
		T(boot__memory_beyond_the_gap__map_and_initrd_below),
		T(boot__memory_below_1_mib__refused),
		T(boot__page_tables__map_4_gib_to_itself),
		T(boot__gdt__matches_segment_registers),
		T(boot__cmdline_too_long_or_not_printable__refused),
		cmocka_unit_test(cmdline__default_and_additions__in_order),
		cmocka_unit_test(cmdline__arguments_for_init__stay_last),
		cmocka_unit_test(cmdline__no_room_or_nul__refused_and_unchanged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
