/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/capture.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/connect.h"
#include "vmm/state.h"

#define PAGE SNAP_PAGE_SIZE

int capture_create(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	struct capture *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(why, ENOMEM, "capture");
	c->gather.fd = c->gather.first.fd = c->gather.again.fd = -1;
	m->capture = c;
	if (snap_out_init(&c->state))
		return err_set(why, ENOMEM, "capture");
	for (unsigned i = 0; i < m->gm.count; i++) {
		c->give[i] = gm_holes_create(m->gm.region[i].size);
		if (!c->give[i])
			return err_set(why, ENOMEM, "capture");
	}
	int err = gather_create(&c->gather, why);
	if (!err && dirty_create(&c->dirty, m))
		err = err_set(why, ENOMEM, "capture");
	if (!err && !cfg->empty)
		err = home_create(&c->spare, m, cfg, why);
	if (!err)
		m->irq.spare = c->spare ? &c->spare->kvm : NULL;
	return err;
}

void capture_private(struct vmm *m)
{
	for (unsigned i = 0; i < m->gm.count; i++) {
		gm_set_kind(&m->gm, i, GM_PRIVATE);
		gm_set_holes(&m->gm, i, m->capture->give[i]);
	}
}

void capture_destroy(struct vmm *m)
{
	struct capture *c = m->capture;

	if (!c)
		return;
	m->irq.spare = NULL;
	home_destroy(c->spare, m->cpus);
	home_destroy(c->old, m->cpus);
	snap_plan_free(&c->base);
	snap_runs_free(&c->out);
	working_set_free(&c->working_set);
	for (unsigned i = 0; i < GM_REGION_MAX; i++)
		free(c->give[i]);
	gather_destroy(&c->gather);
	dirty_destroy(&c->dirty);
	snap_out_free(&c->state);
	free(c);
	m->capture = NULL;
}

/* --- generation 0: the machine moves, its file becomes the base ------------------------------------- */

static int enter_spare(struct vmm *m, struct errmsg *why)
{
	struct capture *c = m->capture;
	struct state_cpus cpus;
	struct snap_in in;

	for (unsigned i = 0; i < m->cpus; i++)
		cpus.at[i] = &c->spare->vcpu[i];
	int err = snap_in_open(&in, c->state.buf, c->state.len, why);
	if (!err)
		err = state_load_cpus(&c->spare->kvm, &cpus, m, VM_CLOCK_RUNNING, &in, why);
	if (err)
		return err_wrap(why, err, "spare VM");
	home_swap(m, c->spare);
	capture_private(m);
	m->irq.spare = NULL;
	return 0;
}

/* All of memory is one file from here on. */
static int base_is_file(struct vmm *m, struct errmsg *why)
{
	struct capture *c = m->capture;
	int fd = fcntl(m->ram.read_fd, F_DUPFD_CLOEXEC, 0);
	int index = fd < 0 ? -errno : memory_add_source(&c->base, fd);

	if (index < 0) {
		if (fd >= 0)
			close(fd);
		return err_set(why, index, "guest memory: keep its file");
	}
	const struct snap_run all = {.count = m->ram.size / PAGE, .kind = SNAP_RUN_MAP};
	int err = snap_runs_add(&c->base.runs, &all);
	return err ? err_set(why, err, "guest memory: its plan") : 0;
}

/* Behind the running guest.  A file that could still be written is no base: then the machine ends. */
static int leave_old_home(struct vmm *m, struct errmsg *why)
{
	struct capture *c = m->capture;

	c->old = steal_ptr(&c->spare);
	int err = ram_freeze(&m->ram, why);
	if (!err)
		err = base_is_file(m, why);
	if (err)
		machine_end(m, VMM_EXIT_ERROR, "%s", why ? why->text : "guest memory");
	return err;
}

int machine_tidy(struct vmm *m, struct errmsg *why)
{
	struct capture *c = m->capture;

	if (!c || !c->old)
		return 0;
	void *shared = steal_ptr(&c->old->map);
	home_destroy(steal_ptr(&c->old), m->cpus);
	int err = ram_unmap(&m->ram, shared, why);
	if (err)
		machine_end(m, VMM_EXIT_ERROR, "%s", why ? why->text : "guest memory");
	return err;
}

/* --- a capture ------------------------------------------------------------------------------------------ */

static int capture_check(const struct vmm *m, const struct vmm_capture_cfg *cfg, struct errmsg *why)
{
	if (!m->capture)
		return err_set(why, ENOTSUP, "this VM was not made to be captured");
	if (m->state != VMM_RUNNING && m->state != VMM_PAUSED)
		return err_set(why, EINVAL, "only a running or paused VM can be captured");
	if (cfg->flags & ~(VMM_CAPTURE_STAY | VMM_CAPTURE_SINCE))
		return err_set(why, EINVAL, "unknown flags of a capture");
	return 0;
}

/* What a capture works with. */
struct shot {
	const struct vmm_capture_cfg *cfg;
	enum gather_what what;
	struct layers layers;
	bool pushed; /* the disks are on their fresh layers */
	uint64_t pause_ns;
};

