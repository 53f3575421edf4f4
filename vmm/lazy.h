/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lazy.h - memory that comes when it is touched: the VMM's side of snapshot/pager.h
 *
 * The userfaultfd is made before the sandbox closes, so that it sees KVM's faults too.  A load registers what is to
 * come with it, and hands it to the pager; when that says that all is there, it is unregistered.
 *
 * Should the pager end before that, threads of this VM stand in page faults that nobody answers: a vCPU in KVM_RUN,
 * io in a copy, the kernel on behalf of a disk.  Letting them go would show them zeroes, and a disk would be written
 * with those.  So they stand until the process ends, which is what `lost` is for; a thread of its own, which touches
 * no guest memory, watches the pager and calls it.
 *
 * Thread: ctl, and where it says so `watch`.
 */
#ifndef SPORE_VMM_LAZY_H
#define SPORE_VMM_LAZY_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"
#include "snapshot/plan.h"
#include "vmm/libvmm.h"

struct lazy {
	int uffd; /* -1: there is none */
	void (*lost)(void *ctx, const char *why);
	void *ctx;
	pthread_t thread; /* watch */
	bool started;
	struct snap_runs runs; /* ctl until `sock` is set, then watch */
	/* m->lock: */
	int sock;    /* to the pager; -1: not loaded this way */
	bool coming; /* some of memory is not there yet */
	bool stop;   /* the machine is taken down */
};

/* With cfg->uffd_fd and cfg->pager_lost; else there is none, and loads of such plans are refused.  0 or -errno. */
int lazy_create(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why);
void lazy_destroy(struct vmm *m);

/* Makes the thread that watches; before ctl's filter, which permits none.  0 or -errno. */
int lazy_start(struct vmm *m, struct errmsg *why);
/* Ends and joins it.  vCPUs and io have ended. */
void lazy_stop(struct vmm *m);

/*
 * lazy_load() - let m->lazy.runs come from a pager: anonymous memory, untouched
 * @pager: connected SEQPACKET socket; duplicated
 * Return: 0 or -errno: the machine is of no use then.
 */
int lazy_load(struct vmm *m, int pager, struct errmsg *why);

/* Waits until all of memory is there.  Return: 0; -ESRCH the machine has ended. */
int lazy_wait(struct vmm *m, struct errmsg *why);

#endif
