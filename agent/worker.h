/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - a request served by a forked child that owns its connection
 *
 * The child becomes the requested user first and works with blocking calls; the kernel checks its
 * permissions, and a file that never answers holds up nobody else.  A peer that makes no progress
 * for AGENT_STALL_MS ends the child.
 */
#ifndef SPORE_AGENT_WORKER_H
#define SPORE_AGENT_WORKER_H

#include <sys/types.h>

#include "agent/client.h"

struct worker {
	int fd;
	const struct agent *agent; /* as it was at the fork */
	const uint8_t *ahead;      /* bytes the loop had already read */
	size_t ahead_len;
	void (*abandon)(void); /* undoes what is half done, on every way out but success */
	uint8_t *payload;      /* of the last worker_recv(), AGENT_FRAME_MAX bytes */
};

/*
 * worker_start() - fork a child for this request
 * @ahead: bytes that came after the request
 * Return: 0, the caller closes its connection; -EAGAIN too many; -EBUSY a freeze is on; -errno.
 */
int worker_start(struct client *client, const struct agent_frame *frame, const void *payload,
		 const void *ahead, size_t ahead_len);
/* A child has ended.  False: it was no worker. */
bool worker_reaped(struct agent *agent, pid_t pid);

/* --- in the child: each ends it when the connection is gone ----------------------------------- */

void worker_send(struct worker *w, uint16_t type, const void *fixed, const void *tail,
		 size_t tail_len);
void worker_send_data(struct worker *w, const void *buf, size_t len);
void worker_value(struct worker *w, uint16_t type, uint64_t value);
/* Sends ERROR and ends the child. */
void worker_fail(struct worker *w, int err, uint16_t stage, const char *fmt, ...)
	__attribute__((format(printf, 4, 5), noreturn));
/* Next frame of the client, checked, payload in w->payload.  False: the client is gone. */
bool worker_recv(struct worker *w, struct agent_frame *frame);
/* Bytes the loop had read ahead, or from the connection: for FORWARD.  As read(2). */
ssize_t worker_read_raw(struct worker *w, void *buf, size_t cap);

/* What the children do. */
void file_request(struct worker *w, const struct agent_frame *frame, const uint8_t *payload);
void forward_request(struct worker *w, const struct agent_forward *forward);
void identity_request(struct worker *w, const char *hostname, const char *machine_id);
void wake_request(struct worker *w, const struct agent_wake *wake, const char *hostname,
		  const char *machine_id);
void freeze_request(struct worker *w, const struct agent_freeze *freeze, const char *paths,
		    size_t len);
void thaw_request(struct worker *w);

#endif
