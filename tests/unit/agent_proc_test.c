/* SPDX-License-Identifier: Apache-2.0 */
/* agent_proc_test.c - processes that outlive connections; the machine's operations; bad peers */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>

#include "tests/unit/agent_harness.h"

/* Starts a command and waits for STARTED. */
static struct agentc_exec *start(const char *script, uint32_t flags, uint32_t orphan_ms,
				 const char *tag, struct agent_started *started)
{
	struct agentc at = agent_at();
	struct agentc_run run = {.argv = (const char *const[]){"/bin/sh", "-c", script, NULL},
				 .user = "root",
				 .cwd = "/",
				 .tag = tag,
				 .flags = flags,
				 .orphan_ms = orphan_ms};
	struct agentc_exec *x;
	struct agentc_event ev;

	assert_int_equal(agentc_exec_start(&x, &at, &run, NULL), 0);
	assert_int_equal(agentc_exec_wait(x, &ev, -1, NULL), 1);
	assert_int_equal(ev.kind, AGENTC_STARTED);
	*started = ev.started;
	return x;
}

static struct agentc_who by_id(const struct agent_started *started)
{
	return (struct agentc_who){.by = AGENT_BY_ID, .id = started->id};
}

static struct agentc_exec *attach(const struct agentc_who *who, uint32_t flags)
{
	struct agentc at = agent_at();
	struct agentc_exec *x;
	struct agentc_event ev;

	assert_int_equal(agentc_exec_attach(&x, &at, who, flags, 0, NULL), 0);
	assert_int_equal(agentc_exec_wait(x, &ev, -1, NULL), 1);
	assert_int_equal(ev.kind, AGENTC_STARTED);
	return x;
}

/* Reads a session to END; stdout into text (cut).  Return: bytes of stdout. */
static size_t to_end(struct agentc_exec *x, char *text, size_t cap, struct agent_exit *how,
		     uint64_t *lost)
{
	struct agentc_event ev = {0};
	size_t len = 0;

	while (ev.kind != AGENTC_END) {
		assert_int_equal(agentc_exec_wait(x, &ev, -1, NULL), 1);
		if (ev.kind == AGENTC_OUTPUT) {
			size_t n = len < cap - 1 ? cap - 1 - len : 0;
			memcpy(text + (len < cap ? len : 0), ev.data, n < ev.len ? n : ev.len);
			len += ev.len;
			agentc_exec_consumed(x, ev.stream, ev.len);
		}
		if (ev.kind == AGENTC_EXIT && how)
			*how = ev.exit;
		if (ev.kind == AGENTC_LOST && lost)
			*lost += ev.lost;
	}
	text[len < cap ? len : cap - 1] = '\0';
	return len;
}

static int count_procs(void *arg, const struct agentc_proc *proc)
{
	(void)proc;
	++*(unsigned *)arg;
	return 0;
}

static unsigned listed(void)
{
	struct agentc at = agent_at();
	unsigned count = 0;
	assert_true(agentc_proc_list(&at, count_procs, &count, NULL) >= 0);
	return count;
}

static bool alive(uint32_t pid)
{
	return kill((pid_t)pid, 0) == 0;
}

static void proc__attached__hup_when_connection_goes(void **state)
{
	struct agent_started s;
	struct agentc_exec *x = start("exec sleep 1000", 0, 0, NULL, &s);

	(void)state;
	assert_true(alive(s.pid));
	agentc_exec_close(x);
	WAIT_FOR(!alive(s.pid));
	WAIT_FOR(listed() == 0);
}

static void proc__attached_with_grace__lives_until_it_is_over(void **state)
{
	struct agent_started s;
	struct agentc_exec *x = start("exec sleep 1000", 0, 60000, NULL, &s);
	struct agentc_who who = by_id(&s);
	struct agentc at = agent_at();

	(void)state;
	agentc_exec_close(x);
	usleep(100000);
	assert_true(alive(s.pid));
	x = attach(&who, 0); /* back in time */
	assert_int_equal(agentc_proc_signal(&at, &who, SIGKILL, AGENT_TO_PROCESS, NULL), 0);
	char text[8];
	struct agent_exit how;
	to_end(x, text, sizeof(text), &how, NULL);
	assert_int_equal(how.status, SIGKILL);
	agentc_exec_close(x);

	x = start("exec sleep 1000", 0, 50, NULL, &s);
	agentc_exec_close(x);
	WAIT_FOR(!alive(s.pid));
}

