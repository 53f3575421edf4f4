/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/term.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

static volatile sig_atomic_t raw_fd = -1; /* -1: not in raw mode */
static struct termios saved;              /* const while raw_fd >= 0 */

void term_restore(void)
{
	int fd = raw_fd;

	raw_fd = -1;
	if (fd >= 0)
		tcsetattr(fd, TCSADRAIN, &saved);
}

static void die_restored(int sig)
{
	term_restore();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void restore_on_every_path(void)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGSYS};
	static int done;

	if (done)
		return;
	done = 1;
	atexit(term_restore);
	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		signal(fatal[i], die_restored);
}

int term_raw(int fd)
{
	struct termios raw;

	if (tcgetattr(fd, &saved))
		return -errno;
	restore_on_every_path();
	raw = saved;
	cfmakeraw(&raw);
	raw_fd = fd; /* first: a signal in between restores what is in force */
	if (tcsetattr(fd, TCSADRAIN, &raw)) {
		raw_fd = -1;
		return -errno;
	}
	return 0;
}

struct term_size term_size(int fd)
{
	struct winsize ws;

	if (ioctl(fd, TIOCGWINSZ, &ws) || !ws.ws_row || !ws.ws_col)
		return (struct term_size){.rows = 24, .cols = 80};
	return (struct term_size){.rows = ws.ws_row, .cols = ws.ws_col};
}

struct progress progress_begin(const char *what)
{
	return (struct progress){.what = what, .begin_ns = clock_now()};
}

/* Once a second.  Return: the line was begun. */
static bool show(struct progress *progress)
{
	uint64_t seconds = (clock_now() - progress->begin_ns) / NS_PER_SEC;

	if (seconds == progress->shown_s || !isatty(STDERR_FILENO))
		return false;
	progress->shown_s = seconds;
	fprintf(stderr, "\r\033[Kspore: %s, %llu s", progress->what, (unsigned long long)seconds);
	return true;
}

void progress_tick(struct progress *progress, uint64_t bytes)
{
	if (show(progress) && bytes)
		fprintf(stderr, ", %llu MiB", (unsigned long long)(bytes >> 20));
}

void progress_count(struct progress *progress, uint32_t done, uint32_t of)
{
	if (show(progress) && of)
		fprintf(stderr, ", %u of %u", done, of);
}

void progress_end(struct progress *progress)
{
	if (progress->shown_s)
		fputs("\r\033[K", stderr);
	progress->shown_s = 0;
}
