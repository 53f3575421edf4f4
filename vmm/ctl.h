/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the control socket's server (wire/ctl.h), on top of libvmm.h
 *
 * The ctl thread polls; a request is carried out when its last packet has come, and answered before the next one is
 * looked at.  Clients cannot hold it up: a reply that does not fit into the socket's buffer ends the connection.
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_CTL_H
#define SPORE_VMM_CTL_H

#include <poll.h>

#include "base/ctlsock.h"
#include "vmm/libvmm.h"

#define CTL_CONN_MAX 8u /* clients at one time; more are turned away */

struct ctl_conn {
	int fd;              /* -1: free */
	struct ctl_msg *msg; /* made before the sandbox closes */
	bool holds;          /* its capture keeps the VM paused */
};

struct ctl {
	struct vmm *vmm;
	int listen_fd;
	bool stop; /* a client asked for the end */
	struct ctl_conn conn[CTL_CONN_MAX];
};

#define CTL_POLL_MAX (1 + CTL_CONN_MAX)

/* @listen_fd: listening SEQPACKET socket, borrowed.  Return: 0 or -ENOMEM. */
int ctl_create(struct ctl *ctl, struct vmm *vmm, int listen_fd, struct errmsg *why);

/* What to poll for.  Return: the count, at most CTL_POLL_MAX. */
unsigned ctl_poll_fill(const struct ctl *ctl, struct pollfd *fd);
/* Acts on what poll() found in the entries of ctl_poll_fill(). */
void ctl_poll_take(struct ctl *ctl, const struct pollfd *fd, unsigned count);

#endif
