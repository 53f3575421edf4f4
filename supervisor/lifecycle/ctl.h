/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the client of a VMM's control socket (wire/ctl.h)
 *
 * One request, one reply.  The VMM is another trust zone: what it answers is checked for type and length, and every
 * descriptor that came is owned by the answer.  A VMM that does not answer within CTL_WAIT_MS is given up.
 *
 * Thread: one connection, one thread; no globals.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_CTL_H
#define SPORE_SUPERVISOR_LIFECYCLE_CTL_H

#include "base/ctlsock.h"
#include "base/err.h"
#include "snapshot/plan.h"

#define CTL_WAIT_MS 60000 /* a capture of 512 GiB copies what was written meanwhile */

struct ctl_client {
	int fd;              /* -1: closed */
	struct ctl_msg *msg; /* the last reply */
};

/* @path: of the socket.  Return: 0; -ECONNREFUSED nobody listens; -errno. */
int ctl_open(struct ctl_client *out, const char *path, struct errmsg *why);
void ctl_close(struct ctl_client *client);

int ctl_status(struct ctl_client *client, struct ctl_status *out, struct errmsg *why);
/* CTL_PAUSE, CTL_RESUME, CTL_STOP.  Return: 0; the VMM's -errno with its sentence. */
int ctl_order(struct ctl_client *client, uint16_t type, struct errmsg *why);

/* A machine at one instant.  ctl_capture_free() it. */
struct ctl_machine {
	struct ctl_captured said;
	void *state; /* said.state_len bytes */
	struct snap_plan plan;
};

/*
 * ctl_capture() - take one
 * @layer: for each drive that writes to a layer an empty file and the present top for reading (wire/ctl.h); borrowed
 * The plan's runs are not checked yet: snap_plan_check().
 * Return: 0; -EBADMSG an answer that is none; the VMM's -errno; -errno.
 */
int ctl_capture(struct ctl_client *client, uint32_t flags, const int *layer, unsigned layer_count,
		struct ctl_machine *out, struct errmsg *why);
void ctl_capture_free(struct ctl_machine *machine);

/* @outcome: CTL_SETTLE_KEPT or CTL_SETTLE_LOST */
int ctl_settle(struct ctl_client *client, uint64_t sequence, uint32_t outcome, struct errmsg *why);

/*
 * ctl_load_machine() - put a machine into an empty VMM
 * @fd: in the order of wire/ctl.h; borrowed
 */
int ctl_load_machine(struct ctl_client *client, const struct ctl_load *load, const int *fd,
		     unsigned fd_count, struct ctl_loaded *out, struct errmsg *why);

#endif
