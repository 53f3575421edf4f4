/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/load.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/vm_parts.h"

/* The descriptors of a request, in the order of wire/ctl.h. */
struct fd_list {
	int fd[CTL_FDS_MAX];
	unsigned count;
};

static void put(struct fd_list *to, int fd)
{
	if (to->count < CTL_FDS_MAX)
		to->fd[to->count] = fd;
	to->count++; /* too many: life_load() sees it */
}

static int state_fd(const struct snap_chain *chain, uint64_t *len, struct errmsg *why)
{
	cleanup_close int fd = memfd_create("machine-state", MFD_CLOEXEC);
	size_t size;
	const void *state = snap_image_state(snap_chain_head(chain), &size);

	if (fd < 0 || write(fd, state, size) != (ssize_t)size)
		return err_set(why, errno, "state of the machine");
	*len = size;
	return steal_fd(&fd);
}

static int send_load(struct ctl_client *client, const struct life_load *load,
		     const struct snap_plan *plan, int base, struct ctl_loaded *out,
		     struct errmsg *why)
{
	struct ctl_load body = {.flags = load->flags,
				.run_count = plan->runs.count,
				.source_count = plan->source_count,
				.drive_count = base >= 0};
	struct fd_list list = {.count = 0};
	cleanup_close int state = state_fd(load->chain, &body.state_len, why);
	cleanup_close int runs = snap_runs_fd(&plan->runs, why);

	if (state < 0 || runs < 0)
		return state < 0 ? state : runs;
	put(&list, state);
	put(&list, runs);
	for (uint32_t i = 0; i < plan->source_count; i++)
		put(&list, plan->fd[i]);
	if (base >= 0) {
		body.layers[0] = load->layers->count + 1;
		put(&list, base);
		for (uint32_t i = 0; i <= load->layers->count; i++)
			put(&list, load->layers->fd[i]);
	}
	if (list.count > CTL_FDS_MAX)
		return err_set(why, E2BIG, "a load of %u files", list.count);
	return ctl_load_machine(client, &body, list.fd, list.count, out, why);
}

int life_load(struct ctl_client *client, const struct life_load *load, struct ctl_loaded *out,
	      struct errmsg *why)
{
	struct snap_plan plan = {.source_count = 0};
	cleanup_close int base = load->image ? life_image_fd(load->image, why) : -1;

	if (load->image && base < 0)
		return base;
	int err = snap_chain_plan(load->chain, &plan, why);
	if (!err)
		err = send_load(client, load, &plan, base, out, why);
	snap_plan_free(&plan);
	return err;
}
