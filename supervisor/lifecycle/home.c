/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/home.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/conlog.h"
#include "supervisor/lifecycle/ring.h"
#include "supervisor/lifecycle/lock.h"

#define KILL_WAIT_MS 10000 /* a process in an uninterruptible wait */
#define PID_WAIT_MS  1000  /* between its lock and its number: a few system calls */
#define PID_TEXT_MAX 16

/* --- what a VMM is given -------------------------------------------------------------------------- */

static int make_file(int home_fd, const char *name, int flags, struct errmsg *why)
{
	int fd = openat(home_fd, name, flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(why, errno, "%s", name) : fd;
}

static int open_console(int home_fd, struct errmsg *why)
{
	cleanup_close int fd = make_file(home_fd, HOME_CONSOLE, O_RDWR, why);
	uint32_t cap;
	uint64_t total;

	if (fd < 0)
		return fd;
	if (!conlog_open(fd, &cap, &total, NULL))
		return steal_fd(&fd); /* goes on where the one before left off */
	if (ftruncate(fd, 0))
		return err_set(why, errno, HOME_CONSOLE);
	int err = conlog_format(fd, HOME_CONSOLE_CAP, why);
	return err ? err : steal_fd(&fd);
}

/* Through /proc: the folder's own path may be longer than an address holds. */
void home_socket(int home_fd, char out[static 48])
{
	snprintf(out, 48, "/proc/self/fd/%d/" HOME_SOCKET, home_fd);
}

void home_ctl(int home_fd, char out[static 48])
{
	snprintf(out, 48, "/proc/self/fd/%d/" HOME_CTL, home_fd);
}

/* @type: SOCK_* */
static int open_socket(int home_fd, const char *name, int type, struct errmsg *why)
{
	cleanup_close int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (fd < 0)
		return err_set(why, errno, "%s", name);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", home_fd, name);
	unlinkat(home_fd, name, 0);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, LIFE_BACKLOG) ||
	    fchmodat(home_fd, name, 0600, 0))
		return err_set(why, errno, "%s", name);
	return steal_fd(&fd);
}

static int open_lock(int home_fd, struct errmsg *why)
{
	cleanup_close int fd = make_file(home_fd, HOME_VMM, O_RDWR, why);

	if (fd < 0)
		return fd;
	int err = lock_take(fd);
	if (err)
		return err_set(why, err, "its VMM");
	return ftruncate(fd, 0) ? err_set(why, errno, HOME_VMM) : steal_fd(&fd);
}

int home_parts(struct life_parts *parts, int home_fd, const struct life_config *cfg,
	       struct errmsg *why)
{
	int err;

	parts->fd[LIFE_FD_ALIVE] = err = open_lock(home_fd, why);
	if (err >= 0 && cfg->image && !cfg->empty)
		parts->fd[LIFE_FD_OVERLAY] = err = make_file(home_fd, HOME_LAYER, O_RDWR, why);
	if (err >= 0)
		parts->fd[LIFE_FD_LISTEN] = err =
			open_socket(home_fd, HOME_SOCKET, SOCK_STREAM, why);
	if (err >= 0)
		parts->fd[LIFE_FD_CTL] = err = open_socket(home_fd, HOME_CTL, SOCK_SEQPACKET, why);
	if (err >= 0)
		parts->fd[LIFE_FD_CONSOLE] = err = open_console(home_fd, why);
	if (err >= 0)
		parts->messages_write = err =
			make_file(home_fd, HOME_MESSAGES, O_WRONLY | O_APPEND | O_TRUNC, why);
	return err < 0 ? err : 0;
}

/* --- who lives there ------------------------------------------------------------------------------ */

/* 0 while the process that has the lock has not written its number yet. */
static int read_pid(int fd)
{
	char text[PID_TEXT_MAX + 1];
	char *end;
	ssize_t n = pread(fd, text, PID_TEXT_MAX, 0);

	if (n <= 1 || text[n - 1] != '\n')
		return 0;
	text[n] = '\0';
	long pid = strtol(text, &end, 10);
	return *end == '\n' && pid > 1 && pid <= INT32_MAX ? (int)pid : 0;
}

static int wait_for_pid(int fd)
{
	int pid = read_pid(fd);

	for (int waited = 0; !pid && waited < PID_WAIT_MS && lock_is_held(fd); waited += 10) {
		poll(NULL, 0, 10);
		pid = read_pid(fd);
	}
	return pid;
}

int home_vmm(int home_fd, int *pid, struct errmsg *why)
{
	cleanup_close int fd = openat(home_fd, HOME_VMM, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : err_set(why, errno, HOME_VMM);
	if (!lock_is_held(fd))
		return -ESRCH;
	int number = wait_for_pid(fd);
	cleanup_close int pidfd = number ? (int)syscall(SYS_pidfd_open, number, 0) : -1;
	/* Held still: the process lived when its pidfd was made, so the number was its own. */
	if (!lock_is_held(fd))
		return -ESRCH;
	if (pidfd < 0)
		return err_set(why, number ? errno : EBADMSG, HOME_VMM);
	if (pid)
		*pid = number;
	return steal_fd(&pidfd);
}

int home_kill(int home_fd, struct errmsg *why)
{
	cleanup_close int pidfd = home_vmm(home_fd, NULL, why);
	struct pollfd at = {.fd = pidfd, .events = POLLIN};
	int n;

	if (pidfd < 0)
		return pidfd == -ESRCH ? 0 : pidfd;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	do
		n = poll(&at, 1, KILL_WAIT_MS);
	while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : err_set(why, n ? errno : ETIMEDOUT, "its VMM does not end");
}

/* --- what it said --------------------------------------------------------------------------------- */

/* The end of a plain file.  Return: bytes. */
static size_t read_end(int fd, char *buf, size_t cap)
{
	off_t size = lseek(fd, 0, SEEK_END);
	off_t at = size > (off_t)cap ? size - (off_t)cap : 0;
	ssize_t n = pread(fd, buf, cap, at);

	return n > 0 ? (size_t)n : 0;
}

static void show_tail(char *buf, size_t len, unsigned lines, char *text, size_t cap)
{
	const struct life_ring ring = {.buf = buf, .cap = len ? len : 1, .total = len};

	life_ring_tail(&ring, lines, text, cap);
}

void home_console(int home_fd, unsigned lines, char *text, size_t cap)
{
	cleanup_close int fd = openat(home_fd, HOME_CONSOLE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_free char *buf = malloc(HOME_CONSOLE_CAP);
	uint64_t end;
	int64_t n = fd >= 0 && buf ? conlog_read(fd, buf, HOME_CONSOLE_CAP, &end, NULL) : 0;

	show_tail(buf, n > 0 ? (size_t)n : 0, lines, text, cap);
}

void home_messages(int home_fd, unsigned lines, char *text, size_t cap)
{
	cleanup_close int fd = openat(home_fd, HOME_MESSAGES, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_free char *buf = malloc(LIFE_MESSAGES_MAX);

	show_tail(buf, fd >= 0 && buf ? read_end(fd, buf, LIFE_MESSAGES_MAX) : 0, lines, text, cap);
}
