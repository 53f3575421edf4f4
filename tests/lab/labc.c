/* SPDX-License-Identifier: Apache-2.0 */
/*
 * labc: the machine's end of tests/lab/run.  Sends one command to the lab and is its stand-in:
 * stdin, stdout, stderr, signals and exit status go through it.
 *
 * A connection that breaks before the exit status came means that the lab died, not the command:
 * that is a lab fault.  labc then runs the given "boot again" command once and repeats; it exits
 * with 70 when the lab dies a second time, or when stdin has been read and cannot be rewound.
 * While it lives it holds a shared lock on the lab's "use" file, by which the lab's keeper knows
 * that the lab is not idle; the kernel drops the lock however labc ends.
 *
 * Thread: one.
 */
#include "tests/lab/proto.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define EXIT_TIME_LIMIT 124
#define EXIT_LAB_FAULT  70
#define GRACE_MS        10000 /* from a signal, or the time limit, to the end of the command */
#define PIPE_WRITE      4096 /* PIPE_BUF: a pipe that polls writable takes this much without blocking */

enum result { RESULT_EXIT, RESULT_FAULT };

struct options {
	const char *state;  /* the lab's folder: port, token, use, console.log */
	const char *again;  /* shell command that boots the lab again; NULL: do not repeat */
	int64_t timeout_ms; /* 0: none */
	bool ping;
	char **argv;
};

struct session {
	const struct options *opt;
	int sock, sigfd;
	struct lab_buf in, out;
	bool stdin_open, stdin_sent, ack_due; /* ack_due: a STDIN frame is on its way */
	bool killed;                          /* KILL has been sent */
	int64_t deadline_ms, kill_at_ms;      /* 0: none */
	int exit_as;                          /* what to exit with once killed */
	int status;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void die(const char *what)
{
	fprintf(stderr, "lab: %s: %s\n", what, strerror(errno));
	exit(EXIT_LAB_FAULT);
}

static size_t read_small(const char *state, const char *name, char *text, size_t size)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", state, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return n > 0 ? (size_t)n : 0;
}

/* Connect and say HELLO.  Return: the socket, or -1 when the lab does not answer. */
static int dial(const char *state)
{
	char text[64];
	struct {
		struct lab_head head;
		char token[LAB_TOKEN_BYTES + 1];
	} m = {.head = {.type = LAB_HELLO, .len = LAB_TOKEN_BYTES}};
	struct lab_head ready = {0};
	struct timeval limit = {.tv_sec = 20};
	int one = 1;

	read_small(state, "port", text, sizeof(text));
	if (read_small(state, "token", m.token, sizeof(m.token)) != LAB_TOKEN_BYTES)
		return -1;
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)strtoul(text, NULL, 10)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		die("socket");
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(sock, (struct sockaddr *)&at, sizeof(at)) == 0 &&
	    send(sock, &m, sizeof(m.head) + LAB_TOKEN_BYTES, MSG_NOSIGNAL) > 0 &&
	    recv(sock, &ready, sizeof(ready), MSG_WAITALL) == (ssize_t)sizeof(ready) &&
	    ready.type == LAB_READY)
		return sock;
	close(sock);
	return -1;
}

/*
 * What the lab's own kernel said when it died, from its serial console: the first line that holds
 * one of these.  A guest inside the lab has another console, and cannot be mistaken for it.
 */
static void print_death(const char *state)
{
	static const char *const signs[] = {"Oops", "Kernel panic", "Fatal exception", "BUG: "};
	char path[4096], line[512], first[512] = "";

	snprintf(path, sizeof(path), "%s/console.log", state);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
			if (!first[0] && strstr(line, signs[i]))
				memcpy(first, line, sizeof(first));
	if (f)
		fclose(f);
	first[strcspn(first, "\r\n")] = 0;
	fprintf(stderr, "lab: lab fault: the lab died under the command: %s\n",
		first[0] ? first : "its kernel said nothing");
}

