/* SPDX-License-Identifier: Apache-2.0 */
/* spore snapshot export and import: from one machine to another. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "snapshot/image.h"
#include "snapshot/image_export.h"
#include "supervisor/cli/cmd_snapshot.h"
#include "supervisor/cli/snapshot.h"

struct layers {
	struct snap_layer_file *file;
	uint32_t count;
};

static void close_layers(struct layers *l)
{
	for (uint32_t i = 0; i < l->count; i++)
		close(l->file[i].fd);
	free(l->file);
}

/* Adds "ID.layer" once.  0; -ENOENT it is not there; -errno. */
static int add_layer(struct layers *l, int dir_fd, const uint8_t *id)
{
	char name[2 * SNAP_ID_LEN + 16];

	for (uint32_t i = 0; i < l->count; i++)
		if (!memcmp(l->file[i].id, id, SNAP_ID_LEN))
			return 0;
	struct snap_layer_file *grown = realloc(l->file, (l->count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	l->file = grown;
	snprintf(name, sizeof(name), "%s.layer", snap_id_text(id).text);
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	memcpy(l->file[l->count].id, id, SNAP_ID_LEN);
	l->file[l->count++].fd = fd;
	return 0;
}

static int add_disk(struct layers *l, int dir_fd, const struct snap_disk *disk, struct errmsg *why)
{
	for (uint32_t k = 0; k < disk->layer_count; k++) {
		const uint8_t *id = disk->layer + k * SNAP_ID_LEN;
		int err = add_layer(l, dir_fd, id);
		if (err)
			return err_set(why, err, "disk %s: %s.layer", disk->drive,
				       snap_id_text(id).text);
	}
	/* What they lie on comes along when it is kept as a layer; else the other machine has it. */
	int err = add_layer(l, dir_fd, disk->base_id);
	return err == -ENOENT ? 0 : err;
}

static int find_layers(struct layers *l, int dir_fd, const struct snap_image *image,
		       struct errmsg *why)
{
	const struct snap_disk *disk;
	uint32_t count = snap_image_disks(image, &disk);
	int err = 0;

	for (uint32_t i = 0; !err && i < count; i++)
		err = add_disk(l, dir_fd, &disk[i], why);
	return err;
}

static int open_out(const char *path, struct errmsg *why)
{
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
		      : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? err_set(why, errno, "%s", path ? path : "standard output") : fd;
}

static int export_to(struct snap_chain *chain, int dir_fd, const struct snapshot_args *args,
		     const char *path, struct errmsg *why)
{
	struct layers layers = {.file = NULL};
	int err = args->no_disks ? 0 : find_layers(&layers, dir_fd, snap_chain_head(chain), why);
	cleanup_close int fd = err ? -1 : open_out(path, why);

	if (!err && fd < 0)
		err = fd;
	if (!err)
		err = snap_export(chain, layers.file, layers.count, fd, why);
	if (!err && path && fsync(fd))
		err = err_set(why, errno, "%s", path);
	if (err && path && fd >= 0)
		unlink(path);
	close_layers(&layers);
	return err;
}

static int export_file(const char *from, const char *to, const struct snapshot_args *args,
		       struct errmsg *why)
{
	struct snap_chain *chain;
	cleanup_close int fd = snapshot_open(from, why);
	cleanup_close int dir = fd < 0 ? -1 : snapshot_folder(from, args->folder, why);

	if (dir < 0)
		return -ENOENT;
	int err = snap_chain_open(&chain, fd, snap_find_in_folder, &dir, SNAP_CHAIN_ALL, why);
	if (err)
		return err_wrap(why, err, "%s", from);
	err = export_to(chain, dir, args, to, why);
	snap_chain_close(chain);
	return err;
}

int cmd_snapshot_export(void *config, int argc, char **argv)
{
	struct errmsg why;

	if (argc < 2 && isatty(STDOUT_FILENO))
		return cli_fail("snapshot export", "standard output is a terminal: name a file");
	if (export_file(argv[0], argc > 1 ? argv[1] : NULL, config, &why))
		return cli_fail("snapshot export", "%s", why.text);
	return CLI_OK;
}

int cmd_snapshot_import(void *config, int argc, char **argv)
{
	const struct snapshot_args *args = config;
	cleanup_free char *copy = strdup(argv[1]);
	struct snap_written out;
	struct errmsg why;

	(void)argc;
	if (!copy)
		return cli_fail("snapshot import", "out of memory");
	cleanup_close int fd = strcmp(argv[0], "-") != 0 ? snapshot_open(argv[0], &why)
							 : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return cli_fail("snapshot import", "%s: %s", argv[0], strerror(-fd));
	cleanup_close int dir = snapshot_folder(argv[1], NULL, &why);
	if (dir < 0)
		return cli_fail("snapshot import", "%s", why.text);
	snap_image_sweep(dir);
	const struct snap_import import = {.fd = fd,
					   .dir_fd = dir,
					   .name = basename(copy),
					   .kind = args->flat ? SNAP_IMAGE_FLAT : SNAP_IMAGE_LZ4,
					   .no_layers = args->no_disks};
	if (snap_import(&import, &out, &why))
		return cli_fail("snapshot import", "%s", why.text);
	puts(snap_id_text(out.self.id).text);
	return CLI_OK;
}
