/* SPDX-License-Identifier: Apache-2.0 */
/* Theory in vm.h.  The drain thread owns the read ends of the pipes; `lock` guards the rings. */
#include "supervisor/lifecycle/vm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/ring.h"
#include "supervisor/lifecycle/vm_parts.h"

#define DRAIN_CHUNK 4096

struct life_vm {
	int pid, pidfd; /* const after start; pid is reaped when `reaped` */
	int ready_fd, socket_fd, timings_fd, stop_fd;
	int console_fd, messages_fd, console_copy_fd; /* drain thread */
	char socket_path[48];
	int home_fd; /* borrowed; -1: none */
	bool kept;   /* somebody else's, or meant to live on */
	bool reaped;
	int status;
	bool drains;
	pthread_t drain;
	pthread_mutex_t lock;
	struct life_ring console, messages; /* lock */
	char console_buf[LIFE_CONSOLE_MAX], messages_buf[LIFE_MESSAGES_MAX];
};

/* --- the drain thread --------------------------------------------------------------------------- */

/* Return: false at end of file. */
static bool drain_one(struct life_vm *vm, int fd, struct life_ring *ring, int copy_fd)
{
	char chunk[DRAIN_CHUNK];
	ssize_t n = read(fd, chunk, sizeof(chunk));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	cleanup_unlock pthread_mutex_t *held = hold(&vm->lock);
	life_ring_put(ring, chunk, (size_t)n);
	if (copy_fd >= 0 && n && write(copy_fd, chunk, (size_t)n) < 0)
		return true; /* a copy for curious eyes: lost bytes do not matter */
	return n > 0;
}

static void *drain_main(void *arg)
{
	struct life_vm *vm = arg;
	struct pollfd at[] = {{.fd = vm->console_fd, .events = POLLIN},
			      {.fd = vm->messages_fd, .events = POLLIN},
			      {.fd = vm->stop_fd, .events = POLLIN}};

	while (at[0].fd >= 0 || at[1].fd >= 0) {
		if (poll(at, ARRAY_LEN(at), -1) < 0)
			continue;
		if (at[0].revents && !drain_one(vm, at[0].fd, &vm->console, vm->console_copy_fd))
			at[0].fd = -1;
		if (at[1].revents && !drain_one(vm, at[1].fd, &vm->messages, -1))
			at[1].fd = -1;
		if (at[2].revents && !at[0].revents && !at[1].revents)
			break; /* somebody else holds the write ends: what there was is read */
	}
	return NULL;
}

/* --- start -------------------------------------------------------------------------------------- */

static int make_pipe(int *read_end, int *write_end, struct errmsg *why)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return err_set(why, errno, "pipe");
	*read_end = fds[0];
	*write_end = fds[1];
	return fcntl(fds[0], F_SETFL, O_NONBLOCK) ? err_set(why, errno, "pipe") : 0;
}

/* A part, or the error of making it; `*err` keeps the first one. */
static int part(int made, int *err)
{
	if (made < 0 && !*err)
		*err = made;
	return made < 0 ? -1 : made;
}

/* Of a VMM that ends with us: nothing has a name, and we read what it says. */
static int nameless_parts(struct life_vm *vm, struct life_parts *parts,
			  const struct life_config *cfg, struct errmsg *why)
{
	int err = 0;

	if (cfg->image)
		parts->fd[LIFE_FD_OVERLAY] = part(life_overlay_fd(why), &err);
	if (!err)
		parts->fd[LIFE_FD_LISTEN] = part(life_listen_fd(&vm->socket_fd, why), &err);
	if (!err)
		err = make_pipe(&vm->console_fd, &parts->console_write, why);
	if (!err)
		err = make_pipe(&vm->messages_fd, &parts->messages_write, why);
	snprintf(vm->socket_path, sizeof(vm->socket_path), "/proc/self/fd/%d", vm->socket_fd);
	return err;
}

/* Fills what belongs to the VMM (parts) and what stays here (vm).  Return: 0 or -errno. */
static int make_parts(struct life_vm *vm, struct life_parts *parts, const struct life_config *cfg,
		      struct errmsg *why)
{
	int err = 0;

