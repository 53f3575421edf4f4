/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - one connection to the agent, non-blocking: CONNECT/OK, hello, frames
 *
 * Internal to agentc.  What is queued before the connection stands is held until the VMM has said
 * OK, so that nothing of ours can be taken for a part of the CONNECT line.
 */
#ifndef SPORE_SUPERVISOR_AGENTC_LINK_H
#define SPORE_SUPERVISOR_AGENTC_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/agentc/agentc.h"

#define LINK_IN_BYTES (2 * (AGENT_FRAME_MAX + sizeof(struct agent_frame)))
#define LINK_OUT_MAX  (4u << 20)
#define LINK_LINE_MAX 32 /* bytes of "OK <port>\n" */

struct link {
	int fd;
	bool ok;    /* the VMM has said OK (or there is none to ask) */
	bool hello; /* HELLO_OK has come */
	bool ended; /* the agent's side is over */
	bool exact; /* never read past the frame that is arriving */
	uint8_t *in;
	size_t in_at, in_len, used; /* used: bytes of the frame given out last */
	uint8_t *out;
	size_t out_at, out_len, out_cap;
	size_t gate; /* bytes of `out` that may go before OK */
};

/* Connects and queues CONNECT and HELLO.  Return: 0 or -errno; link is closed then. */
int link_open(struct link *link, struct agentc *at, struct errmsg *why);
void link_close(struct link *link);
/* Queues a frame.  Return: 0; -ENOBUFS over LINK_OUT_MAX; -EPROTO not a valid message. */
int link_put(struct link *link, uint16_t type, uint16_t stream, const void *fixed, const void *tail,
	     size_t tail_len);
size_t link_queued(const struct link *link);
/* Writes and reads what goes without waiting.  Return: 0, or -errno: nothing more will come. */
int link_pump(struct link *link, struct errmsg *why);
/*
 * The next frame, checked.  It stays valid until the next call.
 * Return: 1; 0 none yet; -ECONNRESET none will come; -EPROTO garbage.
 */
int link_frame(struct link *link, struct agent_frame *frame, const uint8_t **payload,
	       struct errmsg *why);
/* poll(2) events to wait for. */
short link_events(const struct link *link);
/* Waits for them until now_ms() == end.  Return: 0, -ETIMEDOUT, -errno. */
int link_wait(struct link *link, uint64_t end_ms, struct errmsg *why);
/* link_frame() with waiting.  Return: 0 or -errno. */
int link_await(struct link *link, struct agent_frame *frame, const uint8_t **payload,
	       uint64_t end_ms, struct errmsg *why);
/* Writes all that is queued.  Frames of the agent are kept; an early ERROR ends the wait. */
int link_drain(struct link *link, uint64_t end_ms, struct errmsg *why);

uint64_t link_now_ms(void);
/* End of a wait of timeout_ms from now; UINT64_MAX for a negative one. */
uint64_t link_end_ms(int timeout_ms);

/* Turns an ERROR frame into -errno, escaped text and at->stage. */
int link_error(struct agentc *at, const struct agent_frame *frame, const uint8_t *payload,
	       struct errmsg *why);

#endif
