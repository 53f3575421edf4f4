/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup.h - locals that release themselves when their scope ends
 *
 * `cleanup_close int fd = open(...)`; hand it on with steal_fd(&fd).  "No fd" is -1, never 0.
 */
#ifndef SPORE_BASE_CLEANUP_H
#define SPORE_BASE_CLEANUP_H

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The object that holds `member` at `p`. */
#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* An expression that must run and must hold, with side effects; assert() may have none. */
#define VERIFY(expr)             \
	do {                     \
		if (!(expr))     \
			abort(); \
	} while (0)

#define cleanup_close  __attribute__((cleanup(cleanup_close_fn)))
#define cleanup_free   __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_unlock __attribute__((cleanup(cleanup_unlock_fn), unused))

static inline void cleanup_close_fn(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_unlock_fn(pthread_mutex_t **lock)
{
	if (*lock)
		pthread_mutex_unlock(*lock);
}

static inline int steal_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

#define steal_ptr(p)                            \
	__extension__({                         \
		__typeof__(*(p)) taken_ = *(p); \
		*(p) = NULL;                    \
		taken_;                         \
	})

/* Takes a lock for the rest of the scope: `cleanup_unlock pthread_mutex_t *held = hold(&lock);` */
static inline pthread_mutex_t *hold(pthread_mutex_t *lock)
{
	VERIFY(pthread_mutex_lock(lock) == 0);
	return lock;
}

#endif
