/* SPDX-License-Identifier: Apache-2.0 */
/*
 * labkeep: keeps one lab's QEMU, and ends it.
 *
 * QEMU is its child and dies with it (PR_SET_PDEATHSIG).  labkeep ends QEMU on SIGTERM (that is
 * tests/lab/down), when no labc has held the lab's "use" lock for the idle time, and when the
 * lab's folder is gone (make clean).  It holds an exclusive lock on "alive" for its whole life:
 * who finds that lock free knows that nothing runs, whatever the pid file says.
 *
 * Thread: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 2000

static void die(const char *what)
{
	fprintf(stderr, "labkeep: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int signals_as_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGHUP, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static pid_t start_qemu(char **argv)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	execvp(argv[0], argv);
	die(argv[0]);
	return -1;
}

static void put_number(const char *path, long number)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || dprintf(fd, "%ld\n", number) < 0)
		die(path);
	close(fd);
}

/* Nobody holds "use", and its time stamp is older than the idle time. */
static bool is_idle(int use, time_t idle_s)
{
	struct stat st;

	if (flock(use, LOCK_EX | LOCK_NB) < 0) {
		futimens(use, NULL); /* in use now: the idle time starts when it ends */
		return false;
	}
	flock(use, LOCK_UN);
	return fstat(use, &st) == 0 && time(NULL) - st.st_mtime > idle_s;
}

/* The folder that we were started in still has its name. */
static bool folder_is_there(const char *path, ino_t ino)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_ino == ino;
}

static int open_here(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		die(name);
	return fd;
}

static const char *watch(pid_t qemu, int sigfd, const char *folder, ino_t ino, time_t idle_s)
{
	int use = open_here("use");

	for (;;) {
		struct pollfd p = {.fd = sigfd, .events = POLLIN};
		struct signalfd_siginfo info;

		if (poll(&p, 1, LOOK_MS) > 0 && read(sigfd, &info, sizeof(info)) > 0 &&
		    info.ssi_signo != SIGCHLD)
			return "stopped";
		if (waitpid(qemu, NULL, WNOHANG) == qemu)
			return "ended by itself";
		if (is_idle(use, idle_s))
			return "idle";
		if (!folder_is_there(folder, ino))
			return "folder gone";
	}
}

/* argv: the lab's folder, idle time in seconds, QEMU and its arguments. */
int main(int argc, char **argv)
{
	struct stat st;

	if (argc < 4)
		return 2;
	if (chdir(argv[1]) < 0 || stat(".", &st) < 0)
		die(argv[1]);
	int alive = open_here("alive");
	if (flock(alive, LOCK_EX | LOCK_NB) < 0)
		die("another keeper is alive");
	int use = open_here("use");
	futimens(use, NULL); /* one left by an earlier lab must not make this one idle at birth */
	close(use);
	int sigfd = signals_as_fd();
	put_number("pid", getpid());
	pid_t qemu = start_qemu(argv + 3);
	put_number("qemu.pid", qemu);
	const char *why = watch(qemu, sigfd, argv[1], st.st_ino, strtol(argv[2], NULL, 10));
	kill(qemu, SIGKILL);
	waitpid(qemu, NULL, 0);
	fprintf(stderr, "labkeep: %s\n", why);
	unlink("ready");
	unlink("pid");
	unlink("qemu.pid");
	return 0;
}
