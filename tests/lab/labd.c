/* SPDX-License-Identifier: Apache-2.0 */
/*
 * labd: process 1 of the lab.  Runs the commands that labc sends.
 *
 * It listens on the control network card, which it moves into a network namespace of its own, so
 * that a test may do to the lab's network what it likes.  Each connection gets a handler process,
 * which is a child subreaper: whatever the command starts stays below it, in whatever session,
 * cgroup or namespace, and is killed when the command ends or when labc goes away.
 * Process 1 itself only accepts and reaps; when it ends, the lab's kernel panics, and the machine
 * sees a lab fault.
 *
 * Threads: one a process.
 */
#include "tests/lab/proto.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define ARGS_MAX 65536
#define DRAIN_MS 1000 /* how long background children may go on writing after the command's end */

static void die(const char *what)
{
	fprintf(stderr, "labd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- one command ------------------------------------------------------------------------------- */

struct job {
	int sock, sigfd;
	int to_stdin, from_out, from_err; /* -1 once closed */
	pid_t pid;
	bool started, exited;
	uint32_t status;
	int64_t kill_at_ms; /* when what is left over is killed; 0: not yet */
	struct lab_buf in, out, stdin_data;
	bool stdin_eof;
};

static struct lab_buf buf_new(size_t size)
{
	struct lab_buf b = {.data = malloc(size), .size = size};

	if (!b.data)
		die("out of memory");
	return b;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Kill every descendant: what a dead parent leaves behind comes to us, the subreaper. */
static void kill_tree(void)
{
	for (;;) {
		char text[4096] = "";
		int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);

		if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
			text[0] = 0;
		close_fd(&fd);
		for (char *at = text, *end; (end = strchr(at, ' ')) != NULL; at = end + 1)
			kill((pid_t)strtol(at, NULL, 10), SIGKILL);
		if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
			return;
	}
}

/* The child's side of START; never returns. */
static void exec_command(const char *cwd, char **argv, char **envp, const int fds[3])
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	for (int i = 0; i < 3; i++)
		dup2(fds[i], i);
	close_range(3, ~0u, 0);
	if (chdir(cwd) < 0) {
		fprintf(stderr, "lab: %s: %s\n", cwd, strerror(errno));
		_exit(126);
	}
	environ = envp;
	execvp(argv[0], argv);
	int code = errno == ENOENT ? 127 : 126;
	fprintf(stderr, "lab: %s: %s\n", argv[0], strerror(errno));
	_exit(code);
}

static bool make_pipes(int p[3][2])
{
	for (int i = 0; i < 3; i++)
		if (pipe2(p[i], O_CLOEXEC) < 0)
			return false;
	return true;
}

static void nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* @text: cwd\0 count\0 arguments... environment...; the last byte is a NUL. */
static void job_start(struct job *j, char *text, size_t len)
{
	static char *words[ARGS_MAX + 2];
	size_t count = 0;
	int p[3][2];

	for (size_t at = 0; at < len && count < ARGS_MAX; at += strlen(text + at) + 1)
		words[count++] = text + at;
	if (count < 3 || text[len - 1] != 0)
		die("START is malformed");
	size_t argc = strtoul(words[1], NULL, 10);
	if (!argc || argc > count - 2)
		die("START has a wrong count");
	memmove(&words[2 + argc + 1], &words[2 + argc], (count - 2 - argc) * sizeof(words[0]));
	words[2 + argc] = NULL;
	words[count + 1] = NULL;
	if (!make_pipes(p))
		die("pipe");
	j->pid = fork();
	if (j->pid < 0)
		die("fork");
	if (!j->pid)
		exec_command(words[0], &words[2], &words[2 + argc + 1],
			     (int[]){p[0][0], p[1][1], p[2][1]});
	close(p[0][0]);
	close(p[1][1]);
	close(p[2][1]);
	j->to_stdin = p[0][1];
	j->from_out = p[1][0];
	j->from_err = p[2][0];
	nonblock(j->to_stdin);
	j->started = true;
}

static void job_signal(const struct job *j, const uint8_t *payload, uint32_t len)
{
	uint32_t number = 0;

	if (len != sizeof(number) || !j->started || j->exited)
		return;
	memcpy(&number, payload, sizeof(number));
	kill(-j->pid, (int)number);
}

static void job_frame(struct job *j, const struct lab_head *h, uint8_t *payload)
{
	switch (h->type) {
	case LAB_START:
		if (j->started || !h->len)
			die("second START");
		job_start(j, (char *)payload, h->len);
		break;
	case LAB_STDIN:
		if (!h->len)
			j->stdin_eof = true;
		if (h->len > j->stdin_data.size - j->stdin_data.end)
			die("STDIN without an ACK");
		memcpy(j->stdin_data.data + j->stdin_data.end, payload, h->len);
		j->stdin_data.end += h->len;
		break;
	case LAB_SIGNAL: job_signal(j, payload, h->len); break;
	case LAB_KILL: kill_tree(); exit(0);
	default: die("unknown frame");
	}
}

/* What labc sent.  Return: false when it is gone. */
static bool job_input(struct job *j)
{
	struct lab_head h;
	uint8_t *payload;
	bool bad = false;

	if (lab_buf_fill(&j->in, j->sock) <= 0)
		return false;
	while ((payload = lab_buf_peek(&j->in, &h, &bad))) {
		job_frame(j, &h, payload);
		lab_buf_take(&j->in, &h);
	}
	return !bad;
}

/* Move what the command wrote into one frame; the header is filled in after the read. */
static void job_output(struct job *j, int *fd, uint32_t type)
{
	uint8_t *at = j->out.data + j->out.end;
	ssize_t n = read(*fd, at + sizeof(struct lab_head), LAB_CHUNK);

	if (n <= 0) {
		close_fd(fd);
		return;
	}
	struct lab_head h = {.type = type, .len = (uint32_t)n};
	memcpy(at, &h, sizeof(h));
	j->out.end += sizeof(h) + (size_t)n;
}

static void job_feed_stdin(struct job *j)
{
	bool had = lab_buf_len(&j->stdin_data) > 0;

	if (had && lab_buf_drain(&j->stdin_data, j->to_stdin, SIZE_MAX) < 0) {
		close_fd(&j->to_stdin); /* the command does not read it: swallow the rest */
		j->stdin_data.start = j->stdin_data.end = 0;
	}
	if (had && !lab_buf_len(&j->stdin_data))
		lab_buf_frame(&j->out, LAB_ACK, NULL, 0);
	if (j->stdin_eof && !lab_buf_len(&j->stdin_data))
		close_fd(&j->to_stdin);
}

static void job_reap(struct job *j)
{
	struct signalfd_siginfo info;
	int st;

	if (read(j->sigfd, &info, sizeof(info)) < 0)
		return;
	for (pid_t pid; (pid = waitpid(-1, &st, WNOHANG)) > 0;) {
		if (pid != j->pid)
			continue;
		j->exited = true;
		j->status = (uint32_t)(WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st));
		j->kill_at_ms = now_ms() + DRAIN_MS;
		close_fd(&j->to_stdin);
	}
}

