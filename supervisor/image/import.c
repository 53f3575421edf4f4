/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/image/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/image/spawn.h"
#include "supervisor/image/tree.h"
#include "supervisor/lifecycle/files.h"

#define STAGE_FILE_MAX (STORE_PATH_MAX + 32)

static int open_stage_file(const struct store_stage *stage, struct errmsg *why)
{
	char path[STAGE_FILE_MAX];

	snprintf(path, sizeof(path), "%s/" STORE_FILE, stage->path);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return fd < 0 ? err_set(why, errno, "%s", path) : fd;
}

static int copy_ext4(const char *from_path, const struct store_stage *stage, struct errmsg *why)
{
	cleanup_close int from = open(from_path, O_RDONLY | O_CLOEXEC);

	if (from < 0)
		return err_set(why, errno, "%s", from_path);
	cleanup_close int to = open_stage_file(stage, why);
	return to < 0 ? to : tree_copy_sparse(from, to, why);
}

/* The packing process, as root of whatever namespace can be had. */
static int pack(const struct import *im, const struct store_stage *stage, struct errmsg *why)
{
	char size[24], max[24];
	const char *argv[] = {"unshare", "--map-root-user", "--map-auto", "--", im->self, "image",
			      "pack",    im->path,          stage->path,  size, max,      NULL};
	const char *const *direct = argv + 4;

	snprintf(size, sizeof(size), "%" PRIu64, im->size);
	snprintf(max, sizeof(max), "%" PRIu64, im->bytes_max ? im->bytes_max : IMPORT_BYTES_MAX);
	if (!geteuid())
		return image_spawn(direct, why);
	const char *const try_auto[] = {"unshare", "--map-root-user", "--map-auto", "--", "true",
					NULL};
	if (!image_spawn(try_auto, NULL))
		return image_spawn(argv, why);
	fputs("spore image import: no user ids of others for this user (/etc/subuid, uidmap): "
	      "all files will belong to root\n",
	      stderr);
	argv[2] = "--user";
	return image_spawn(argv, why);
}

static int fill_stage(const struct import *im, const struct store_stage *stage, struct errmsg *why)
{
	struct stat st;

	if (stat(im->path, &st))
		return err_set(why, errno, "%s", im->path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(why, 0, "%s: neither a file nor a folder", im->path);
	if (S_ISREG(st.st_mode) && !st.st_size)
		return err_set(why, 0, "%s: the file is empty", im->path);
	if (S_ISREG(st.st_mode) && !life_check_image(im->path, NULL))
		return copy_ext4(im->path, stage, why);
	return pack(im, stage, why);
}

int import_image(const struct import *im, struct errmsg *why)
{
	struct store_stage stage;
	int err = store_name_check(im->name, why);

	if (!err)
		err = store_stage_begin(&stage, why);
	if (err)
		return err;
	err = fill_stage(im, &stage, why);
	if (!err)
		err = store_stage_commit(&stage, im->name, im->path, im->how, why);
	if (err)
		store_stage_abort(&stage);
	return err;
}

int import_build(const char *recipe, const char *name, struct errmsg *why)
{
	char folder[STORE_PATH_MAX], path[STORE_PATH_MAX + STORE_NAME_MAX + 8];
	const char *const argv[] = {recipe, STORE_DEFAULT_IMAGE, NULL};
	int err = image_spawn_line(argv, folder, sizeof(folder), why);

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/" STORE_DEFAULT_IMAGE ".ext4", folder);
	const struct import im = {.name = name, .path = path, .how = STORE_REPLACE};
	return life_check_image(path, why) ? -EINVAL : import_image(&im, why);
}