static void proc__detached__lives_on_and_replays(void **state)
{
	struct agent_started s;
	struct agentc_exec *x =
		start("echo first; read x < /dev/null; sleep 0.2; echo second; exit 6",
		      AGENT_EXEC_DETACHED, 0, NULL, &s);
	struct agentc_who who = by_id(&s);
	struct agent_exit how;
	char text[256];

	(void)state;
	agentc_exec_close(x);
	x = attach(&who, AGENT_ATTACH_REPLAY);
	to_end(x, text, sizeof(text), &how, NULL);
	assert_string_equal(text, "first\nsecond\n");
	assert_int_equal(how.status, 6);
	agentc_exec_close(x);
	/* And again, after its end. */
	x = attach(&who, AGENT_ATTACH_REPLAY);
	to_end(x, text, sizeof(text), &how, NULL);
	assert_string_equal(text, "first\nsecond\n");
	assert_int_equal(how.status, 6);
	agentc_exec_close(x);
}

static void proc__detached_without_reader__never_waits_keeps_64_kib(void **state)
{
	struct agent_started s;
	struct agentc_exec *x =
		start("i=0; while [ $i -lt 30000 ]; do echo line-$i; i=$((i+1)); done",
		      AGENT_EXEC_DETACHED, 0, NULL, &s);
	struct agentc_who who = by_id(&s);
	static char text[100000];

	(void)state;
	agentc_exec_close(x);
	WAIT_FOR(!alive(s.pid));
	x = attach(&who, AGENT_ATTACH_REPLAY);
	size_t len = to_end(x, text, sizeof(text), NULL, NULL);
	assert_int_equal(len, AGENT_HISTORY_BYTES);
	assert_string_equal(text + len - 11, "line-29999\n");
	agentc_exec_close(x);
}

static void proc__lossy_reader__process_does_not_wait(void **state)
{
	struct agent_started s;
	struct agentc_exec *x = start("head -c 3000000 /dev/zero", AGENT_EXEC_LOSSY, 0, NULL, &s);
	uint64_t lost = 0;
	static char text[16];

	(void)state;
	WAIT_FOR(!alive(s.pid)); /* ends although nobody has read */
	size_t len = to_end(x, text, sizeof(text), NULL, &lost);
	assert_true(lost > 0);
	assert_int_equal(len + lost, 3000000);
	agentc_exec_close(x);
}

static void proc__two_readers__both_get_all(void **state)
{
	struct agent_started s;
	struct agentc_exec *x =
		start("read go; head -c 500000 /dev/zero", AGENT_EXEC_STDIN, 0, NULL, &s);
	struct agentc_who who = by_id(&s);
	struct agentc_exec *y = attach(&who, 0);
	char text[8];

	(void)state;
	pid_t pid = fork(); /* the second reader at the same time: each holds the other back */
	if (pid == 0)
		_exit(to_end(y, text, sizeof(text), NULL, NULL) == 500000 ? 0 : 1);
	agentc_exec_stdin(x, "go\n", 3);
	assert_int_equal(to_end(x, text, sizeof(text), NULL, NULL), 500000);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	agentc_exec_close(x);
	agentc_exec_close(y);
}

static void proc__detach__ends_session_not_process(void **state)
{
	struct agent_started s;
	struct agentc_exec *x = start("exec sleep 1000", 0, 0, NULL, &s);
	struct agentc_who who = by_id(&s);
	struct agentc at = agent_at();
	char text[8];

	(void)state;
	assert_int_equal(agentc_exec_detach(x), 0);
	to_end(x, text, sizeof(text), NULL, NULL);
	agentc_exec_close(x);
	usleep(50000);
	assert_true(alive(s.pid));
	assert_int_equal(agentc_proc_signal(&at, &who, SIGTERM, AGENT_TO_GROUP, NULL), 0);
	WAIT_FOR(!alive(s.pid));
}

