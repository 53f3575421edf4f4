/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctlsock.h - messages of the control socket (wire/ctl.h) with their descriptors, for both of its ends
 *
 * The other side is hostile: lengths, types and the number of descriptors are checked before a message is handed
 * on, and what came with a message that is refused is closed.
 * Thread: any; one caller a socket.
 */
#ifndef SPORE_BASE_CTLSOCK_H
#define SPORE_BASE_CTLSOCK_H

#include <stdint.h>

#include "base/err.h"
#include "wire/ctl.h"

/* One message in the making, or whole.  Owns its descriptors. */
struct ctl_msg {
	struct ctl_head head;
	uint8_t body[CTL_BODY_MAX + 1] __attribute__((aligned(8))); /* and a NUL */
	int fd[CTL_FDS_MAX];
	unsigned fd_count;
};

/* Closes what came and begins anew.  A message starts zeroed. */
void ctl_msg_clear(struct ctl_msg *msg);
/* Descriptor `index`, which is the caller's from here on; -1 when there is none. */
int ctl_msg_take(struct ctl_msg *msg, unsigned index);

/*
 * ctl_msg_recv() - take one packet
 * Descriptors of CTL_FDS packets gather in `msg`.
 * Return: 1 the message is whole; 0 more is to come; -EPIPE the other side is gone; -EAGAIN nothing there (a
 * non-blocking socket); -EPROTO against the protocol; -errno.  After an error the connection is to be closed.
 */
int ctl_msg_recv(int sock, struct ctl_msg *msg, struct errmsg *why);

/*
 * ctl_msg_send() - send a message, its descriptors first
 * @status: 0 in a request; in a reply 0 or -errno
 * Return: 0 or -errno; -E2BIG.  The descriptors stay the caller's.
 */
int ctl_msg_send(int sock, uint16_t type, int32_t status, const void *body, uint32_t len,
		 const int *fd, unsigned fd_count, struct errmsg *why);

#endif
