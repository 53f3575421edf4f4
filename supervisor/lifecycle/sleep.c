/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "snapshot/image.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/vm_parts.h"

#define SLEEP_DRIVE "rootfs"

static int open_ctl(struct ctl_client *ctl, int home_fd, struct errmsg *why)
{
	char path[48];

	home_ctl(home_fd, path);
	return ctl_open(ctl, path, why);
}

static int capture_on(struct sleep *s, int home_fd, uint32_t flags, struct errmsg *why)
{
	unsigned top = s->sealed.count;
	cleanup_close int below = layers_read(home_fd, top, why);
	cleanup_close int fresh = below < 0 ? -1 : layers_fresh(home_fd, top + 1, why);
	const int layer[] = {fresh, below};

	if (below < 0 || fresh < 0)
		return below < 0 ? below : fresh;
	return ctl_capture(&s->ctl, flags, layer, ARRAY_LEN(layer), &s->machine, why);
}

int sleep_capture(struct sleep *s, int home_fd, uint32_t flags, struct errmsg *why)
{
	*s = (struct sleep){.ctl = {.fd = -1}};
	int err = layers_open(&s->sealed, home_fd, why);
	if (!err)
		err = open_ctl(&s->ctl, home_fd, why);
	if (!err)
		err = capture_on(s, home_fd, flags, why);
	if (err)
		return err;
	layers_close(&s->sealed); /* what was the top is sealed now */
	return layers_open(&s->sealed, home_fd, why);
}

int sleep_write(const struct sleep *s, int dir_fd, uint32_t cpus, struct errmsg *why)
{
	const struct snap_runs *runs = &s->machine.plan.runs;
	const struct snap_run *last = runs->count ? &runs->run[runs->count - 1] : NULL;
	const struct snap_disk disk = {.drive = SLEEP_DRIVE,
				       .generation = s->sealed.count,
				       .layer = s->sealed.id[0],
				       .layer_count = s->sealed.count};
	struct snap_written written;
	const struct snap_write cfg = {
		.dir_fd = dir_fd,
		.name = SLEEP_IMAGE,
		.publish = SNAP_REPLACE,
		.kind = SNAP_IMAGE_FLAT,
		.cpus = cpus,
		.pages = last ? last->page + last->count : 0,
		.state = s->machine.state,
		.state_len = s->machine.said.state_len,
		.plan = &s->machine.plan,
		.diff_source = SNAP_ALL,
		.disks = &disk,
		.disk_count = 1,
	};

	return snap_image_write(&cfg, &written, why);
}

void sleep_close(struct sleep *s)
{
	ctl_capture_free(&s->machine);
	layers_close(&s->sealed);
	if (s->ctl.fd >= 0)
		ctl_close(&s->ctl);
	s->ctl.fd = -1;
}

/* --- load ----------------------------------------------------------------------------------------- */

int sleep_share(const struct layers *sealed, int from_fd, int to_fd, struct errmsg *why)
{
	char name[LAYERS_NAME_MAX];

	for (unsigned i = 0; i < sealed->count; i++) {
		layers_name(name, i);
		if (linkat(from_fd, name, to_fd, name, 0))
			return err_set(why, errno, "%s", name);
	}
	return 0;
}

static int state_fd(const struct sleep_source *from, struct errmsg *why)
{
	cleanup_close int fd = memfd_create("machine-state", MFD_CLOEXEC);

	if (fd < 0 || write(fd, from->state, from->state_len) != (ssize_t)from->state_len)
		return err_set(why, errno ? errno : EIO, "state of the machine");
	return steal_fd(&fd);
}

/* state, runs, sources, image, layers: the order of wire/ctl.h. */
static int send_load(struct ctl_client *ctl, const struct sleep_source *from, const int own[3],
		     uint32_t flags, struct errmsg *why)
{
	unsigned sources = from->plan->source_count, layers = from->layers->count + 1;
	cleanup_free int *fd = malloc((3 + sources + layers) * sizeof(*fd));
	struct ctl_load load = {.flags = flags | CTL_LOAD_RUN,
				.state_len = from->state_len,
				.run_count = from->plan->runs.count,
				.source_count = sources,
				.drive_count = 1,
				.layers = {layers}};
	struct ctl_loaded loaded;

	if (!fd)
		return err_set(why, ENOMEM, "load");
	fd[0] = own[0];
	fd[1] = own[1];
	memcpy(fd + 2, from->plan->fd, sources * sizeof(*fd));
	fd[2 + sources] = own[2];
	memcpy(fd + 3 + sources, from->layers->fd, layers * sizeof(*fd));
	return ctl_load_machine(ctl, &load, fd, 3 + sources + layers, &loaded, why);
}

int sleep_load(int home_fd, const struct sleep_source *from, uint32_t flags, struct errmsg *why)
{
	cleanup_close int state = state_fd(from, why);
	cleanup_close int runs = state < 0 ? -1 : snap_runs_fd(&from->plan->runs, why);
	cleanup_close int image = runs < 0 ? -1 : life_image_fd(from->image, why);
	struct ctl_client ctl = {.fd = -1};

	if (image < 0)
		return state < 0 ? state : runs < 0 ? runs : image;
	int err = open_ctl(&ctl, home_fd, why);
	if (err)
		return err;
	err = send_load(&ctl, from, (const int[]){state, runs, image}, flags, why);
	ctl_close(&ctl);
	return err;
}

/* Memory and disk belong together: the layers that are there are those that the image names, each and in order. */
static int check_disk(const struct snap_image *image, const struct layers *layers,
		      struct errmsg *why)
{
	const struct snap_disk *disk;

	if (snap_image_disks(image, &disk) != 1)
		return err_set(why, EBADMSG, "its memory knows no disk");
	if (disk->layer_count != layers->count)
		return err_set(why, EBADMSG, "the disk has %u sealed layers, its memory knows %u",
			       layers->count, disk->layer_count);
	if (memcmp(disk->layer, layers->id, layers->count * (size_t)COW_ID_LEN) != 0)
		return err_set(why, EBADMSG,
			       "the disk's layers are not those that its memory knows");
	return 0;
}

static int load_chain(int home_fd, struct snap_chain *chain, const char *image, uint32_t flags,
		      struct errmsg *why)
{
	struct snap_plan plan = {.source_count = 0};
	struct layers layers = {.count = 0};
	struct sleep_source from = {.plan = &plan, .image = image, .layers = &layers};

	from.state = snap_image_state(snap_chain_head(chain), &from.state_len);
	int err = snap_chain_plan(chain, &plan, why);
	if (!err)
		err = layers_open(&layers, home_fd, why);
	if (!err)
		err = check_disk(snap_chain_head(chain), &layers, why);
	if (!err)
		err = layers_top(&layers, home_fd, why);
	if (!err)
		err = sleep_load(home_fd, &from, flags, why);
	layers_close(&layers);
	snap_plan_free(&plan);
	return err;
}

int sleep_load_file(int home_fd, const char *image, uint32_t flags, struct errmsg *why)
{
	cleanup_close int fd = openat(home_fd, SLEEP_IMAGE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct snap_chain *chain = NULL;

	if (fd < 0)
		return err_set(why, errno, SLEEP_IMAGE);
	int err =
		snap_chain_open(&chain, fd, snap_find_in_folder, &home_fd, SNAP_CHAIN_NEEDED, why);
	if (!err)
		err = load_chain(home_fd, chain, image, flags, why);
	snap_chain_close(chain);
	return err;
}
