/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ctl_load.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "snapshot/plan.h"
#include "wire/snap.h"

static_assert(CTL_DRIVES_MAX == VMM_DRIVES_MAX, "as many drives as a VM has");

/* A private copy of a file's first `len` bytes: nobody changes it while it is looked at. */
static int read_whole(int fd, uint64_t len, void **out, struct errmsg *why)
{
	cleanup_free uint8_t *bytes = malloc(len + 1);
	struct stat st;

	if (!bytes)
		return err_set(why, ENOMEM, "load: %llu bytes", (unsigned long long)len);
	if (fstat(fd, &st) || (uint64_t)st.st_size < len)
		return err_set(why, EBADMSG, "load: a file is shorter than it is said to be");
	for (uint64_t at = 0; at < len;) {
		ssize_t n = pread(fd, bytes + at, len - at, (off_t)at);
		if (n <= 0)
			return err_set(why, n < 0 ? errno : EIO, "load: read");
		at += (uint64_t)n;
	}
	*out = steal_ptr(&bytes);
	return 0;
}

/* The descriptors in their order. */
struct taker {
	const struct ctl_msg *msg;
	unsigned next;
	bool bad; /* one was missing */
};

static int take(struct taker *t)
{
	if (t->next == t->msg->fd_count) {
		t->bad = true;
		return -1;
	}
	return t->msg->fd[t->next++];
}

static const int *take_many(struct taker *t, uint32_t count)
{
	if (count > t->msg->fd_count - t->next) {
		t->bad = true;
		return NULL;
	}
	t->next += count;
	return t->msg->fd + t->next - count;
}

static int take_disks(struct taker *t, const struct ctl_load *asked, struct vmm_load_cfg *cfg)
{
	if (asked->drive_count > VMM_DRIVES_MAX)
		return -EINVAL;
	cfg->disk_count = asked->drive_count;
	for (uint32_t i = 0; i < asked->drive_count; i++) {
		if (asked->layers[i] > VMM_LAYERS_MAX)
			return -EINVAL;
		cfg->disk[i].base_fd = take(t);
		cfg->disk[i].layer_count = asked->layers[i];
		cfg->disk[i].layer_fd = take_many(t, asked->layers[i]);
	}
	return 0;
}

static int take_all(struct taker *t, const struct ctl_load *asked, struct vmm_load_cfg *cfg,
		    int *state_fd, int *runs_fd, struct errmsg *why)
{
	const uint32_t flags = CTL_LOAD_RUN | CTL_LOAD_REALTIME | CTL_LOAD_CLONE;

	*state_fd = take(t);
	*runs_fd = take(t);
	cfg->memory.run_count = asked->run_count;
	cfg->memory.fd_count = asked->source_count;
	cfg->memory.fd = take_many(t, asked->source_count);
	int err = take_disks(t, asked, cfg);
	cfg->vsock_listen_fd = asked->has & CTL_HAS_VSOCK ? take(t) : -1;
	cfg->pager_fd = asked->has & CTL_HAS_PAGER ? take(t) : -1;
	if (err || t->bad || t->next != t->msg->fd_count || (asked->flags & ~flags) ||
	    (asked->has & ~(CTL_HAS_VSOCK | CTL_HAS_PAGER)))
		return err_set(why, EINVAL, "load: the request and its %u descriptors do not agree",
			       t->msg->fd_count);
	if (asked->state_len > SNAP_STATE_MAX || asked->run_count > SNAP_RUNS_MAX)
		return err_set(why, E2BIG, "load: state or plan is too large");
	cfg->flags = (asked->flags & CTL_LOAD_REALTIME ? VMM_LOAD_REALTIME : 0) |
		     (asked->flags & CTL_LOAD_CLONE ? VMM_LOAD_CLONE : 0);
	return 0;
}

int ctl_load(struct vmm *vmm, const struct ctl_msg *msg, struct ctl_loaded *out, struct errmsg *why)
{
	struct vmm_load_cfg cfg = {.size = sizeof(cfg)};
	struct taker taker = {.msg = msg};
	struct ctl_load asked;
	cleanup_free void *state = NULL;
	cleanup_free void *runs = NULL;
	uint64_t begin = clock_now();
	int state_fd, runs_fd;

	memcpy(&asked, msg->body, sizeof(asked));
	int err = take_all(&taker, &asked, &cfg, &state_fd, &runs_fd, why);
	if (!err)
		err = read_whole(state_fd, asked.state_len, &state, why);
	if (!err)
		err = read_whole(runs_fd, asked.run_count * sizeof(struct vmm_run), &runs, why);
	if (err)
		return err;
	cfg.state = state;
	cfg.state_len = asked.state_len;
	cfg.memory.run = runs;
	err = vmm_load(vmm, &cfg, (struct vmm_error *)why);
	if (!err && (asked.flags & CTL_LOAD_RUN))
		err = vmm_resume(vmm, (struct vmm_error *)why);
	*out = (struct ctl_loaded){.load_ns = clock_now() - begin};
	return err;
}
