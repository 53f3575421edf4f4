/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lazy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/ctlsock.h"
#include "vmm/machine.h"

int lazy_create(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	struct uffdio_api api = {.api = UFFD_API};

	if (!cfg->empty || cfg->uffd_fd <= 0 || !cfg->pager_lost)
		return 0;
	m->lazy.lost = cfg->pager_lost;
	m->lazy.ctx = cfg->log_ctx;
	m->lazy.uffd = ioctl(cfg->uffd_fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (m->lazy.uffd < 0)
		return err_set(why, errno, "userfaultfd");
	return ioctl(m->lazy.uffd, UFFDIO_API, &api) ? err_set(why, errno, "userfaultfd") : 0;
}

void lazy_destroy(struct vmm *m)
{
	if (m->lazy.uffd >= 0)
		close(m->lazy.uffd);
	if (m->lazy.sock >= 0)
		close(m->lazy.sock);
	snap_runs_free(&m->lazy.runs);
}

static struct uffdio_range range_of(const struct vmm *m, const struct snap_run *run)
{
	return (struct uffdio_range){(uintptr_t)m->ram.map + run->page * SNAP_PAGE_SIZE,
				     run->count * SNAP_PAGE_SIZE};
}

/* --- watch ------------------------------------------------------------------------------------------ */

/* Return: the pager's socket; -1 the machine ends without. */
static int watch_wait(struct vmm *m)
{
	cleanup_unlock pthread_mutex_t *held = hold(&m->lock);

	while (m->lazy.sock < 0 && !m->lazy.stop)
		VERIFY(pthread_cond_wait(&m->changed, &m->lock) == 0);
	return m->lazy.sock;
}

/* The reply, or the end of the pager.  Return: 0, or -errno and a sentence. */
static int watch_reply(int sock, struct errmsg *why)
{
	struct {
		struct ctl_head head;
		char text[CTL_BODY_MAX + 1];
	} reply;
	ssize_t n;

	do
		n = read(sock, &reply, sizeof(reply) - 1);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return err_set(why, 0, "the pager is gone before all of memory was there");
	if ((size_t)n < sizeof(reply.head) || reply.head.magic != CTL_MAGIC ||
	    reply.head.type != CTL_PAGE_IN)
		return err_set(why, 0, "the pager does not keep to the protocol");
	((char *)&reply)[n] = '\0';
	return reply.head.status ? err_set(why, 0, "the pager has failed: %s", reply.text) : 0;
}

/* Whatever the pager does with its descriptor from here on, nobody waits for it any more. */
static void watch_release(struct vmm *m)
{
	for (size_t i = 0; i < m->lazy.runs.count; i++) {
		struct uffdio_range range = range_of(m, &m->lazy.runs.run[i]);
		VERIFY(ioctl(m->lazy.uffd, UFFDIO_UNREGISTER, &range) == 0);
	}
}

static void *watch_main(void *arg)
{
	struct vmm *m = arg;
	struct errmsg why = {""};

	pthread_setname_np(pthread_self(), "watch");
	if (machine_confine(m, SANDBOX_IO, &why))
		machine_end(m, VMM_EXIT_ERROR, "watch thread: %s", why.text);
	int sock = watch_wait(m);
	int err = sock < 0 ? 0 : watch_reply(sock, &why);
	bool stop;

	if (sock >= 0 && !err)
		watch_release(m);
	{
		cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
		stop = m->lazy.stop;
		m->lazy.coming = m->lazy.coming && err;
		pthread_cond_broadcast(&m->changed);
	}
	if (!err || stop)
		return NULL;
	machine_end(m, VMM_EXIT_ERROR, "%s", why.text);
	m->lazy.lost(m->lazy.ctx, why.text);
	return NULL;
}

int lazy_start(struct vmm *m, struct errmsg *why)
{
	sigset_t every, old;

	if (m->lazy.uffd < 0)
		return 0;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &old);
	int err = pthread_create(&m->lazy.thread, NULL, watch_main, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	m->lazy.started = !err;
	return err ? err_set(why, err, "watch thread") : 0;
}

void lazy_stop(struct vmm *m)
{
	if (!m->lazy.started)
		return;
	{
		cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
		m->lazy.stop = true;
		pthread_cond_broadcast(&m->changed);
	}
	if (m->lazy.sock >= 0)
		shutdown(m->lazy.sock, SHUT_RDWR);
	VERIFY(pthread_join(m->lazy.thread, NULL) == 0);
	m->lazy.started = false;
}

/* --- ctl -------------------------------------------------------------------------------------------- */

static int register_all(const struct vmm *m, struct errmsg *why)
{
	const struct snap_runs *runs = &m->lazy.runs;

	if (runs->count > SNAP_MAPS_MAX)
		return err_set(why, E2BIG, "memory: %zu runs that come when touched", runs->count);
	for (size_t i = 0; i < runs->count; i++) {
		struct uffdio_register reg = {.range = range_of(m, &runs->run[i]),
					      .mode = UFFDIO_REGISTER_MODE_MISSING};
		if (ioctl(m->lazy.uffd, UFFDIO_REGISTER, &reg))
			return err_set(why, errno, "memory: run %zu that comes when touched", i);
	}
	return 0;
}

int lazy_load(struct vmm *m, int pager, struct errmsg *why)
{
	const struct ctl_page_in ask = {.base = (uintptr_t)m->ram.map,
					.pages = m->ram.size / SNAP_PAGE_SIZE};
	cleanup_close int sock = fcntl(pager, F_DUPFD_CLOEXEC, 0);

	if (sock < 0)
		return err_set(why, errno, "the pager's socket");
	int err = register_all(m, why);
	if (!err)
		err = ctl_msg_send(sock, CTL_PAGE_IN, 0, &ask, sizeof(ask), &m->lazy.uffd, 1, why);
	if (err)
		return err_wrap(why, err, "pager");
	cleanup_unlock pthread_mutex_t *held = hold(&m->lock);
	m->lazy.sock = steal_fd(&sock);
	m->lazy.coming = true;
	pthread_cond_broadcast(&m->changed);
	return 0;
}

int lazy_wait(struct vmm *m, struct errmsg *why)
{
	cleanup_unlock pthread_mutex_t *held = hold(&m->lock);

	while (m->lazy.coming && machine_want(m) != WANT_ENDED)
		VERIFY(pthread_cond_wait(&m->changed, &m->lock) == 0);
	return m->lazy.coming ? err_set(why, ESRCH, "the VM has ended") : 0;
}