	parts->fd[LIFE_FD_CONFIG] = part(life_config_fd(cfg, why), &err);
	if (!err && cfg->image && !cfg->empty)
		parts->fd[LIFE_FD_IMAGE] = part(life_image_fd(cfg->image, why), &err);
	if (!err)
		err = cfg->home ? home_parts(parts, cfg->home->fd, cfg, why)
				: nameless_parts(vm, parts, cfg, why);
	if (err)
		return err;
	if (cfg->home)
		home_socket(cfg->home->fd, vm->socket_path);
	vm->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->timings_fd = memfd_create("spore-timings", MFD_CLOEXEC);
	if (vm->ready_fd < 0 || vm->stop_fd < 0 || vm->timings_fd < 0)
		return err_set(why, errno, "eventfd, memfd");
	parts->fd[LIFE_FD_READY] = vm->ready_fd;
	parts->fd[LIFE_FD_TIMINGS] = vm->timings_fd;
	if (cfg->net.fd > 0)
		parts->fd[LIFE_FD_NET] = cfg->net.fd;
	return 0;
}

static void close_parts(struct life_parts *parts)
{
	parts->fd[LIFE_FD_READY] = parts->fd[LIFE_FD_TIMINGS] = -1; /* the VM's own */
	parts->fd[LIFE_FD_NET] = -1;                                /* the caller's */
	for (int i = LIFE_FD_CONFIG; i < LIFE_FD_END; i++)
		cleanup_close_fn(&parts->fd[i]);
	cleanup_close_fn(&parts->console_write);
	cleanup_close_fn(&parts->messages_write);
}

static struct life_vm *vm_alloc(void)
{
	struct life_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->pid = vm->pidfd = vm->ready_fd = vm->socket_fd = vm->timings_fd = vm->stop_fd = -1;
	vm->console_fd = vm->messages_fd = vm->console_copy_fd = vm->home_fd = -1;
	vm->console = (struct life_ring){.buf = vm->console_buf, .cap = LIFE_CONSOLE_MAX};
	vm->messages = (struct life_ring){.buf = vm->messages_buf, .cap = LIFE_MESSAGES_MAX};
	VERIFY(pthread_mutex_init(&vm->lock, NULL) == 0);
	return vm;
}

/* Signals belong to the threads that ask for them. */
static int start_drain(struct life_vm *vm, struct errmsg *why)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&vm->drain, NULL, drain_main, vm);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	vm->drains = !err;
	return err ? err_set(why, err, "thread") : 0;
}

int life_vm_start(struct life_vm **out, const struct life_config *cfg, struct errmsg *why)
{
	struct life_parts parts = {.console_write = -1, .messages_write = -1};
	struct life_vm *vm = vm_alloc();

	if (!vm)
		return err_set(why, ENOMEM, "VM");
	for (int i = 0; i < LIFE_FD_END; i++)
		parts.fd[i] = -1;
	vm->console_copy_fd = cfg->console_copy_fd;
	vm->home_fd = cfg->home ? cfg->home->fd : -1;
	int err = make_parts(vm, &parts, cfg, why);
	if (!err)
		err = life_spawn(cfg, &parts, &vm->pid, &vm->pidfd, why);
	close_parts(&parts);
	if (!err && !cfg->home)
		err = start_drain(vm, why);
	if (err) {
		life_vm_destroy(vm);
		return err;
	}
	*out = vm;
	return 0;
}

int life_vm_attach(struct life_vm **out, int home_fd, struct errmsg *why)
{
	cleanup_close int pidfd = home_vmm(home_fd, NULL, why);

	if (pidfd < 0)
		return pidfd;
	struct life_vm *vm = vm_alloc();
	if (!vm)
		return err_set(why, ENOMEM, "VM");
	vm->pidfd = steal_fd(&pidfd);
	vm->home_fd = home_fd;
	vm->kept = vm->reaped = true;
	home_socket(home_fd, vm->socket_path);
	*out = vm;
	return 0;
}

