/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - one connection of a client
 *
 *   HELLO -> REQUEST -> (control answers, back to REQUEST)
 *                    -> BLOB -> SESSION -> LINGER -> gone
 *                    -> SESSION (attach)
 *                    -> handed to a worker: gone from here
 *
 * Output is bounded: small frames go through `out`; a stream's bytes go from its ring to the socket
 * directly and only while `out` is empty.  While `out` holds more than CLIENT_OUT_BUSY, nothing more is
 * read from the client, so that a client which asks and never listens costs a fixed amount.
 */
#ifndef SPORE_AGENT_CLIENT_H
#define SPORE_AGENT_CLIENT_H

#include <stddef.h>
#include <sys/uio.h>

#include "agent/agent.h"

#define CLIENT_OUT_MAX   (2 * (AGENT_FRAME_MAX + sizeof(struct agent_frame)))
#define CLIENT_OUT_BUSY  16384
#define CLIENT_LINGER_MS 2000 /* after our last frame we wait so long for the client to close */
#define CLIENT_SEGS      8    /* stdin segments whose credit is still to be given back */

enum client_state {
	CLIENT_HELLO,
	CLIENT_REQUEST,
	CLIENT_BLOB,    /* an EXEC's strings are arriving */
	CLIENT_START,   /* the child is being set up */
	CLIENT_SESSION, /* attached to a process */
	CLIENT_LIST,    /* PROC_LIST is being answered */
	CLIENT_LINGER,  /* last frame queued */
};

struct exec_request {
	struct agent_exec exec;
	size_t got;
	char blob[]; /* exec.blob_len bytes */
};

struct client_stream { /* one of a process's outputs, as this client sees it */
	uint64_t at;   /* next position to send */
	uint64_t credit;
	bool eof_sent;
};

struct client {
	struct source source; /* first: its address is the connection's */
	struct agent *agent;
	struct client *next;
	enum client_state state;
	uint64_t deadline; /* 0: none */

	uint8_t *in;
	size_t in_len, in_cap;
	uint8_t *out;
	size_t out_at, out_len, out_cap;

	struct exec_request *request; /* BLOB */
	uint64_t list_id;             /* LIST: the last one sent */
	uint64_t list_count;

	/* SESSION */
	struct proc *proc;
	struct client *next_attached;
	uint32_t attach; /* AGENT_ATTACH_* */
	struct client_stream stream[2];
	uint16_t turn; /* which stream goes first */
	bool exit_sent, stdin_eof_sent;
	bool input_ended, half_closed;
	uint32_t stdin_left; /* credit the client still has */
	struct {
		uint64_t end;
		uint32_t bytes;
	} seg[CLIENT_SEGS];
	unsigned seg_count;
};

/* Takes over a connected socket.  Return: 0 or -errno (the socket is closed then). */
int client_create(struct agent *agent, int fd);
/* Leaves its process, closes, frees. */
void client_destroy(struct client *client);

/* Queues one frame.  False: it would not fit (cannot happen for small frames: see CLIENT_OUT_BUSY). */
bool client_put(struct client *client, uint16_t type, uint16_t stream, const void *fixed,
		const void *tail, size_t tail_len);
void client_put_value(struct client *client, uint16_t type, uint16_t stream, uint64_t value);
/* Queues ERROR with text; the connection ends unless it is in a repeatable request. */
void client_error(struct client *client, int err, uint16_t stage, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* No more frames will be queued: flush, half-close, wait a little, close. */
void client_finish(struct client *client);
/* Writes what is queued.  Return: 1 all written; 0 the socket is full; < 0 broken. */
int client_flush(struct client *client);
/* Sends one DATA frame straight from memory; `out` must be empty.  What the socket does not take is
 * queued.  Return: as client_flush(). */
int client_send_data(struct client *client, uint16_t stream, const struct iovec *iov, int count,
		     size_t len);
/* Does what can be done without waiting: takes frames, serves, writes.  False: it is gone. */
bool client_run(struct client *client);
/* Ends connections whose deadline is over; lowers *next to the earliest that is left. */
void client_timers(struct agent *agent, uint64_t now, uint64_t *next);
/* Sets what to wait for after the state or the queue changed. */
void client_update(struct client *client);

/* machine.c: answers a control request */
void machine_request(struct client *client, const struct agent_frame *frame,
		     const uint8_t *payload);

#endif