static int check_proc(void *arg, const struct agentc_proc *proc)
{
	if (strcmp(proc->tag, "my-tag") != 0)
		return 0;
	const char *arg1 = proc->strings + strlen(proc->strings) + 1;
	assert_int_equal(proc->raw.argc, 3);
	assert_string_equal(proc->strings, "/bin/sh");
	assert_string_equal(arg1, "-c");
	assert_string_equal(proc->user, "root");
	assert_string_equal(proc->cwd, "/");
	++*(unsigned *)arg;
	return 0;
}

static void proc__list_and_find_by_tag_and_pid(void **state)
{
	struct agent_started s;
	struct agentc_exec *x = start("exec sleep 1000", 0, 0, "my-tag", &s);
	struct agentc_who tag = {.by = AGENT_BY_TAG, .tag = "my-tag"};
	struct agentc_who pid = {.by = AGENT_BY_PID, .id = s.pid};
	struct agentc_who none = {.by = AGENT_BY_TAG, .tag = "other"};
	struct agentc at = agent_at();
	unsigned found = 0;

	(void)state;
	assert_true(agentc_proc_list(&at, check_proc, &found, NULL) >= 1);
	assert_int_equal(found, 1);
	assert_int_equal(agentc_proc_signal(&at, &none, 0, 0, NULL), -ESRCH);
	assert_int_equal(at.stage, AGENT_STAGE_PROC);
	assert_int_equal(agentc_proc_signal(&at, &tag, 0, 0, NULL), 0);
	assert_int_equal(agentc_proc_signal(&at, &pid, SIGKILL, 0, NULL), 0);
	char text[8];
	struct agent_exit how;
	to_end(x, text, sizeof(text), &how, NULL);
	assert_int_equal(how.how, AGENT_SIGNALED);
	agentc_exec_close(x);
}

static void proc__input_from_another_connection(void **state)
{
	struct agent_started s;
	struct agentc_exec *x = start("cat", AGENT_EXEC_STDIN, 0, NULL, &s);
	struct agentc_who who = by_id(&s);
	struct agentc at = agent_at();
	static char big[100000], text[100100];

	(void)state;
	memset(big, 'q', sizeof(big));
	assert_int_equal(agentc_proc_input(&at, &who, "abc", 3, AGENTC_KEEP_OPEN, NULL), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct agentc at2 = agent_at();
		_exit(agentc_proc_input(&at2, &who, big, sizeof(big), AGENTC_THEN_EOF, NULL) ? 1
											     : 0);
	}
	assert_int_equal(to_end(x, text, sizeof(text), NULL, NULL), 3 + sizeof(big));
	assert_memory_equal(text, "abcqqq", 6);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	agentc_exec_close(x);
}

static void proc__many_at_once__all_answered(void **state)
{
	enum { N = 60 };
	struct agentc_exec *x[N];
	struct agent_started s;
	char text[64], want[64];

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		char script[64];
		snprintf(script, sizeof(script), "echo n%u; exit %u", i, i);
		x[i] = start(script, 0, 0, NULL, &s);
	}
	for (unsigned i = 0; i < N; i++) {
		struct agent_exit how;
		to_end(x[i], text, sizeof(text), &how, NULL);
		snprintf(want, sizeof(want), "n%u\n", i);
		assert_string_equal(text, want);
		assert_int_equal(how.status, i);
		agentc_exec_close(x[i]);
	}
	WAIT_FOR(agent_status("FDSize:") >= 0 && listed() < 10);
}

static void proc__table_full__refused_then_free_again(void **state)
{
	static struct agentc_exec *x[AGENT_PROC_MAX + 1];
	struct agentc at = agent_at();
	struct agentc_run run = {.argv = (const char *const[]){"sleep", "1000", NULL},
				 .user = "root"};
	struct agentc_event ev;
	unsigned ran = 0, refused = 0;

	(void)state;
	for (unsigned i = 0; i <= AGENT_PROC_MAX; i++) {
		assert_int_equal(agentc_exec_start(&x[i], &at, &run, NULL), 0);
		assert_int_equal(agentc_exec_wait(x[i], &ev, -1, NULL), 1);
		ran += ev.kind == AGENTC_STARTED;
		refused += ev.kind == AGENTC_FAILED && ev.error.err == EAGAIN &&
			   ev.error.stage == AGENT_STAGE_BUSY;
	}
	assert_true(refused >= 1);
	assert_int_equal(ran + refused, AGENT_PROC_MAX + 1);
	for (unsigned i = 0; i <= AGENT_PROC_MAX; i++)
		agentc_exec_close(x[i]);
	WAIT_FOR(listed() == 0);
	struct outcome o;
	run_sh(&o, "echo again");
	assert_string_equal(o.out, "again\n");
}

