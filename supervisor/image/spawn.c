/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/image/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NOT_FOUND 127

_Noreturn static void child(const char *const argv[], int out, pid_t parent)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent || null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0)
		_exit(1);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(errno == ENOENT ? NOT_FOUND : 126);
}

static int wait_for(pid_t pid, const char *name, struct errmsg *why)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(why, errno, "wait for %s", name);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND)
		return err_set(why, 0, "%s: not found", name), -ENOENT;
	if (WIFEXITED(status))
		err_set(why, 0, "%s: exit status %d", name, WEXITSTATUS(status));
	else
		err_set(why, 0, "%s: killed by signal %d", name, WTERMSIG(status));
	return -ECHILD;
}

int image_spawn(const char *const argv[], struct errmsg *why)
{
	pid_t self = getpid(), pid = fork();

	if (!pid)
		child(argv, 2, self);
	return pid < 0 ? err_set(why, errno, "fork") : wait_for(pid, argv[0], why);
}

/* Keeps the line that ends last; longer ones are cut. */
static void read_last_line(int fd, char *line, size_t cap)
{
	char chunk[512];
	size_t len = 0;
	int ended = 0;
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (ended)
				len = 0;
			ended = chunk[i] == '\n';
			if (!ended && len + 1 < cap)
				line[len++] = chunk[i];
		}
	line[len] = '\0';
}

int image_spawn_line(const char *const argv[], char *line, size_t cap, struct errmsg *why)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return err_set(why, errno, "pipe");
	pid_t self = getpid(), pid = fork();
	if (!pid)
		child(argv, fds[1], self);
	close(fds[1]);
	if (pid > 0)
		read_last_line(fds[0], line, cap);
	close(fds[0]);
	return pid < 0 ? err_set(why, errno, "fork") : wait_for(pid, argv[0], why);
}
