/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgrun: runs a command in a cgroup of its own and prints the processor time that it, and all
 * that it started, used until a text appeared in its output, or until it ended.
 *
 * Made for tests/lab/icount, where one nanosecond of processor time is one instruction.
 * Elapsed time is not repeatable there: with -icount sleep=off an idle machine jumps to its next
 * timer, so that waiting costs nothing or much by chance.  Processor time counts only what ran.
 * A cgroup's cpu.stat keeps threads that ended and children, which a sum over
 * /proc/PID/task would lose; every peer is measured by this one method.
 * cgrun runs with real-time priority: on the lab's one CPU it reads the clock at the very write
 * that brought the text, before the command goes on.  The resolution is 1 us (1000 instructions).
 * Output is held back until the reading is done, so that passing it on costs the command nothing.
 *
 * Thread: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <regex.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELD_BYTES_MAX (4u << 20) /* of each stream; more is passed on at once */

struct stream {
	int from, to;
	char *text;
	size_t len, line; /* line: where the last, still open line starts */
};

struct measure {
	char cgroup[64];
	regex_t until;
	bool has_until, matched, done;
	uint64_t run_time_us;
	pid_t pid;
	struct stream stream[2];
};

static void die(const char *what)
{
	fprintf(stderr, "icount: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void in_cgroup(const struct measure *m, const char *file, char path[128])
{
	snprintf(path, 128, "%s/%s", m->cgroup, file);
}

static void write_text(const struct measure *m, const char *file, const char *text)
{
	char path[128];

	in_cgroup(m, file, path);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static uint64_t read_usage_us(const struct measure *m)
{
	char path[128], text[1024] = "";

	in_cgroup(m, "cpu.stat", path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		die(path);
	close(fd);
	const char *at = strstr(text, "usage_usec ");
	if (!at)
		die("no usage_usec in cpu.stat");
	return strtoull(at + strlen("usage_usec "), NULL, 10);
}

static void start(struct measure *m, char **argv)
{
	int out[2], err[2];
	struct sched_param top = {.sched_priority = 1};

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		die("pipe");
	m->pid = fork();
	if (m->pid < 0)
		die("fork");
	if (!m->pid) {
		write_text(m, "cgroup.procs", "0");
		dup2(out[1], 1);
		dup2(err[1], 2);
		execvp(argv[0], argv);
		int code = errno == ENOENT ? 127 : 126;
		die(argv[0]);
		_exit(code);
	}
	close(out[1]);
	close(err[1]);
	m->stream[0] = (struct stream){.from = out[0], .to = 1, .text = malloc(HELD_BYTES_MAX + 1)};
	m->stream[1] = (struct stream){.from = err[0], .to = 2, .text = malloc(HELD_BYTES_MAX + 1)};
	if (!m->stream[0].text || !m->stream[1].text)
		die("memory");
	if (sched_setscheduler(0, SCHED_FIFO, &top) < 0)
		die("real-time priority");
}

static void flush(struct stream *s)
{
	for (size_t at = 0; at < s->len;) {
		ssize_t n = write(s->to, s->text + at, s->len - at);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	s->len = s->line = 0;
}

/* Look at the lines that are complete, and at the open one. */
static bool matches(struct measure *m, struct stream *s)
{
	s->text[s->len] = 0;
	while (s->line < s->len) {
		char *end = memchr(s->text + s->line, '\n', s->len - s->line);

		if (end)
			*end = 0;
		bool found = regexec(&m->until, s->text + s->line, 0, NULL, 0) == 0;
		if (end)
			*end = '\n';
		if (found)
			return true;
		if (!end)
			return false;
		s->line = (size_t)(end + 1 - s->text);
	}
	return false;
}

static void on_output(struct measure *m, struct stream *s)
{
	ssize_t n = read(s->from, s->text + s->len, HELD_BYTES_MAX - s->len);

	if (n <= 0) {
		close(s->from);
		s->from = -1;
		return;
	}
	s->len += (size_t)n;
	if (m->has_until && !m->done && matches(m, s)) {
		m->run_time_us = read_usage_us(m);
		m->matched = m->done = true;
	}
	if (m->done || s->len == HELD_BYTES_MAX)
		flush(s);
}

/* Until both streams are closed, or the text has come.  Return: the command's exit status. */
static int measure(struct measure *m)
{
	int st;

	while (!m->done && (m->stream[0].from >= 0 || m->stream[1].from >= 0)) {
		struct pollfd p[2] = {{.fd = m->stream[0].from, .events = POLLIN},
				      {.fd = m->stream[1].from, .events = POLLIN}};

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			die("poll");
		for (int i = 0; i < 2; i++)
			if (p[i].revents)
				on_output(m, &m->stream[i]);
	}
	if (m->matched)
		write_text(m, "cgroup.kill", "1");
	if (waitpid(m->pid, &st, 0) < 0)
		die("wait");
	if (!m->matched)
		m->run_time_us = read_usage_us(m);
	write_text(m, "cgroup.kill", "1");
	flush(&m->stream[0]);
	flush(&m->stream[1]);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static void report(const struct measure *m, const char *file, int status)
{
	int fd = file ? open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : dup(2);

	if (fd < 0)
		die(file ? file : "stderr");
	dprintf(fd, "{\"run_time_ns\": %llu, \"matched\": %s, \"exit\": %d}\n",
		(unsigned long long)m->run_time_us * 1000, m->matched ? "true" : "false", status);
	close(fd);
}

static int usage(void)
{
	fprintf(stderr, "usage: cgrun [--until REGEX] [--json FILE] -- CMD...\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"until", 1, NULL, 'u'}, {"json", 1, NULL, 'j'}, {0}};
	struct measure m = {0};
	const char *file = NULL;

	for (int c; (c = getopt_long(argc, argv, "+", longs, NULL)) != -1;) {
		if (c == 'u' && regcomp(&m.until, optarg, REG_EXTENDED | REG_NOSUB) == 0)
			m.has_until = true;
		else if (c == 'j')
			file = optarg;
		else
			return usage();
	}
	if (!argv[optind])
		return usage();
	snprintf(m.cgroup, sizeof(m.cgroup), "/sys/fs/cgroup/icount.%d", (int)getpid());
	if (mkdir(m.cgroup, 0755) < 0)
		die(m.cgroup);
	start(&m, argv + optind);
	int status = measure(&m);
	for (int i = 0; rmdir(m.cgroup) < 0 && errno == EBUSY && i < 100; i++)
		usleep(10000);
	report(&m, file, status);
	if (m.has_until)
		return m.matched ? 0 : 1;
	return status;
}
