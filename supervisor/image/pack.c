/* SPDX-License-Identifier: Apache-2.0 */
/* The packing process: unpack, measure, mke2fs, and the file without its zeros. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ckd.h"
#include "base/cleanup.h"
#include "supervisor/image/import.h"
#include "supervisor/image/oci.h"
#include "supervisor/image/spawn.h"
#include "supervisor/image/tree.h"
#include "supervisor/image/unpack.h"

#define FOLDER_MAX (STORE_PATH_MAX + 32)
#define MIB        UINT64_C(1048576)

static int unpack_any(struct unpack *u, const char *path, struct errmsg *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return err_set(why, errno, "%s", path);
	if (S_ISDIR(st.st_mode))
		return oci_unpack(u, path, why);
	int err = unpack_archive(u, fd, UNPACK_TAR, why);
	return err == -EBADMSG
		       ? err_wrap(why, err, "%s: neither ext4 nor a tar that can be used", path)
		       : err;
}

static void say_losses(const struct unpack *u)
{
	if (u->owners_lost)
		fprintf(stderr, "spore image import: the owners of %" PRIu64 " files are lost\n",
			u->owners_lost);
	if (u->attributes_lost)
		fprintf(stderr, "spore image import: %" PRIu64 " extended attributes are lost\n",
			u->attributes_lost);
	if (u->left_out)
		fprintf(stderr, "spore image import: %" PRIu64 " devices or sockets left out\n",
			u->left_out);
}

static int unpack_into(const char *path, const char *root, uint64_t bytes_max, struct errmsg *why)
{
	struct unpack u = {.bytes_left = bytes_max, .entries_left = UNPACK_ENTRIES_MAX};

	if (mkdir(root, 0755))
		return err_set(why, errno, "%s", root);
	cleanup_close int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(why, errno, "%s", root);
	u.root = fd;
	int err = unpack_any(&u, path, why);
	if (!err && u.entries_left == UNPACK_ENTRIES_MAX)
		err = err_set(why, 0, "%s: it holds no files", path);
	if (!err)
		say_losses(&u);
	return err;
}

/* Blocks for the files, an inode for each, the journal, and as much again. */
static uint64_t size_for(uint64_t bytes, uint64_t entries)
{
	uint64_t size = align_up(2 * (bytes + entries * 512) + 64 * MIB, MIB);

	return size > IMPORT_SIZE_MIN ? size : IMPORT_SIZE_MIN;
}

static int make_ext4(const char *root, const char *file, uint64_t size, struct errmsg *why)
{
	char blocks[24];
	const char *const argv[] = {"mke2fs", "-q",
				    "-t",     "ext4",
				    "-d",     root,
				    "-m",     "0",
				    "-b",     "4096",
				    "-I",     "256",
				    "-J",     "size=4",
				    "-O",     "64bit,metadata_csum,extent,flex_bg,has_journal",
				    "-E",     "lazy_itable_init=0,lazy_journal_init=0",
				    file,     blocks,
				    NULL};

	snprintf(blocks, sizeof(blocks), "%" PRIu64, size / 4096);
	cleanup_close int made = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (made < 0) /* else mke2fs would say that it makes it */
		return err_set(why, errno, "%s", file);
	return image_spawn(argv, why);
}

/* mke2fs writes empty inode tables out; a copy leaves out whatever is zero. */
static int make_sparse(const char *from_path, const char *to_path, struct errmsg *why)
{
	cleanup_close int from = open(from_path, O_RDONLY | O_CLOEXEC);
	cleanup_close int to = open(to_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (from < 0 || to < 0)
		return err_set(why, errno, "%s", from < 0 ? from_path : to_path);
	return tree_copy_sparse(from, to, why);
}

int import_pack(const char *path, const char *stage, uint64_t size, uint64_t bytes_max,
		struct errmsg *why)
{
	char root[FOLDER_MAX], full[FOLDER_MAX], file[FOLDER_MAX];
	uint64_t bytes, entries;

	snprintf(root, sizeof(root), "%s/root", stage);
	snprintf(full, sizeof(full), "%s/full.ext4", stage);
	snprintf(file, sizeof(file), "%s/" STORE_FILE, stage);
	int err = unpack_into(path, root, bytes_max, why);
	if (!err)
		err = tree_measure(AT_FDCWD, root, &bytes, &entries, why);
	if (!err)
		err = make_ext4(root, full, size ? size : size_for(bytes, entries), why);
	if (!err)
		err = make_sparse(full, file, why);
	tree_remove(AT_FDCWD, root, NULL);
	unlink(full);
	return err;
}
