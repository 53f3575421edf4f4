/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dir.h"

#define SUFFIX   ".snap"
#define NAME_LEN (2 * SNAP_ID_LEN + sizeof(SUFFIX)) /* with the NUL */

struct keep_name {
	char text[NAME_LEN];
};

static struct keep_name name_of(const uint8_t id[SNAP_ID_LEN])
{
	struct keep_name name;

	snprintf(name.text, sizeof(name.text), "%s" SUFFIX, snap_id_text(id).text);
	return name;
}

static struct keep_name name_of_image(const struct snap_image *image)
{
	struct snap_image_info info;

	snap_image_info(image, &info);
	return name_of(info.self.id);
}

int keep_find(void *arg, const uint8_t id[SNAP_ID_LEN])
{
	int fd = openat(*(const int *)arg, name_of(id).text,
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int keep_open(struct snap_chain **out, int dir_fd, const char *name, enum snap_chain_depth depth,
	      struct errmsg *why)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return err_set(why, errno, "%s", name);
	int err = snap_chain_open(out, fd, keep_find, &dir_fd, depth, why);
	return err ? err_wrap(why, err, "%s", name) : 0;
}

/* --- links ---------------------------------------------------------------------------------------- */

static int link_as(int from_fd, const char *from, int to_fd, const char *to, struct errmsg *why)
{
	if (linkat(from_fd, from, to_fd, to, 0) && errno != EEXIST)
		return err_set(why, errno, "%s", to);
	return 0;
}

static int share_chain(const struct snap_chain *chain, int from_fd, int to_fd, struct errmsg *why)
{
	const struct snap_image *image;
	int err = 0;

	for (uint32_t i = 1; !err && (image = snap_chain_image(chain, i)); i++) {
		struct keep_name name = name_of_image(image);
		err = link_as(from_fd, name.text, to_fd, name.text, why);
	}
	return err;
}

int keep_share(int from_fd, const char *name, int to_fd, const char *as, struct errmsg *why)
{
	struct snap_chain *chain = NULL;

	int err = keep_open(&chain, from_fd, name, SNAP_CHAIN_ALL, why);
	if (!err && from_fd != to_fd)
		err = share_chain(chain, from_fd, to_fd, why);
	if (!err && unlinkat(to_fd, as, 0) && errno != ENOENT)
		err = err_set(why, errno, "%s", as);
	if (!err)
		err = link_as(from_fd, name, to_fd, as, why);
	snap_chain_close(chain);
	return err;
}

/* --- what goes ------------------------------------------------------------------------------------ */

static bool is_image_name(const char *name)
{
	return strlen(name) == NAME_LEN - 1 &&
	       strspn(name, "0123456789abcdef") == 2 * (size_t)SNAP_ID_LEN &&
	       !strcmp(name + 2 * (size_t)SNAP_ID_LEN, SUFFIX);
}

static bool needs(const struct snap_chain *chain, const char *name)
{
	const struct snap_image *image;

	for (uint32_t i = 1; (image = snap_chain_image(chain, i)); i++)
		if (!strcmp(name_of_image(image).text, name))
			return true;
	return false;
}

static int sweep_folder(int dir_fd, const struct snap_chain *head)
{
	DIR *dir = dir_names(dir_fd);
	struct dirent *entry;
	int removed = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (is_image_name(entry->d_name) && !needs(head, entry->d_name))
			removed += !unlinkat(dir_fd, entry->d_name, 0);
	closedir(dir);
	return removed;
}

int keep_sweep(int dir_fd)
{
	struct snap_chain *head = NULL;

	unlinkat(dir_fd, KEEP_BASE, 0);
	snap_image_sweep(dir_fd);
	int removed = keep_open(&head, dir_fd, KEEP_HEAD, SNAP_CHAIN_ALL, NULL);
	if (!removed)
		removed = sweep_folder(dir_fd, head);
	snap_chain_close(head);
	return removed;
}

/* --- writing -------------------------------------------------------------------------------------- */

static bool worth_a_child(const struct snap_chain *base, uint64_t pages)
{
	struct snap_image_info info;

	snap_image_info(snap_chain_head(base), &info);
	return info.pages == pages && info.depth < KEEP_DEPTH_MAX &&
	       snap_chain_growth(base) <= KEEP_GROWTH_MAX;
}

static bool same_file(int one, int two)
{
	struct stat a, b;

	return !fstat(one, &a) && !fstat(two, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* How many of the plan's sources, from the first on, are the very files of the base.  All of them, or 0. */
static uint32_t sources_of_base(const struct snap_plan *plan, struct snap_chain *base)
{
	struct snap_plan own = {.source_count = 0};
	uint32_t n = 0;

	if (!snap_chain_plan(base, &own, NULL) && own.source_count <= plan->source_count)
		while (n < own.source_count && same_file(plan->fd[n], own.fd[n]))
			n++;
	n = n == own.source_count ? n : 0;
	snap_plan_free(&own);
	return n;
}

static int write_whole(struct snap_write *cfg, struct snap_written *out, struct errmsg *why)
{
	cfg->kind = SNAP_IMAGE_FLAT;
	cfg->parent = NULL;
	cfg->diff_from = 0;
	return snap_image_write(cfg, out, why);
}

/* An increment whose chain is in too many pieces to be mapped is of no use to who wakes it. */
static bool can_be_mapped(int dir_fd)
{
	struct snap_plan plan = {.source_count = 0};
	struct snap_chain *chain = NULL;
	int err = keep_open(&chain, dir_fd, KEEP_HEAD, SNAP_CHAIN_NEEDED, NULL);

	if (!err)
		err = snap_chain_plan(chain, &plan, NULL);
	snap_plan_free(&plan);
	snap_chain_close(chain);
	return !err;
}

static int write_child(struct snap_write *cfg, int base_fd, struct snap_chain *base,
		       struct snap_written *out, struct errmsg *why)
{
	struct keep_name name = name_of_image(snap_chain_head(base));
	int err = share_chain(base, base_fd, cfg->dir_fd, why);

	if (!err)
		err = link_as(base_fd, KEEP_BASE, cfg->dir_fd, name.text, why);
	if (err)
		return err;
	cfg->kind = SNAP_IMAGE_PACKED;
	cfg->parent = base;
	cfg->diff_from = sources_of_base(cfg->plan, base);
	err = snap_image_write(cfg, out, why);
	/* The base's file is damaged where it was compared, the machine is not; or there are too many pieces. */
	bool whole = err == -EBADMSG || (!err && !can_be_mapped(cfg->dir_fd));
	return whole ? write_whole(cfg, out, why) : err;
}

int keep_write(const struct snap_write *cfg, int base_fd, struct snap_written *out,
	       struct errmsg *why)
{
	struct snap_write full = *cfg;
	struct snap_chain *base = NULL;

	full.name = KEEP_HEAD;
	full.publish = SNAP_REPLACE;
	bool child = !keep_open(&base, base_fd, KEEP_BASE, SNAP_CHAIN_ALL, NULL) &&
		     worth_a_child(base, full.pages);
	int err =
		child ? write_child(&full, base_fd, base, out, why) : write_whole(&full, out, why);
	snap_chain_close(base);
	return err;
}

int keep_flatten(int dir_fd, struct errmsg *why)
{
	struct snap_chain *chain = NULL;
	struct snap_written written;
	int err = keep_open(&chain, dir_fd, KEEP_HEAD, SNAP_CHAIN_NEEDED, why);

	if (!err)
		err = snap_chain_flatten(chain, dir_fd, KEEP_HEAD, SNAP_IMAGE_FLAT, SNAP_REPLACE,
					 &written, why);
	snap_chain_close(chain);
	return err;
}
