/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/ckd.h"
#include "base/cleanup.h"

static const struct place {
	const char *what, *variable;
	const char *tree;      /* below the executable's folder */
	const char *installed; /* below PREFIX, the parent of the executable's folder */
	const char *advice;
} places[] = {
	[LIFE_FILE_VMM] = {"spore-vmm", "SPORE_VMM", "spore-vmm", "bin/spore-vmm",
			   "make, or make install"},
	[LIFE_FILE_KERNEL] = {"guest kernel", "SPORE_KERNEL", "guest/vmlinux", "lib/spore/vmlinux",
			      "make guest, or name one with --kernel"},
	[LIFE_FILE_INITRD] = {"agent's initramfs", "SPORE_INITRD", "guest/agent.cpio",
			      "lib/spore/agent.cpio", "make guest"},
	[LIFE_FILE_BASE] = {"base image", "SPORE_IMAGE", "guest/base.ext4", "lib/spore/base.ext4",
			    "spore image build"},
	[LIFE_FILE_RECIPE] = {"image recipe", "SPORE_RECIPE", "../guest/image/build",
			      "lib/spore/guest/image/build", "name one with --recipe"},
};

/* The folder of the running executable. */
static int own_folder(char *out)
{
	ssize_t n = readlink("/proc/self/exe", out, LIFE_PATH_MAX - 1);

	if (n < 0)
		return -errno;
	out[n] = '\0';
	char *slash = strrchr(out, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

static int found_at(char *out, const char *folder, const char *rest)
{
	if (snprintf(out, LIFE_PATH_MAX, "%s/%s", folder, rest) >= LIFE_PATH_MAX)
		return -ENAMETOOLONG;
	return access(out, F_OK) ? -errno : 0;
}

static int take_named(char *out, const char *what, const char *path, struct errmsg *why)
{
	if (strlen(path) >= LIFE_PATH_MAX)
		return err_set(why, ENAMETOOLONG, "%s", what);
	if (access(path, F_OK))
		return err_set(why, errno, "%s %s", what, path);
	strcpy(out, path);
	return 0;
}

int life_file_find(enum life_file file, const char *named, char *out, struct errmsg *why)
{
	const struct place *p = &places[file];
	const char *from_env = getenv(p->variable);
	char folder[LIFE_PATH_MAX], prefix[LIFE_PATH_MAX + 4];

	if (named)
		return take_named(out, p->what, named, why);
	if (from_env && *from_env)
		return take_named(out, p->what, from_env, why);
	if (own_folder(folder))
		return err_set(why, ENOENT, "/proc/self/exe");
	snprintf(prefix, sizeof(prefix), "%s/..", folder);
	if (!found_at(out, folder, p->tree) || !found_at(out, prefix, p->installed))
		return 0;
	return err_set(why, 0, "there is no %s: %s", p->what, p->advice), -ENOENT;
}

int life_files_find(struct life_files *out, struct errmsg *why)
{
	int err = life_file_find(LIFE_FILE_VMM, NULL, out->vmm, why);

	if (!err)
		err = life_file_find(LIFE_FILE_KERNEL, NULL, out->kernel, why);
	return err ? err : life_file_find(LIFE_FILE_INITRD, NULL, out->initrd, why);
}

/*
 * `len` bytes of a regular file (a block device will do as well) from `at`; fewer are zero-filled.
 * @size: bytes of the whole, or NULL
 */
static int read_head(const char *what, const char *path, uint8_t *head, size_t len, off_t at,
		     uint64_t *size, struct errmsg *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return err_set(why, errno, "%s %s", what, path);
	if (S_ISDIR(st.st_mode))
		return err_set(why, EISDIR, "%s %s", what, path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(why, 0, "%s %s: not a regular file", what, path);
	if (S_ISREG(st.st_mode) && !st.st_size)
		return err_set(why, 0, "%s %s: the file is empty", what, path);
	memset(head, 0, len);
	if (pread(fd, head, len, at) < 0)
		return err_set(why, errno, "%s %s: read", what, path);
	off_t end = lseek(fd, 0, SEEK_END);
	if (size)
		*size = end > 0 ? (uint64_t)end : 0;
	return 0;
}

#define BZIMAGE_MAGIC_AT 0x202

int life_check_kernel(const char *path, struct errmsg *why)
{
	uint8_t head[BZIMAGE_MAGIC_AT + 4];
	int err = read_head("kernel", path, head, sizeof(head), 0, NULL, why);

	if (err)
		return err;
	if (memcmp(head, "\177ELF", 4) && memcmp(head + BZIMAGE_MAGIC_AT, "HdrS", 4))
		return err_set(why, 0, "kernel %s: neither an ELF file nor a bzImage", path);
	return 0;
}

int life_check_initrd(const char *path, struct errmsg *why)
{
	uint8_t head[8];

	return read_head("initrd", path, head, sizeof(head), 0, NULL, why);
}

/* Offsets in the superblock: Linux Documentation/filesystems/ext4/super.rst. */
#define EXT4_SUPER_AT       1024
#define EXT4_SUPER_LEN      1024
#define EXT4_BLOCKS_LO      0x4
#define EXT4_LOG_BLOCK_SIZE 0x18 /* block size: 1024 << this */
#define EXT4_MAGIC_AT       0x38
#define EXT4_INCOMPAT       0x60
#define EXT4_BLOCKS_HI      0x150
#define EXT4_INCOMPAT_64BIT 0x80u
#define EXT4_LOG_MAX        6u /* 64 KiB */

/* Return: false when this is no superblock. */
static bool ext4_bytes(const uint8_t *super, uint64_t *bytes)
{
	uint64_t blocks = le32_load(super + EXT4_BLOCKS_LO);
	uint32_t log = le32_load(super + EXT4_LOG_BLOCK_SIZE);

	if (le16_load(super + EXT4_MAGIC_AT) != 0xef53 || log > EXT4_LOG_MAX)
		return false;
	if (le32_load(super + EXT4_INCOMPAT) & EXT4_INCOMPAT_64BIT)
		blocks |= (uint64_t)le32_load(super + EXT4_BLOCKS_HI) << 32;
	return ckd_ok_mul(bytes, blocks, UINT64_C(1024) << log);
}

int life_check_image(const char *path, struct errmsg *why)
{
	uint8_t super[EXT4_SUPER_LEN];
	uint64_t size, bytes;
	int err = read_head("image", path, super, sizeof(super), EXT4_SUPER_AT, &size, why);

	if (err)
		return err;
	if (!ext4_bytes(super, &bytes))
		return err_set(
			why, 0,
			"image %s: not an ext4 file system (make one with 'spore image import')",
			path);
	if (bytes > size)
		return err_set(
			why, 0,
			"image %s: the file is truncated: %llu bytes of a file system of %llu",
			path, (unsigned long long)size, (unsigned long long)bytes);
	return 0;
}
