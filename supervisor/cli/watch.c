/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/target.h"
#include "supervisor/lifecycle/home.h"

#define SELF     "/proc/self/exe"
#define STEP_MS  60000 /* the clock may be set, and the machine may sleep */
#define AGAIN_MS 5000  /* between two tries of a pause that failed */

extern char **environ;

/*
 * spore VERB SANDBOX as a child that holds nothing of ours but what it says, which goes to the VMM's own messages.
 * Return: 0 or -errno.
 */
static int spawn_apart(const char *verb, const struct box *box, const struct state *st, pid_t *pid)
{
	const char *const argv[] = {"spore", verb, "--state-dir", st->path, box->meta.id, NULL};
	cleanup_close int messages =
		openat(box->fd, HOME_MESSAGES, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, messages >= 0 ? messages : STDIN_FILENO,
					 STDERR_FILENO);
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	int err = posix_spawn(pid, SELF, &files, &attr, (char *const *)(uintptr_t)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -err;
}

void watch_start(const struct box *box, const struct state *st)
{
	pid_t pid;

	if (!box->meta.timeout_ms || box->meta.on_timeout != BOX_TIMEOUT_PAUSE)
		return;
	int err = spawn_apart("watch", box, st, &pid);
	if (err)
		cli_fail("watch", "sandbox %s will not be paused when its time is over: %s",
			 box->meta.id, strerror(-err));
}

/* --- the process ---------------------------------------------------------------------------------- */

static void pause_now(const struct target *t)
{
	pid_t pid;

	if (!spawn_apart("pause", &t->box, &t->st, &pid))
		waitpid(pid, NULL, 0);
}

/* Until its time is over: how long to sleep, at most. */
static int wait_ms(const struct target *t)
{
	int64_t left = t->box.meta.deadline_s - time(NULL);

	return left <= 0 ? 0 : left < STEP_MS / 1000 ? (int)left * 1000 : STEP_MS;
}

int cmd_watch(void *config, int argc, char **argv)
{
	const struct box_args *args = config;
	struct target t;
	struct pollfd vmm = {.fd = -1, .events = POLLIN};
	int status = target_open(&t, "watch", args->state_dir, argv[0]);

	(void)argc;
	if (status == TARGET_OK)
		vmm.fd = home_vmm(t.box.fd, NULL, NULL);
	while (vmm.fd >= 0 && t.box.meta.deadline_s) {
		int ms = wait_ms(&t);
		if (!ms)
			pause_now(&t);
		if (poll(&vmm, 1, ms ? ms : AGAIN_MS) > 0)
			break;
	}
	cleanup_close_fn(&vmm.fd);
	target_close(&t);
	return status == TARGET_OK ? CLI_OK : status;
}
