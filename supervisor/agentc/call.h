/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h - one request, its answers, with a deadline; internal to agentc
 */
#ifndef SPORE_SUPERVISOR_AGENTC_CALL_H
#define SPORE_SUPERVISOR_AGENTC_CALL_H

#include "supervisor/agentc/link.h"

struct call {
	struct link link;
	struct agentc *at;
	struct errmsg *why;
	struct agent_frame frame; /* of the last answer */
	const uint8_t *payload;
};

void call_close(struct call *call);
#define cleanup_call __attribute__((cleanup(call_close)))

/* Connects and queues the request.  Return: 0 or -errno. */
int call_open(struct call *call, struct agentc *at, uint16_t type, const void *fixed,
	      const void *tail, size_t tail_len, struct errmsg *why);
/* Waits for the next answer (at->timeout_ms).  ERROR becomes its errno.  Return: 0 or -errno. */
int call_next(struct call *call);
/* The same, and it must be of this type. */
int call_expect(struct call *call, uint16_t type);
/* The 64-bit value of an OK, END or LOST. */
uint64_t call_value(const struct call *call);
/* open, then the one answer OK.  Return: its value (cut at INT64_MAX), or -errno. */
int64_t call_simple(struct agentc *at, uint16_t type, const void *fixed, const void *tail,
		    size_t tail_len, struct errmsg *why);
/* The tail of the last answer as strings. */
const char *call_string(const struct call *call, unsigned i);

/* exec.c: as agentc_exec_wait(), but stdin credit that comes back ends the wait too.
 * Return: 1 an event; 0 credit; -ETIMEDOUT; -errno. */
int exec_wait_credit(struct agentc_exec *x, struct agentc_event *ev, int timeout_ms,
		     struct errmsg *why);

#endif