/* A lab that does not answer is of no use to anybody: have its keeper end it. */
static void end_lab(const char *state)
{
	char text[32];

	fprintf(stderr, "lab: lab fault: the lab does not answer; ending it\n");
	if (read_small(state, "pid", text, sizeof(text)))
		kill((pid_t)strtol(text, NULL, 10), SIGTERM);
}

/* --- START ------------------------------------------------------------------------------------- */

static bool env_passes(const char *entry)
{
	static const char *const names[] = {"TERM",  "COLORTERM", "LANG", "TZ",
					    "PATH",  "HOME",      "USER", "LOGNAME",
					    "SHELL", "CI",        "V",    "FIRECRACKER"};
	static const char *const prefixes[] = {"LC_", "XDG_CACHE_", "SPORE_", "LAB_", "PYTHON"};
	size_t len = strcspn(entry, "=");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == len && !strncmp(entry, names[i], len))
			return true;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (!strncmp(entry, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static void append(struct lab_buf *b, const char *text)
{
	size_t len = strlen(text) + 1;

	if (len > b->size - b->end) {
		errno = E2BIG;
		die("command");
	}
	memcpy(b->data + b->end, text, len);
	b->end += len;
}

static void queue_start(struct session *s)
{
	struct lab_head h = {.type = LAB_START};
	size_t at = s->out.end;
	char text[4096], count[24];
	size_t argc = 0;

	while (s->opt->argv[argc])
		argc++;
	if (!getcwd(text, sizeof(text)))
		die("current directory");
	snprintf(count, sizeof(count), "%zu", argc);
	s->out.end += sizeof(h);
	append(&s->out, text);
	append(&s->out, count);
	for (size_t i = 0; i < argc; i++)
		append(&s->out, s->opt->argv[i]);
	for (char **e = environ; *e; e++)
		if (env_passes(*e))
			append(&s->out, *e);
	h.len = (uint32_t)(s->out.end - at - sizeof(h));
	memcpy(s->out.data + at, &h, sizeof(h));
}

/* --- the session ------------------------------------------------------------------------------- */

static void queue_kill(struct session *s, int exit_as)
{
	if (s->killed)
		return;
	s->killed = true;
	s->exit_as = exit_as;
	s->kill_at_ms = 0;
	s->deadline_ms = now_ms() + GRACE_MS; /* for the lab to answer by closing */
	lab_buf_frame(&s->out, LAB_KILL, NULL, 0);
}

static void on_signal(struct session *s)
{
	struct signalfd_siginfo info;

	if (read(s->sigfd, &info, sizeof(info)) != (ssize_t)sizeof(info) || s->killed)
		return;
	lab_buf_frame(&s->out, LAB_SIGNAL, &info.ssi_signo, sizeof(info.ssi_signo));
	if (!s->kill_at_ms && info.ssi_signo != SIGWINCH)
		s->kill_at_ms = now_ms() + GRACE_MS;
	s->exit_as = 128 + (int)info.ssi_signo;
}

static void on_clock(struct session *s)
{
	int64_t now = now_ms();

	if (s->deadline_ms && now >= s->deadline_ms) {
		if (s->killed) {
			end_lab(s->opt->state);
			exit(s->exit_as);
		}
		fprintf(stderr, "lab: time limit of %lld s reached, command killed\n",
			(long long)(s->opt->timeout_ms / 1000));
		queue_kill(s, EXIT_TIME_LIMIT);
	}
	if (s->kill_at_ms && now >= s->kill_at_ms)
		queue_kill(s, s->exit_as);
}

static void on_stdin(struct session *s)
{
	uint8_t chunk[LAB_CHUNK];
	ssize_t n = read(0, chunk, sizeof(chunk));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	lab_buf_frame(&s->out, LAB_STDIN, chunk, n > 0 ? (uint32_t)n : 0);
	s->ack_due = n > 0;
	s->stdin_sent = s->stdin_sent || n > 0;
	s->stdin_open = n > 0;
}

/* Pass on what is at the front of s->in.  Return: false when a whole frame is not there yet. */
static bool pass_frame(struct session *s, enum result *result, bool *done)
{
	struct lab_head h;
	bool bad = false;
	uint8_t *payload = lab_buf_peek(&s->in, &h, &bad);

	if (bad)
		die("the lab's answer is malformed");
	if (!payload)
		return false;
	if (h.type == LAB_EXIT) {
		uint32_t code;

		memcpy(&code, payload, sizeof(code));
		s->status = (int)code;
		*result = RESULT_EXIT;
		*done = true;
	}
	if (h.type == LAB_ACK)
		s->ack_due = false;
	if (h.type != LAB_STDOUT && h.type != LAB_STDERR) {
		lab_buf_take(&s->in, &h);
		return true;
	}
	return false;
}

/* The fd that the frame at the front waits for, or -1. */
static int output_fd(const struct session *s)
{
	struct lab_head h;
	bool bad = false;

	if (!lab_buf_peek(&s->in, &h, &bad))
		return -1;
	return h.type == LAB_STDOUT ? 1 : 2;
}

/* Write a part of the data frame at the front; what is left becomes a shorter frame. */
static void write_part(struct session *s, int fd)
{
	struct lab_head h = {0};
	bool bad = false;
	uint8_t *payload = lab_buf_peek(&s->in, &h, &bad);
	size_t len = h.len < PIPE_WRITE ? h.len : PIPE_WRITE;
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		len = h.len;
	ssize_t n = write(fd, payload, len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) { /* nobody reads: end the command as SIGPIPE would end it here */
		queue_kill(s, 128 + SIGPIPE);
		n = h.len;
	}
	s->in.start += (size_t)n;
	h.len -= (uint32_t)n;
	memcpy(s->in.data + s->in.start, &h, sizeof(h));
	if (!h.len)
		lab_buf_take(&s->in, &h);
}

static int poll_ms(const struct session *s)
{
	int64_t at = s->deadline_ms;

	if (s->kill_at_ms && (!at || s->kill_at_ms < at))
		at = s->kill_at_ms;
	if (!at)
		return -1;
	int64_t left = at - now_ms();
	return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

static enum result session_run(struct session *s)
{
	enum result result = RESULT_FAULT;
	bool done = false, gone = false;

	while (!done) {
		while (!done && pass_frame(s, &result, &done))
			;
		int fd = output_fd(s);
		if (done || (gone && fd < 0))
			break;
		bool ask = s->stdin_open && !s->ack_due;
		bool fill = !gone && fd < 0;
		struct pollfd p[] = {
			{.fd = gone ? -1 : s->sock,
			 .events = (short)((fill ? POLLIN : 0) |
					   (lab_buf_len(&s->out) ? POLLOUT : 0))},
			{.fd = s->sigfd, .events = POLLIN},
			{.fd = ask ? 0 : -1, .events = POLLIN},
			{.fd = fd, .events = POLLOUT},
		};
		if (poll(p, sizeof(p) / sizeof(p[0]), poll_ms(s)) < 0 && errno != EINTR)
			die("poll");
		if (p[0].revents & POLLOUT && lab_buf_drain(&s->out, s->sock, SIZE_MAX) < 0)
			gone = true;
		if (fill && p[0].revents & (POLLIN | POLLHUP | POLLERR) &&
		    lab_buf_fill(&s->in, s->sock) <= 0 && errno != EAGAIN)
			gone = true;
		if (p[1].revents)
			on_signal(s);
		if (p[2].revents)
			on_stdin(s);
		if (p[3].revents)
			write_part(s, fd);
		on_clock(s);
	}
	if (result == RESULT_FAULT && s->killed) {
		s->status = s->exit_as; /* the lab closes the connection after a KILL */
		result = RESULT_EXIT;
	}
	return result;
}

static int signals_as_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* One try.  Return: the exit status, or -1 for a lab fault. */
static int try_once(const struct options *opt, int sigfd, int64_t deadline_ms, bool *stdin_used)
{
	struct session s = {.opt = opt, .sigfd = sigfd, .deadline_ms = deadline_ms};

	s.sock = dial(opt->state);
	if (s.sock < 0)
		return -1;
	if (opt->ping) {
		close(s.sock);
		return 0;
	}
	s.in = (struct lab_buf){.data = malloc(4 * LAB_CHUNK), .size = 4 * LAB_CHUNK};
	s.out = (struct lab_buf){.data = malloc(LAB_START_BYTES_MAX), .size = LAB_START_BYTES_MAX};
	if (!s.in.data || !s.out.data)
		die("memory");
	fcntl(s.sock, F_SETFL, O_NONBLOCK);
	queue_start(&s);
	s.stdin_open = !isatty(0);
	if (!s.stdin_open)
		lab_buf_frame(&s.out, LAB_STDIN, NULL, 0);
	enum result r = session_run(&s);
	*stdin_used = s.stdin_sent;
	close(s.sock);
	free(s.in.data);
	free(s.out.data);
	return r == RESULT_EXIT ? s.status : -1;
}

/* Boot the lab again and put stdin back.  Return: false when the command cannot be repeated. */
static bool prepare_repeat(const struct options *opt, bool stdin_used, off_t stdin_at)
{
	print_death(opt->state);
	if (!opt->again)
		return false;
	if (stdin_used && (stdin_at < 0 || lseek(0, stdin_at, SEEK_SET) < 0)) {
		fprintf(stderr, "lab: stdin was a pipe and has been read: cannot repeat\n");
		return false;
	}
	fprintf(stderr, "lab: booting again, and repeating the command from its start\n");
	return system(opt->again) == 0; /* prints what went wrong */
}

static int open_use(const char *state)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/use", state);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_SH) < 0 || futimens(fd, NULL) < 0)
		die(path);
	return fd;
}

static int usage(void)
{
	fprintf(stderr, "usage: labc [--timeout S] [--again SHELL-COMMAND] --state DIR (--ping | "
			"-- CMD...)\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"state", 1, NULL, 's'},
					      {"again", 1, NULL, 'a'},
					      {"timeout", 1, NULL, 't'},
					      {"ping", 0, NULL, 'p'},
					      {0}};
	struct options opt = {0};
	bool stdin_used = false;

	for (int c; (c = getopt_long(argc, argv, "+", longs, NULL)) != -1;) {
		switch (c) {
		case 's': opt.state = optarg; break;
		case 'a': opt.again = optarg; break;
		case 't': opt.timeout_ms = (int64_t)(strtod(optarg, NULL) * 1000); break;
		case 'p': opt.ping = true; break;
		default: return usage();
		}
	}
	opt.argv = argv + optind;
	if (!opt.state || (!opt.ping && !opt.argv[0]))
		return usage();
	off_t stdin_at = lseek(0, 0, SEEK_CUR);
	int sigfd = opt.ping ? -1 : signals_as_fd();
	int64_t deadline = opt.timeout_ms ? now_ms() + opt.timeout_ms : 0;
	int use = open_use(opt.state);
	int status = try_once(&opt, sigfd, deadline, &stdin_used);
	if (status < 0 && !opt.ping) {
		close(use);
		if (!prepare_repeat(&opt, stdin_used, stdin_at))
			return EXIT_LAB_FAULT;
		use = open_use(opt.state);
		deadline = opt.timeout_ms ? now_ms() + opt.timeout_ms : 0;
		status = try_once(&opt, sigfd, deadline, &stdin_used);
		fprintf(stderr, status < 0 ? "lab: lab fault: the lab died again; giving up\n"
					   : "lab: the command was repeated after one lab fault\n");
	}
	close(use);
	return status < 0 ? EXIT_LAB_FAULT : status;
}