/* Descriptors that the agent inherited must not reach what it runs: one of them may be a lock. */
static void proc__descriptors_of_the_agent__stay_out(void **state)
{
	struct outcome o;

	(void)state;
	run_sh(&o, "ls /proc/self/fd");
	assert_string_equal(o.out, "0\n1\n2\n3\n"); /* 3: ls reads the folder */
}

/* --- the machine ------------------------------------------------------------------------------ */

static void machine__ping_and_metrics(void **state)
{
	struct agentc at = agent_at();
	struct agent_pong pong;
	struct agent_metrics_ok m;
	char version[AGENT_NAME_MAX];

	(void)state;
	assert_int_equal(agentc_ping(&at, &pong, version, NULL), 0);
	assert_string_equal(version, SPORE_VERSION);
	assert_int_equal(pong.flags & AGENT_IS_INIT, 0);
	assert_int_equal(agentc_metrics(&at, &m, NULL), 0);
	assert_int_equal(m.cpu_count, sysconf(_SC_NPROCESSORS_ONLN));
	assert_true(m.mem_total > m.mem_used && m.mem_used > 0);
	assert_true(m.disk_total > m.disk_used && m.disk_used > 0);
	assert_true(m.cpu_used_permille <= 1000);
	assert_true(m.realtime_ns > 1500000000000000000);
}

static void machine__clock_within_threshold__not_stepped(void **state)
{
	struct agentc at = agent_at();
	struct agent_clock_ok ok;

	(void)state;
	/* An hour: this machine's clock must not be touched by a test. */
	assert_int_equal(agentc_clock(&at, 3600000000000, &ok, NULL), 0);
	assert_int_equal(ok.stepped, 0);
	assert_true(ok.after_ns >= ok.before_ns);
}

static void machine__reseed__accepted(void **state)
{
	struct agentc at = agent_at();
	char entropy[64] = "not random, and it need not be: it is added, never replaces";

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(agentc_reseed(&at, entropy, sizeof(entropy), NULL), 0);
	assert_int_equal(agentc_reseed(&at, entropy, 0, NULL), -EINVAL);
}

static void machine__identity__writes_files(void **state)
{
	struct agentc at = agent_at();
	char path[200], line[64] = "";
	struct errmsg why;

	(void)state;
	/* No host name: it would be this machine's. */
	assert_int_equal(agentc_identity(&at, "", "0123456789abcdef0123456789abcdef", NULL), 0);
	snprintf(path, sizeof(path), "%s/machine-id", harness.dir);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	assert_string_equal(line, "0123456789abcdef0123456789abcdef\n");
	assert_int_equal(agentc_identity(&at, "", "short", &why), -EINVAL);
	assert_string_equal(why.text, "machine-id: 32 lower-case hex digits");
	assert_int_equal(agentc_identity(&at, "bad name", "", &why), -EINVAL);
}

static void machine__wake__all_at_once_and_confirmed(void **state)
{
	struct agentc at = agent_at();
	char path[200], line[64] = "";
	struct agentc_woke woke;
	/* An hour, and no host name: they would be this machine's. */
	struct agentc_wake wake = {.threshold_ns = 3600000000000,
				   .generation = 12345,
				   .machine_id = "fedcba9876543210fedcba9876543210"};
	struct errmsg why;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(agentc_wake(&at, &wake, &woke, &why), 0);
	assert_int_equal(woke.done, AGENT_WOKE_RESEEDED | AGENT_WOKE_MACHINE_ID);
	assert_true(woke.after_ns >= woke.before_ns);
	assert_true(woke.before_ns > 1500000000000000000);
	snprintf(path, sizeof(path), "%s/machine-id", harness.dir);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	assert_string_equal(line, "fedcba9876543210fedcba9876543210\n");
	wake.machine_id = NULL;
	assert_int_equal(agentc_wake(&at, &wake, &woke, &why), 0);
	assert_int_equal(woke.done, AGENT_WOKE_RESEEDED);
}

