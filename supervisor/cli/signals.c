/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/signals.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};

/* A process has one set of signal dispositions, so this has one state. */
static struct {
	int pipe_read, pipe_write; /* const after start */
	pthread_mutex_t lock;
	struct life_vm *vm;     /* lock */
	enum signals_mode mode; /* lock */
	atomic_int fatal;
	uint64_t last_int_ns; /* signal thread */
} state = {.pipe_read = -1, .pipe_write = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* Whoever polls the pipe looks up.  A full one wakes as well; the signal is then merged with others. */
static void wake(int sig)
{
	const char byte = (char)sig;

	if (write(state.pipe_write, &byte, 1) < 0)
		assert(errno == EAGAIN);
}

void signals_abort(int sig)
{
	cleanup_unlock pthread_mutex_t *held = hold(&state.lock);

	atomic_store(&state.fatal, sig);
	if (state.vm)
		life_vm_kill(state.vm);
	wake(sig);
}

static int second_int(int sig)
{
	uint64_t now = clock_now(), before = state.last_int_ns;

	if (sig != SIGINT)
		return 0;
	state.last_int_ns = now;
	return before && now - before < SIGNALS_TWICE_NS;
}

static enum signals_mode current_mode(void)
{
	cleanup_unlock pthread_mutex_t *held = hold(&state.lock);

	return state.mode;
}

static void on_signal(int sig)
{
	int twice = second_int(sig);

	if (sig == SIGWINCH)
		wake(sig);
	else if (twice || current_mode() == SIGNALS_KILL)
		signals_abort(sig);
	else
		wake(sig);
}

static void *signals_main(void *arg)
{
	sigset_t *set = arg;
	int sig;

	for (;;)
		if (!sigwait(set, &sig))
			on_signal(sig);
	return NULL;
}

int signals_start(struct errmsg *why)
{
	static sigset_t set;
	pthread_t thread;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return err_set(why, errno, "pipe");
	state.pipe_read = fds[0];
	state.pipe_write = fds[1];
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(caught); i++)
		sigaddset(&set, caught[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	int err = pthread_create(&thread, NULL, signals_main, &set);
	if (err)
		return err_set(why, err, "thread");
	pthread_detach(thread);
	return 0;
}

void signals_guard(struct life_vm *vm)
{
	cleanup_unlock pthread_mutex_t *held = hold(&state.lock);

	state.vm = vm;
	if (vm && atomic_load(&state.fatal))
		life_vm_kill(vm); /* it came while there was none */
}

void signals_set_mode(enum signals_mode mode)
{
	cleanup_unlock pthread_mutex_t *held = hold(&state.lock);

	state.mode = mode;
}

int signals_fd(void)
{
	return state.pipe_read;
}

int signals_fatal(void)
{
	return atomic_load(&state.fatal);
}