/* With the guest standing still.  The disks last: what can fail is done then. */
static int capture_now(struct vmm *m, struct shot *shot, struct errmsg *why)
{
	int err = state_save(m, &m->capture->state, why);

	if (!err)
		err = m->capture->spare ? enter_spare(m, why)
					: gather_paused(&m->capture->gather, m, &m->capture->dirty,
							shot->what, why);
	if (err)
		return err;
	layers_push(&shot->layers, m);
	shot->pushed = true;
	return 0;
}

/* Pauses for it, if the machine runs. */
static int capture_paused(struct vmm *m, struct shot *shot, struct errmsg *why)
{
	bool ran = m->state == VMM_RUNNING;
	uint64_t begin = clock_now();

	int err = machine_pause(m, why);
	if (!err)
		err = capture_now(m, shot, why);
	if (ran && m->state == VMM_PAUSED && (err || !(shot->cfg->flags & VMM_CAPTURE_STAY))) {
		int run_err = machine_run(m, err ? NULL : why);
		err = err ? err : run_err;
	}
	shot->pause_ns = ran ? clock_now() - begin : 0;
	return err;
}

static struct vmm_memory view_of(const struct capture *c, const struct snap_runs *runs,
				 uint32_t sources)
{
	return (struct vmm_memory){.run = (const struct vmm_run *)runs->run,
				   .run_count = runs->count,
				   .fd = c->view,
				   .fd_count = sources};
}

/* The plan that goes out: the base's sources under their numbers, the changes behind them. */
static int capture_plan(struct capture *c, struct vmm_captured *out, struct errmsg *why)
{
	uint32_t count = c->base.source_count;

	memcpy(c->view, c->base.fd, count * sizeof(c->view[0]));
	out->memory = view_of(c, &c->base.runs, count);
	if (c->gather.fd < 0)
		return 0;
	const struct memory_change change = {.holes = &c->gather.holes,
					     .written = &c->gather.first,
					     .again = &c->gather.again,
					     .source = count};
	const struct snap_runs none = {.run = NULL};
	if (memory_changed(&c->out, out->partial ? &none : &c->base.runs, &change))
		return err_set(why, ENOMEM, "memory of a capture: its plan");
	c->view[count] = c->gather.fd;
	out->diff_source = count;
	out->diff_pages = gather_count(&c->gather);
	out->memory = view_of(c, &c->out, count + 1);
	return 0;
}

/* Behind the running guest. */
static int capture_behind(struct vmm *m, bool rehome, struct errmsg *why)
{
	int err = rehome ? leave_old_home(m, why) : gather_behind(&m->capture->gather, why);
	return err ? err : layers_seal(m, why);
}

static int capture_run(struct vmm *m, struct shot *shot, struct vmm_captured *made,
		       struct errmsg *why)
{
	int err = layers_prepare(&shot->layers, m, shot->cfg, why);

	if (!err && !made->rehomed)
		err = gather_before(&m->capture->gather, m, &m->capture->dirty, shot->what, why);
	if (!err)
		err = capture_paused(m, shot, why);
	if (!err)
		err = capture_behind(m, made->rehomed, why);
	return err ? err : capture_plan(m->capture, made, why);
}

/* Statuses that promise that nothing has happened may not be used once something has. */
static int capture_status(int err, const struct shot *shot)
{
	bool promise = err == -ENOTSUP || err == -EINVAL || err == -EBADMSG || err == -EBUSY;

	return promise && shot->pushed ? -EIO : err;
}

int machine_capture(struct vmm *m, const struct vmm_capture_cfg *cfg, struct vmm_captured *out,
		    struct errmsg *why)
{
	struct capture *c = m->capture;
	struct shot shot = {.cfg = cfg};
	struct vmm_captured made = {.diff_source = VMM_NO_SOURCE};

	int err = capture_check(m, cfg, why);
	if (!err)
		err = lazy_wait(m, why);
	if (!err)
		err = machine_tidy(m, why);
	if (err)
		return err;
	gather_forget(&c->gather);
	c->out.count = 0;
	made.rehomed = c->spare != NULL;
	made.partial = c->kept && (cfg->flags & VMM_CAPTURE_SINCE);
	shot.what = made.partial ? GATHER_SINCE_KEPT : GATHER_SINCE_BASE;
	err = capture_run(m, &shot, &made, why);
	layers_drop(&shot.layers);
	if (err)
		return capture_status(err, &shot);
	made.state = c->state.buf;
	made.state_len = c->state.len;
	made.pause_ns = shot.pause_ns;
	made.sequence = ++c->sequence;
	c->settled = false;
	*out = made;
	return 0;
}

int machine_settle(struct vmm *m, uint64_t sequence, enum vmm_outcome outcome, struct errmsg *why)
{
	struct capture *c = m->capture;

	if (!c || !sequence || sequence != c->sequence || c->settled)
		return err_set(why, ESTALE, "capture %llu is not the last one, or is settled",
			       (unsigned long long)sequence);
	c->settled = true;
	if (outcome == VMM_LOST) {
		dirty_lost(&c->dirty);
		return 0;
	}
	dirty_kept(&c->dirty);
	c->kept = c->gather.fd >= 0;
	return c->kept && !c->dirty.on ? dirty_start(&c->dirty, m, why) : 0;
}
