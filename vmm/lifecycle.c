/* SPDX-License-Identifier: Apache-2.0 */
/*
 * created -> running <-> paused -> ended.  The ctl thread asks by `want` and kicks; vCPU threads answer
 * by parking.  Once all are parked no new kick can come from the guest, so the devices are quiesced after
 * them, on the io thread; resuming goes the other way round.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/device_state.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"

#define CONSOLE_LINGER_NS (200 * NS_PER_MS) /* how long the last output may take to be written */

enum machine_want machine_want(const struct vmm *m)
{
	return (enum machine_want)__atomic_load_n(&m->want, __ATOMIC_ACQUIRE);
}

void machine_stamp(struct vmm *m, uint64_t *phase)
{
	cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
	if (!*phase)
		*phase = clock_now();
}

/* An end cannot be taken back. */
static void machine_set_want(struct vmm *m, enum machine_want want)
{
	{
		cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
		if (machine_want(m) == WANT_ENDED)
			return;
		__atomic_store_n(&m->want, (int)want, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&m->changed);
	}
	if (want != WANT_RUNNING)
		for (unsigned i = 0; i < m->cpus; i++)
			vcpu_kick(&m->vcpu[i]);
}

void machine_end(struct vmm *m, enum vmm_exit reason, const char *fmt, ...)
{
	{
		cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
		if (m->exit == VMM_EXIT_NONE) {
			m->exit = reason;
			m->timings.ended = clock_now();
			va_list ap;
			va_start(ap, fmt);
			vsnprintf(m->exit_text.text, sizeof(m->exit_text.text), fmt, ap);
			va_end(ap);
		}
	}
	machine_set_want(m, WANT_ENDED);
	uint64_t one = 1;
	VERIFY(write(m->exit_fd, &one, sizeof(one)) == sizeof(one));
}

bool machine_park(struct vmm *m)
{
	cleanup_unlock pthread_mutex_t *held = hold(&m->lock);

	m->parked++;
	pthread_cond_broadcast(&m->changed);
	while (machine_want(m) == WANT_PARKED)
		VERIFY(pthread_cond_wait(&m->changed, &m->lock) == 0);
	m->parked--;
	return machine_want(m) == WANT_RUNNING;
}

void machine_gone(struct vmm *m)
{
	cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
	m->gone++;
	pthread_cond_broadcast(&m->changed);
}

int machine_confine(const struct vmm *m, enum sandbox_role role, struct errmsg *why)
{
	return m->sealed && !m->seal.no_seccomp ? sandbox_thread(role, why) : 0;
}

static void *io_main(void *arg)
{
	struct vmm *m = arg;
	struct errmsg why;

	pthread_setname_np(pthread_self(), "io");
	if (machine_confine(m, SANDBOX_IO, &why))
		machine_end(m, VMM_EXIT_ERROR, "io thread: %s", why.text);
	int err = loop_run(m->loop);
	if (err)
		machine_end(m, VMM_EXIT_ERROR, "io thread: io_uring failed with %d", err);
	return NULL;
}

static int io_start(struct vmm *m, struct errmsg *why)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&m->io_thread, NULL, io_main, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return err_set(why, err, "io thread");
	m->io_started = true;
	return 0;
}

static void io_is_up(void *arg)
{
	(void)arg;
}

/*
 * Threads are made at the first start; vCPUs come up parked.  Each loads its own filter first: a vCPU
 * before it enters the guest, io before it answers this call.  Ours comes last, it permits no threads.
 */
static int machine_start_threads(struct vmm *m, struct errmsg *why)
{
	int err = io_start(m, why);

	for (unsigned i = 0; !err && i < m->cpus; i++)
		err = vcpu_start(&m->vcpu[i], why);
	if (!err)
		err = lazy_start(m, why);
	if (err || !m->sealed)
		return err;
	loop_call(m->loop, io_is_up, m);
	return machine_confine(m, SANDBOX_CTL, why);
}

static void unquiesce_all(void *arg)
{
	devices_resume(arg);
}

static void quiesce_all(void *arg)
{
	devices_pause(arg);
}

/* The first start: of what was booted, or of what will be loaded. */
static int machine_begin(struct vmm *m, struct errmsg *why)
{
	int err = machine_start_threads(m, why);
	if (err) {
		machine_end(m, VMM_EXIT_ERROR, "cannot start threads");
		return err;
	}
	machine_stamp(m, &m->timings.started);
	if (m->empty) {
		loop_call(m->loop, quiesce_all, m);
		m->state = VMM_EMPTY;
	}
	return 0;
}

int machine_run(struct vmm *m, struct errmsg *why)
{
	if (machine_want(m) == WANT_ENDED)
		return err_set(why, ESRCH, "the VM has ended");
	if (m->state == VMM_RUNNING)
		return 0;
	if (m->state == VMM_EMPTY)
		return err_set(why, EINVAL, "the VM is empty: it waits for a load");
	if (m->state == VMM_CREATED) {
		int err = machine_begin(m, why);
		if (err || m->empty)
			return err;
	} else {
		loop_call(m->loop, unquiesce_all, m);
	}
	m->state = VMM_RUNNING;
	machine_set_want(m, WANT_RUNNING);
	return 0;
}

int machine_pause(struct vmm *m, struct errmsg *why)
{
	if (m->state == VMM_PAUSED)
		return 0;
	if (m->state != VMM_RUNNING)
		return err_set(why, EINVAL, "only a running VM can be paused");
	machine_set_want(m, WANT_PARKED);
	{
		cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
		while (m->parked + m->gone < m->cpus)
			VERIFY(pthread_cond_wait(&m->changed, &m->lock) == 0);
	}
	if (machine_want(m) == WANT_ENDED)
		return err_set(why, ESRCH, "the VM has ended");
	loop_call(m->loop, quiesce_all, m);
	m->state = VMM_PAUSED;
	return 0;
}

static void drain_console(void *arg)
{
	struct vmm *m = arg;
	if (m->console)
		console_drain(m->console, clock_now() + CONSOLE_LINGER_NS);
}

void machine_halt(struct vmm *m)
{
	assert(machine_want(m) == WANT_ENDED);
	for (unsigned i = 0; i < m->cpus; i++) {
		if (m->vcpu[i].started)
			VERIFY(pthread_join(m->vcpu[i].thread, NULL) == 0);
		m->vcpu[i].started = false;
	}
	if (m->io_started) {
		loop_call(m->loop, drain_console, m);
		loop_stop(m->loop);
		VERIFY(pthread_join(m->io_thread, NULL) == 0);
		m->io_started = false;
	}
	lazy_stop(m);
	m->state = VMM_ENDED;
}