void life_vm_keep(struct life_vm *vm)
{
	assert(vm->home_fd >= 0);
	vm->kept = true;
}

/* --- watch and end ------------------------------------------------------------------------------ */

int life_vm_wait(struct life_vm *vm, int timeout_ms)
{
	struct pollfd at[] = {{.fd = vm->ready_fd, .events = POLLIN},
			      {.fd = vm->pidfd, .events = POLLIN}};

	int n = poll(at, ARRAY_LEN(at), timeout_ms);
	if (n < 0)
		return errno == EINTR ? LIFE_TIME : -errno;
	if (at[1].revents)
		return LIFE_ENDED;
	return at[0].revents ? LIFE_READY : LIFE_TIME;
}

int life_vm_exit_fd(const struct life_vm *vm)
{
	return vm->pidfd;
}

const char *life_vm_socket(const struct life_vm *vm)
{
	return vm->socket_path;
}

/* By pidfd: a number that has been reaped can never mean another process. */
static void send_signal(struct life_vm *vm, int sig)
{
	syscall(SYS_pidfd_send_signal, vm->pidfd, sig, NULL, 0);
}

void life_vm_kill(struct life_vm *vm)
{
	send_signal(vm, SIGKILL);
}

static void reap(struct life_vm *vm)
{
	while (!vm->reaped && waitpid(vm->pid, &vm->status, 0) < 0 && errno == EINTR)
		;
	vm->reaped = true;
}

void life_vm_stop(struct life_vm *vm, int grace_ms)
{
	struct pollfd at = {.fd = vm->pidfd, .events = POLLIN};

	if (vm->reaped)
		return;
	if (grace_ms > 0) {
		send_signal(vm, SIGTERM);
		poll(&at, 1, grace_ms);
	}
	if (!at.revents)
		send_signal(vm, SIGKILL);
	reap(vm);
}

/* The pipes' last bytes are in the rings when it returns. */
static void end_drain(struct life_vm *vm)
{
	const uint64_t one = 1;

	if (!vm->drains)
		return;
	VERIFY(write(vm->stop_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	pthread_join(vm->drain, NULL);
	vm->drains = false;
}

void life_vm_ending(struct life_vm *vm, char *text, size_t cap)
{
	reap(vm);
	end_drain(vm);
	if (WIFSIGNALED(vm->status))
		snprintf(text, cap, "killed by signal %d", WTERMSIG(vm->status));
	else
		snprintf(text, cap, "exit status %d", WEXITSTATUS(vm->status));
}

void life_vm_console(struct life_vm *vm, char *text, size_t cap)
{
	if (vm->home_fd >= 0) {
		home_console(vm->home_fd, LIFE_TAIL_LINES, text, cap);
		return;
	}
	cleanup_unlock pthread_mutex_t *held = hold(&vm->lock);
	life_ring_tail(&vm->console, LIFE_TAIL_LINES, text, cap);
}

void life_vm_messages(struct life_vm *vm, char *text, size_t cap)
{
	if (vm->home_fd >= 0) {
		home_messages(vm->home_fd, LIFE_TAIL_LINES, text, cap);
		return;
	}
	cleanup_unlock pthread_mutex_t *held = hold(&vm->lock);
	life_ring_tail(&vm->messages, LIFE_TAIL_LINES, text, cap);
}

void life_vm_timings(struct life_vm *vm, char *text, size_t cap)
{
	ssize_t n = pread(vm->timings_fd, text, cap - 1, 0);

	assert(cap > 0);
	text[n > 0 ? n : 0] = '\0';
}

void life_vm_destroy(struct life_vm *vm)
{
	if (!vm)
		return;
	if (vm->pid > 0 && !vm->kept)
		life_vm_stop(vm, 0);
	end_drain(vm);
	cleanup_close_fn(&vm->pidfd);
	cleanup_close_fn(&vm->ready_fd);
	cleanup_close_fn(&vm->socket_fd);
	cleanup_close_fn(&vm->timings_fd);
	cleanup_close_fn(&vm->stop_fd);
	cleanup_close_fn(&vm->console_fd);
	cleanup_close_fn(&vm->messages_fd);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}
