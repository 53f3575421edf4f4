/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/waiting.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TICK_MS 200

static void *tick(void *arg)
{
	struct waiting *w = arg;
	struct pollfd stop = {.fd = w->stop_fd, .events = POLLIN};

	while (poll(&stop, 1, TICK_MS) <= 0)
		progress_count(&w->progress, atomic_load(&w->done), w->of);
	return NULL;
}

void waiting_begin(struct waiting *w, const char *what, uint32_t of)
{
	w->progress = progress_begin(what);
	w->of = of;
	atomic_init(&w->done, 0);
	w->runs = false;
	w->stop_fd = isatty(STDERR_FILENO) ? eventfd(0, EFD_CLOEXEC) : -1;
	if (w->stop_fd >= 0)
		w->runs = !pthread_create(&w->thread, NULL, tick, w);
}

void waiting_step(struct waiting *w)
{
	atomic_fetch_add(&w->done, 1);
}

void waiting_end(struct waiting *w)
{
	const uint64_t one = 1;

	if (w->runs) {
		VERIFY(write(w->stop_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
		pthread_join(w->thread, NULL);
	}
	w->runs = false;
	cleanup_close_fn(&w->stop_fd);
	w->stop_fd = -1;
	progress_end(&w->progress);
}
