/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.h - the agent's one epoll loop
 *
 * A source is a descriptor and what to do when it is ready; it is embedded in the object that owns
 * the descriptor.  events_del() also drops events of the batch being delivered, so that an object may
 * be freed from any callback.  One thread.
 */
#ifndef SPORE_AGENT_EVENTS_H
#define SPORE_AGENT_EVENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define EVENTS_BATCH 64 /* events taken from the kernel at a time */

struct source {
	int fd; /* -1: not in the loop */
	uint32_t events;
	void (*ready)(struct source *source, uint32_t events);
};

struct events {
	int epfd;
	int count; /* of the batch being delivered */
	struct epoll_event batch[EVENTS_BATCH];
};

int events_init(struct events *loop);
void events_deinit(struct events *loop);
/* Puts fd (now the source's) into the loop.  Return: 0 or -errno; on error the fd stays the caller's. */
int events_add(struct events *loop, struct source *source, int fd, uint32_t events);
/* Changes what to wait for; EPOLLERR and EPOLLHUP always come. */
void events_set(struct events *loop, struct source *source, uint32_t events);
/* Takes the source out and closes its descriptor.  Fine when it is not in. */
void events_del(struct events *loop, struct source *source);
/* The same, but gives the descriptor back. */
int events_take(struct events *loop, struct source *source);
/* Waits up to timeout_ms (< 0: for ever) and delivers one batch.  Return: events, or -errno. */
int events_run(struct events *loop, int timeout_ms);

/* Milliseconds of CLOCK_MONOTONIC: never steps, stands still while the machine is paused. */
uint64_t now_ms(void);
uint64_t now_us(void);

#endif
