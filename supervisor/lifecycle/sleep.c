/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/sleep.h"

#include <errno.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/keep.h"

#define SLEEP_DRIVE "rootfs"

static int open_ctl(struct ctl_client *ctl, int home_fd, struct errmsg *why)
{
	char path[48];

	home_ctl(home_fd, path);
	return ctl_open(ctl, path, why);
}

static int capture_on(struct sleep *s, int home_fd, uint32_t flags, struct errmsg *why)
{
	unsigned top = s->sealed.first + s->sealed.count;
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

int sleep_write(const struct sleep *s, int home_fd, int dir_fd, uint32_t cpus, struct errmsg *why)
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
		.cpus = cpus,
		.pages = last ? last->page + last->count : 0,
		.state = s->machine.state,
		.state_len = s->machine.said.state_len,
		.plan = &s->machine.plan,
		.disks = &disk,
		.disk_count = 1,
	};

	return keep_write(&cfg, home_fd, &written, why);
}

void sleep_close(struct sleep *s)
{
	ctl_capture_free(&s->machine);
	layers_close(&s->sealed);
	if (s->ctl.fd >= 0)
		ctl_close(&s->ctl);
	s->ctl.fd = -1;
}

int sleep_share(const struct layers *sealed, int from_fd, int to_fd, struct errmsg *why)
{
	char name[LAYERS_NAME_MAX];

	for (unsigned i = 0; i < sealed->count; i++) {
		layers_name(name, sealed->first + i);
		if (linkat(from_fd, name, to_fd, name, 0))
			return err_set(why, errno, "%s", name);
	}
	return 0;
}