/* One round of the handler's loop.  Return: false when labc is gone. */
static bool job_round(struct job *j)
{
	bool room = j->out.size - j->out.end >= 3 * (LAB_CHUNK + sizeof(struct lab_head));
	bool stdin_waits = lab_buf_len(&j->stdin_data) || j->stdin_eof;
	struct pollfd p[] = {
		{.fd = j->sock, .events = (short)(POLLIN | (lab_buf_len(&j->out) ? POLLOUT : 0))},
		{.fd = j->sigfd, .events = POLLIN},
		{.fd = room ? j->from_out : -1, .events = POLLIN},
		{.fd = room ? j->from_err : -1, .events = POLLIN},
		{.fd = stdin_waits ? j->to_stdin : -1, .events = POLLOUT},
	};

	if (poll(p, sizeof(p) / sizeof(p[0]), j->exited ? 50 : -1) < 0 && errno != EINTR)
		die("poll");
	if (p[0].revents & POLLOUT && lab_buf_drain(&j->out, j->sock, SIZE_MAX) < 0)
		return false;
	if (p[0].revents & (POLLIN | POLLHUP | POLLERR) && !job_input(j))
		return false;
	if (p[1].revents)
		job_reap(j);
	if (p[2].revents)
		job_output(j, &j->from_out, LAB_STDOUT);
	if (p[3].revents)
		job_output(j, &j->from_err, LAB_STDERR);
	if (j->to_stdin >= 0 && p[4].revents)
		job_feed_stdin(j);
	if (j->to_stdin < 0 && lab_buf_len(&j->stdin_data)) {
		j->stdin_data.start = j->stdin_data.end = 0;
		lab_buf_frame(&j->out, LAB_ACK, NULL, 0);
	}
	return true;
}

/* Until the command has ended, its output is read, and nothing that it started is alive. */
static void job_run(struct job *j)
{
	while (!j->exited || j->from_out >= 0 || j->from_err >= 0) {
		if (!job_round(j)) {
			kill_tree();
			exit(0);
		}
		if (j->exited && now_ms() >= j->kill_at_ms)
			kill_tree();
	}
	kill_tree();
	lab_buf_frame(&j->out, LAB_EXIT, &j->status, sizeof(j->status));
	while (lab_buf_len(&j->out)) {
		struct pollfd p = {.fd = j->sock, .events = POLLOUT};

		poll(&p, 1, -1);
		if (lab_buf_drain(&j->out, j->sock, SIZE_MAX) < 0)
			exit(0);
	}
	shutdown(j->sock, SHUT_WR);
	for (char c[64]; read(j->sock, c, sizeof(c)) > 0;)
		;
}