/* Names are looked at before anything is done. */
static void machine__wake_bad_names__refused(void **state)
{
	struct agentc at = agent_at();
	char longer[AGENT_NAME_MAX + 1];
	struct agentc_woke woke;
	struct agentc_wake wake = {.threshold_ns = 3600000000000, .hostname = "bad name"};
	struct errmsg why;

	(void)state;
	assert_int_equal(agentc_wake(&at, &wake, &woke, &why), -EINVAL);
	assert_string_equal(why.text, "hostname: letters, digits, - and . only");
	wake = (struct agentc_wake){.machine_id = "0123"};
	assert_int_equal(agentc_wake(&at, &wake, &woke, &why), -EINVAL);
	assert_string_equal(why.text, "machine-id: 32 lower-case hex digits");
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	wake = (struct agentc_wake){.hostname = longer};
	assert_int_equal(agentc_wake(&at, &wake, &woke, &why), -ENAMETOOLONG);
}

static void machine__freeze_bad_path__error_and_nothing_frozen(void **state)
{
	struct agentc at = agent_at();

	(void)state;
	assert_int_equal(agentc_freeze(&at, (const char *const[]){"/nonexistent"}, 1, 1000, NULL),
			 -ENOENT);
	assert_int_equal(at.stage, AGENT_STAGE_SYSTEM);
	assert_int_equal(agentc_thaw(&at, NULL), 0);
}

static void machine__power__refused_when_not_init(void **state)
{
	struct agentc at = agent_at();

	(void)state;
	assert_int_equal(agentc_power(&at, AGENT_POWER_OFF, 0, NULL), -EPERM);
}

/* --- forward ---------------------------------------------------------------------------------- */

/* A server that answers what it has read, upper-cased, once its input has ended. */
static uint16_t echo_server(pid_t *pid)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	union {
		struct sockaddr_in *in;
		struct sockaddr *any;
	} at = {.in = &to};
	socklen_t len = sizeof(to);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, at.any, sizeof(to)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, at.any, &len), 0);
	*pid = fork();
	if (*pid == 0) {
		int c = accept(fd, NULL, NULL);
		static char buf[1 << 20];
		size_t have = 0;
		ssize_t n;
		while ((n = read(c, buf + have, sizeof(buf) - have)) > 0)
			have += (size_t)n;
		for (size_t i = 0; i < have; i++)
			buf[i] = (char)(buf[i] ^ 0x20);
		for (size_t done = 0; done < have; done += (size_t)n) {
			n = write(c, buf + done, have - done);
			if (n <= 0)
				_exit(1);
		}
		_exit(0);
	}
	close(fd);
	return ntohs(to.sin_port);
}

