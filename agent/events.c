/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.c - epoll, level-triggered.  Level, because every callback may stop early (fairness, a full
 * buffer) and is then simply called again.  Thread: the agent's only one.
 */
#include "agent/events.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

int events_init(struct events *loop)
{
	*loop = (struct events){.epfd = epoll_create1(EPOLL_CLOEXEC)};
	return loop->epfd < 0 ? -errno : 0;
}

void events_deinit(struct events *loop)
{
	close(loop->epfd);
	loop->epfd = -1;
}

int events_add(struct events *loop, struct source *source, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	assert(fd >= 0);
	if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	source->fd = fd;
	source->events = events;
	return 0;
}

void events_set(struct events *loop, struct source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (source->fd < 0 || source->events == events)
		return;
	int err = epoll_ctl(loop->epfd, EPOLL_CTL_MOD, source->fd, &event);
	assert(err == 0);
	source->events = events;
}

int events_take(struct events *loop, struct source *source)
{
	int fd = source->fd;

	if (fd < 0)
		return -1;
	epoll_ctl(loop->epfd, EPOLL_CTL_DEL, fd, NULL);
	source->fd = -1;
	for (int i = 0; i < loop->count; i++) {
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
	}
	return fd;
}

void events_del(struct events *loop, struct source *source)
{
	int fd = events_take(loop, source);

	if (fd >= 0)
		close(fd);
}

int events_run(struct events *loop, int timeout_ms)
{
	int count = epoll_wait(loop->epfd, loop->batch, EVENTS_BATCH, timeout_ms);
	if (count < 0)
		return errno == EINTR ? 0 : -errno;

	loop->count = count;
	for (int i = 0; i < count; i++) {
		struct source *source = loop->batch[i].data.ptr;
		if (source)
			source->ready(source, loop->batch[i].events);
	}
	loop->count = 0;
	return count;
}

uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t now_ms(void)
{
	return now_us() / 1000;
}