/* HELLO must come first and be right.  Reads in blocking mode, with a time limit on the socket. */
static bool hello(int sock, const char *token)
{
	struct {
		struct lab_head head;
		char token[LAB_TOKEN_BYTES];
	} m;
	struct timeval limit = {.tv_sec = 10};
	struct lab_head ready = {.type = LAB_READY};

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (recv(sock, &m, sizeof(m), MSG_WAITALL) != (ssize_t)sizeof(m))
		return false;
	if (m.head.type != LAB_HELLO || memcmp(m.token, token, LAB_TOKEN_BYTES) != 0)
		return false;
	return write(sock, &ready, sizeof(ready)) == (ssize_t)sizeof(ready);
}

static void serve(int sock, const char *token)
{
	struct job j = {.sock = sock, .to_stdin = -1, .from_out = -1, .from_err = -1};
	sigset_t child;
	int one = 1;

	if (!hello(sock, token))
		exit(0);
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	j.sigfd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	j.in = buf_new(LAB_START_BYTES_MAX + sizeof(struct lab_head));
	j.out = buf_new(4 * (LAB_CHUNK + sizeof(struct lab_head)));
	j.stdin_data = buf_new(LAB_CHUNK);
	nonblock(sock);
	while (!j.started) {
		struct pollfd p = {.fd = sock, .events = POLLIN};

		poll(&p, 1, -1);
		if (!job_input(&j))
			exit(0);
	}
	job_run(&j);
	exit(0);
}

/* --- the control network card ------------------------------------------------------------------ */

/* The card whose hardware address ends in 0x0c.  Return: its index, 0 when there is none. */
static int find_card(char name[IFNAMSIZ])
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (int i = 0; i < 4; i++) {
		struct ifreq r = {0};

		snprintf(r.ifr_name, sizeof(r.ifr_name), "eth%d", i);
		if (ioctl(sock, SIOCGIFHWADDR, &r) < 0 || (uint8_t)r.ifr_hwaddr.sa_data[5] != 0x0c)
			continue;
		memcpy(name, r.ifr_name, IFNAMSIZ);
		close(sock);
		return (int)if_nametoindex(name);
	}
	close(sock);
	return 0;
}

static void move_card(int index, int netns)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
		struct rtattr a;
		int fd;
	} m = {
		.h = {.nlmsg_len = sizeof(m),
		      .nlmsg_type = RTM_NEWLINK,
		      .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.i = {.ifi_family = AF_UNSPEC, .ifi_index = index},
		.a = {.rta_len = RTA_LENGTH(sizeof(int)), .rta_type = IFLA_NET_NS_FD},
		.fd = netns,
	};
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char more[256];
	} answer = {0};
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (sock < 0 || send(sock, &m, sizeof(m), 0) < 0 ||
	    recv(sock, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer.h))
		die("netlink");
	errno = -answer.e.error;
	if (answer.e.error)
		die("moving the control card");
	close(sock);
}

static void card_up(const char *name, const char *address)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = {0};
	struct sockaddr_in *in = (void *)&r.ifr_addr;

	memcpy(r.ifr_name, name, IFNAMSIZ - 1);
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	if (ioctl(sock, SIOCSIFADDR, &r) < 0)
		die("address of the control card");
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	ioctl(sock, SIOCSIFNETMASK, &r);
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(sock, SIOCSIFFLAGS, &r) < 0)
		die("control card up");
	close(sock);
}

static int listen_on(const char *address)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(LAB_PORT)};
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	char name[IFNAMSIZ] = "";
	int index = find_card(name);

	if (home < 0 || !index || unshare(CLONE_NEWNET) < 0)
		die("control network");
	int away = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	setns(home, CLONE_NEWNET);
	move_card(index, away);
	setns(away, CLONE_NEWNET);
	card_up(name, address);
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, address, &at.sin_addr);
	if (sock < 0 || bind(sock, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(sock, 64) < 0)
		die("listen");
	setns(home, CLONE_NEWNET);
	close(home);
	close(away);
	return sock;
}

static void read_token(const char *path, char token[LAB_TOKEN_BYTES])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, token, LAB_TOKEN_BYTES) != LAB_TOKEN_BYTES)
		die(path);
	close(fd);
}

/* argv: token file, file to make when ready, own address on the control network. */
int main(int argc, char **argv)
{
	char token[LAB_TOKEN_BYTES];

	if (argc != 4)
		return 2;
	read_token(argv[1], token);
	int sock = listen_on(argv[3]);
	signal(SIGCHLD, SIG_IGN); /* process 1 reaps by not caring */
	int fd = open(argv[2], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		die(argv[2]);
	close(fd);
	for (;;) {
		int conn = accept4(sock, NULL, NULL, SOCK_CLOEXEC);

		if (conn < 0)
			continue;
		pid_t pid = fork();
		if (!pid) {
			signal(SIGCHLD, SIG_DFL);
			close(sock);
			serve(conn, token);
		}
		close(conn);
	}
}
