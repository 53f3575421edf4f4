/* SPDX-License-Identifier: Apache-2.0 */
/* spore logs: the end of a sandbox's console, and what comes after it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/conlog.h"
#include "supervisor/cli/cmd_sandbox.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/target.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/ring.h"

#define LINES_DEFAULT 100
#define LINES_MAX     1000000
#define TEXT_MAX      (4 * HOME_CONSOLE_CAP + 1) /* every byte escaped */

/* A console as it was read: `len` bytes, the last of them number `end` - 1 of all. */
struct piece {
	char *buf;
	size_t len;
	uint64_t end;
};

static int read_piece(int fd, struct piece *p, struct errmsg *why)
{
	int64_t n = conlog_read(fd, p->buf, HOME_CONSOLE_CAP, &p->end, why);

	p->len = n > 0 ? (size_t)n : 0;
	return n < 0 ? (int)n : 0;
}

/* What a guest writes must not reach a terminal as it is, unless it is asked for. */
static void show(const struct box_args *args, const char *buf, size_t len, unsigned lines)
{
	const struct life_ring ring = {
		.buf = (char *)(uintptr_t)buf, .cap = len ? len : 1, .total = len};
	cleanup_free char *text = malloc(TEXT_MAX);

	if (args->raw) {
		fwrite(buf, 1, len, stdout);
	} else if (text) {
		life_ring_tail(&ring, lines, text, TEXT_MAX);
		fputs(text, stdout);
	}
	fflush(stdout);
}

/* Waits for a change of the file, or the VMM's end. */
static int wait_change(int watch, int vmm)
{
	struct pollfd at[] = {{.fd = watch, .events = POLLIN}, {.fd = vmm, .events = POLLIN}};
	char events[1024];

	if (poll(at, ARRAY_LEN(at), -1) < 0)
		return errno == EINTR ? 0 : -errno;
	if (at[0].revents && read(watch, events, sizeof(events)) < 0)
		return errno == EAGAIN ? 0 : -errno;
	return at[1].revents ? 1 : 0;
}

/* Shows what is new until the VMM has ended. */
static int follow(struct target *t, const struct box_args *args, int fd, struct piece *p)
{
	cleanup_close int vmm = home_vmm(t->box.fd, NULL, NULL);
	cleanup_close int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[64];
	uint64_t shown = p->end;
	int over = vmm < 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY) < 0)
		return -errno;
	for (;;) {
		int err = read_piece(fd, p, NULL);
		uint64_t fresh = p->end - shown < p->len ? p->end - shown : p->len;
		if (err < 0)
			return err;
		show(args, p->buf + p->len - fresh, (size_t)fresh, LINES_MAX);
		shown = p->end;
		if (over || ferror(stdout))
			return 0;
		over = wait_change(watch, vmm);
		if (over < 0)
			return over;
	}
}

static int show_console(struct target *t, const struct box_args *args)
{
	cleanup_close int fd =
		openat(t->box.fd, HOME_CONSOLE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_free char *buf = malloc(HOME_CONSOLE_CAP);
	struct piece p = {.buf = buf};
	struct errmsg why;
	unsigned lines = args->lines ? (unsigned)args->lines : LINES_DEFAULT;

	if (fd < 0 || !buf)
		return cli_fail("logs", "sandbox %s has no console log", t->box.meta.id);
	if (read_piece(fd, &p, &why))
		return cli_fail("logs", "sandbox %s: %s", t->box.meta.id, why.text);
	show(args, p.buf, p.len, lines);
	int err = args->follow ? follow(t, args, fd, &p) : 0;
	if (!err)
		return CLI_OK;
	err_set(&why, err, "sandbox %s: console log", t->box.meta.id);
	return cli_fail("logs", "%s", why.text);
}

static void show_messages(const struct target *t, const struct box_args *args)
{
	char text[4 * LIFE_MESSAGES_MAX + 1];

	home_messages(t->box.fd, args->lines ? (unsigned)args->lines : LINES_DEFAULT, text,
		      sizeof(text));
	fputs(text, stdout);
}

int cmd_logs(void *config, int argc, char **argv)
{
	const struct box_args *args = config;
	struct target t;
	int status = target_open(&t, "logs", args->state_dir, argv[0]);

	(void)argc;
	if (status == TARGET_OK && args->vmm) {
		show_messages(&t, args);
		status = CLI_OK;
	} else if (status == TARGET_OK) {
		status = show_console(&t, args);
	}
	target_close(&t);
	return status;
}