static void forward__half_close__answer_comes_after(void **state)
{
	static char out[500000], in[sizeof(out)];
	struct agentc at = agent_at();
	pid_t pid;
	uint16_t port = echo_server(&pid);
	int status;

	(void)state;
	int fd = agentc_forward(&at, port, 0, NULL);
	assert_true(fd >= 0);
	memset(out, 'a', sizeof(out));
	size_t done = 0;
	while (done < sizeof(out)) {
		ssize_t n = write(fd, out + done, sizeof(out) - done);
		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	for (done = 0; done < sizeof(in);) {
		ssize_t n = read(fd, in + done, sizeof(in) - done);
		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_int_equal(in[0], 'A');
	assert_int_equal(in[sizeof(in) - 1], 'A');
	assert_int_equal(read(fd, in, 1), 0);
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void forward__nobody_listens__refused(void **state)
{
	struct agentc at = agent_at();
	pid_t pid;
	uint16_t port = echo_server(&pid);

	(void)state;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(agentc_forward(&at, port, 0, NULL), -ECONNREFUSED);
	assert_int_equal(at.stage, AGENT_STAGE_NET);
}

/* --- bad peers -------------------------------------------------------------------------------- */

static int raw(void)
{
	union {
		struct sockaddr_un un;
		struct sockaddr any;
	} to = {.un = {.sun_family = AF_UNIX}};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(to.un.sun_path, sizeof(to.un.sun_path), "%s", harness.sock);
	assert_int_equal(connect(fd, &to.any, sizeof(to.un)), 0);
	return fd;
}

/* Sends bytes and expects an ERROR frame of this errno, then the end. */
static void expect_error(const void *bytes, size_t len, int err)
{
	uint8_t buf[4096];
	struct agent_frame frame = {0};
	struct agent_error error;
	size_t have = 0, at = 0;
	ssize_t n;
	int fd = raw();

	assert_int_equal(write(fd, bytes, len), len);
	shutdown(fd, SHUT_WR);
	while ((n = read(fd, buf + have, sizeof(buf) - have)) > 0)
		have += (size_t)n;
	close(fd);
	while (at + sizeof(frame) <= have) {
		memcpy(&frame, buf + at, sizeof(frame));
		if (frame.type == AGENT_ERROR)
			break;
		at += sizeof(frame) + frame.len;
	}
	assert_int_equal(frame.type, AGENT_ERROR);
	memcpy(&error, buf + at + sizeof(frame), sizeof(error));
	assert_int_equal(error.err, err);
	assert_int_equal(error.stage, AGENT_STAGE_REQUEST);
}

static void peer__garbage_version_and_order__refused(void **state)
{
	uint8_t buf[256];
	struct agent_hello hello = {AGENT_MAGIC, 1, 1, 0};
	struct agent_hello other = {AGENT_MAGIC, 200, 300, 0};

	(void)state;
	expect_error("GET / HTTP/1.1\r\n\r\n", 18, EPROTO);
	long len = agent_msg_put(buf, sizeof(buf), AGENT_HELLO, 0, &other, NULL, 0);
	expect_error(buf, (size_t)len, EPROTONOSUPPORT);
	len = agent_msg_put(buf, sizeof(buf), AGENT_PING, 0, NULL, NULL, 0);
	expect_error(buf, (size_t)len, EPROTO);
	len = agent_msg_put(buf, sizeof(buf), AGENT_HELLO, 0, &hello, NULL, 0);
	long more =
		agent_msg_put(buf + len, sizeof(buf) - (size_t)len, AGENT_BLOB, 0, NULL, "x", 1);
	expect_error(buf, (size_t)(len + more), EPROTO);
}

static void peer__asks_and_never_reads__costs_a_bounded_amount(void **state)
{
	uint8_t buf[4096];
	struct agent_hello hello = {AGENT_MAGIC, 1, 1, 0};
	int fd = raw();
	long len = agent_msg_put(buf, sizeof(buf), AGENT_HELLO, 0, &hello, NULL, 0);

	(void)state;
	assert_int_equal(write(fd, buf, (size_t)len), len);
	size_t fill = 0;
	while (fill + 16 < sizeof(buf))
		fill += (size_t)agent_msg_put(buf + fill, sizeof(buf) - fill, AGENT_METRICS, 0,
					      NULL, NULL, 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	unsigned sent = 0;
	struct outcome o;
	for (unsigned i = 0; i < 200; i++) {
		if (write(fd, buf, fill) > 0)
			sent++;
		if (i % 50 == 0)
			run_sh(&o, "true");
	}
	assert_true(sent > 0 && sent < 200); /* the agent stopped reading */
	run_sh(&o, "echo alive");
	assert_string_equal(o.out, "alive\n");
	assert_true(agent_status("VmRSS:") < (SANITIZED ? 200000 : 3000));
	close(fd);
}

static void peer__many_idle_connections__bounded_and_others_served(void **state)
{
	static int fd[AGENT_CONN_MAX + 20];
	struct outcome o;

	(void)state;
	for (unsigned i = 0; i < AGENT_CONN_MAX - 10; i++)
		fd[i] = raw();
	run_sh(&o, "echo alive");
	assert_string_equal(o.out, "alive\n");
	for (unsigned i = 0; i < AGENT_CONN_MAX - 10; i++)
		close(fd[i]);
	run_sh(&o, "echo alive");
	assert_string_equal(o.out, "alive\n");
}

/* Connections to an agent that does not run, until its backlog holds no more.  Return: how many. */
static unsigned fill_backlog(int *fd, unsigned most)
{
	union {
		struct sockaddr_un un;
		struct sockaddr any;
	} at = {.un = {.sun_family = AF_UNIX}};
	unsigned count = 0;

	snprintf(at.un.sun_path, sizeof(at.un.sun_path), "%s", harness.sock);
	for (; count < most; count++) {
		fd[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_true(fd[count] >= 0);
		if (connect(fd[count], &at.any, sizeof(at.un)) < 0)
			break;
	}
	assert_true(count < most);
	assert_int_equal(errno, EAGAIN);
	return count + 1;
}

static void peer__backlog_full__client_waits_for_its_turn(void **state)
{
	static int fd[AGENT_CONN_MAX];
	struct outcome o;

	(void)state;
	kill(harness.pid, SIGSTOP);
	unsigned count = fill_backlog(fd, AGENT_CONN_MAX);
	pid_t waker = fork();
	if (!waker) {
		usleep(100000);
		_exit(kill(harness.pid, SIGCONT) ? 1 : 0);
	}
	run_sh(&o, "echo alive");
	assert_string_equal(o.out, "alive\n");
	assert_int_equal(waitpid(waker, NULL, 0), waker);
	while (count)
		close(fd[--count]);
}

static void agent__version_and_usage(void **state)
{
	char text[64] = "";

	(void)state;
	FILE *f = popen(AGENT_PATH " --version", "r");
	assert_non_null(fgets(text, sizeof(text), f));
	assert_int_equal(pclose(f), 0);
	assert_string_equal(text, "spore-agent " SPORE_VERSION "\n");
	assert_int_equal(WEXITSTATUS(system(AGENT_PATH " --bogus 2>/dev/null")), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proc__attached__hup_when_connection_goes),
		cmocka_unit_test(proc__attached_with_grace__lives_until_it_is_over),
		cmocka_unit_test(proc__detached__lives_on_and_replays),
		cmocka_unit_test(proc__detached_without_reader__never_waits_keeps_64_kib),
		cmocka_unit_test(proc__lossy_reader__process_does_not_wait),
		cmocka_unit_test(proc__two_readers__both_get_all),
		cmocka_unit_test(proc__detach__ends_session_not_process),
		cmocka_unit_test(proc__list_and_find_by_tag_and_pid),
		cmocka_unit_test(proc__input_from_another_connection),
		cmocka_unit_test(proc__many_at_once__all_answered),
		cmocka_unit_test(proc__descriptors_of_the_agent__stay_out),
		cmocka_unit_test(machine__ping_and_metrics),
		cmocka_unit_test(machine__clock_within_threshold__not_stepped),
		cmocka_unit_test(machine__reseed__accepted),
		cmocka_unit_test(machine__identity__writes_files),
		cmocka_unit_test(machine__wake__all_at_once_and_confirmed),
		cmocka_unit_test(machine__wake_bad_names__refused),
		cmocka_unit_test(machine__freeze_bad_path__error_and_nothing_frozen),
		cmocka_unit_test(machine__power__refused_when_not_init),
		cmocka_unit_test(forward__half_close__answer_comes_after),
		cmocka_unit_test(forward__nobody_listens__refused),
		cmocka_unit_test(peer__garbage_version_and_order__refused),
		cmocka_unit_test(peer__asks_and_never_reads__costs_a_bounded_amount),
		cmocka_unit_test(peer__many_idle_connections__bounded_and_others_served),
		cmocka_unit_test(peer__backlog_full__client_waits_for_its_turn),
		cmocka_unit_test(agent__version_and_usage),
	};
	/* An agent of its own: its table holds nothing that others left to be remembered. */
	const struct CMUnitTest full[] = {
		cmocka_unit_test(proc__table_full__refused_then_free_again),
	};
	int failed = cmocka_run_group_tests(tests, harness_up, harness_down);

	return failed + cmocka_run_group_tests(full, harness_up, harness_down);
}
