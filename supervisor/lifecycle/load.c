/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/keep.h"
#include "supervisor/lifecycle/vm_parts.h"

static int state_fd(const struct life_source *from, struct errmsg *why)
{
	cleanup_close int fd = memfd_create("machine-state", MFD_CLOEXEC);

	if (fd < 0 || write(fd, from->state, from->state_len) != (ssize_t)from->state_len)
		return err_set(why, errno ? errno : EIO, "state of the machine");
	return steal_fd(&fd);
}

/* state, runs, sources, image, layers: the order of wire/ctl.h. */
static int send_load(struct ctl_client *ctl, const struct life_source *from, const int own[3],
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

int life_load(int home_fd, const struct life_source *from, uint32_t flags, struct errmsg *why)
{
	cleanup_close int state = state_fd(from, why);
	cleanup_close int runs = state < 0 ? -1 : snap_runs_fd(&from->plan->runs, why);
	cleanup_close int image = runs < 0 ? -1 : life_image_fd(from->image, why);
	struct ctl_client ctl = {.fd = -1};
	char path[48];

	if (image < 0)
		return state < 0 ? state : runs < 0 ? runs : image;
	home_ctl(home_fd, path);
	int err = ctl_open(&ctl, path, why);
	if (err)
		return err;
	err = send_load(&ctl, from, (const int[]){state, runs, image}, flags, why);
	ctl_close(&ctl);
	return err;
}

/* --- from a folder -------------------------------------------------------------------------------- */

/* Memory and disk belong together: the layer on top is the one that the image knows as its topmost. */
static int check_disk(const struct snap_image *image, const struct layers *layers,
		      struct errmsg *why)
{
	const struct snap_disk *disk;

	if (snap_image_disks(image, &disk) != 1 || !disk->layer_count)
		return err_set(why, EBADMSG, "its memory knows no disk");
	if (!layers->count)
		return err_set(why, EBADMSG, "its disk has no sealed layer");
	if (memcmp(disk->layer + (disk->layer_count - 1) * (size_t)COW_ID_LEN,
		   layers->id[layers->count - 1], COW_ID_LEN) != 0)
		return err_set(why, EBADMSG,
			       "the top layer of its disk is not the one that its memory knows");
	return 0;
}

/* Return: 0 with chain and plan; -errno. */
static int open_plan(struct snap_chain **chain, struct snap_plan *plan, int home_fd,
		     struct errmsg *why)
{
	int err = keep_open(chain, home_fd, KEEP_HEAD, SNAP_CHAIN_NEEDED, why);

	return err ? err : snap_chain_plan(*chain, plan, why);
}

static int map_plan(struct snap_chain **chain, struct snap_plan *plan, int home_fd,
		    struct errmsg *why)
{
	int err = open_plan(chain, plan, home_fd, why);

	if (err != -EOPNOTSUPP && err != -E2BIG)
		return err;
	snap_chain_close(*chain);
	snap_plan_free(plan);
	*chain = NULL;
	err = keep_flatten(home_fd, why);
	return err ? err : open_plan(chain, plan, home_fd, why);
}

static int load_chain(int home_fd, const struct snap_image *head, const struct snap_plan *plan,
		      const char *image, uint32_t flags, struct errmsg *why)
{
	struct layers layers = {.count = 0};
	struct life_source from = {.plan = plan, .image = image, .layers = &layers};

	from.state = snap_image_state(head, &from.state_len);
	int err = layers_open(&layers, home_fd, why);
	if (!err)
		err = check_disk(head, &layers, why);
	if (!err)
		err = layers_top(&layers, home_fd, why);
	if (!err)
		err = life_load(home_fd, &from, flags, why);
	layers_close(&layers);
	return err;
}

int life_load_folder(int home_fd, const char *image, uint32_t flags, struct errmsg *why)
{
	struct snap_plan plan = {.source_count = 0};
	struct snap_chain *chain = NULL;

	int err = map_plan(&chain, &plan, home_fd, why);
	if (!err)
		err = load_chain(home_fd, snap_chain_head(chain), &plan, image, flags, why);
	if (!err)
		err = keep_share(home_fd, KEEP_HEAD, home_fd, KEEP_BASE, why);
	snap_plan_free(&plan);
	snap_chain_close(chain);
	return err;
}
