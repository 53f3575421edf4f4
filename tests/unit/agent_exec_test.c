/* SPDX-License-Identifier: Apache-2.0 */
/* agent_exec_test.c - commands run by the real agent over a unix socket */
#include "tests/unit/agent_harness.h"

static void exec__true__exits_0(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"true", NULL});
	assert_int_equal(o.result, 0);
	assert_int_equal(o.how.how, AGENT_EXITED);
	assert_int_equal(o.how.status, 0);
}

static void exec__statuses__pass_through(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"false", NULL});
	assert_int_equal(o.how.status, 1);
	run_sh(&o, "exit 3");
	assert_int_equal(o.how.how, AGENT_EXITED);
	assert_int_equal(o.how.status, 3);
	run_sh(&o, "kill -TERM $$");
	assert_int_equal(o.how.how, AGENT_SIGNALED);
	assert_int_equal(o.how.status, SIGTERM);
}

static void exec__streams__stay_apart(void **state)
{
	struct outcome o;

	(void)state;
	run_sh(&o, "echo to-out; echo to-err >&2");
	assert_string_equal(o.out, "to-out\n");
	assert_string_equal(o.err, "to-err\n");
}

static void exec__not_found__stage_exec_enoent(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"no-such-command", NULL});
	assert_int_equal(o.failed.kind, AGENTC_FAILED);
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_EXEC);
	assert_int_equal(o.failed.error.err, ENOENT);
	assert_string_equal(o.failed.text, "'no-such-command': command not found");
	run_argv(&o, (const char *const[]){"/no/such/file", NULL});
	assert_int_equal(o.failed.error.err, ENOENT);
	run_argv(&o, (const char *const[]){"", NULL});
	assert_int_equal(o.failed.error.err, ENOENT);
}

static void exec__not_executable__stage_exec_eacces(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"/etc/passwd", NULL});
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_EXEC);
	assert_int_equal(o.failed.error.err, EACCES);
	run_argv(&o, (const char *const[]){"/etc", NULL});
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_EXEC);
	assert_int_equal(o.failed.error.err, EISDIR);
}

static void exec__bad_cwd__stage_cwd(void **state)
{
	struct agentc_run run = {
		.argv = (const char *const[]){"true", NULL}, .user = "root", .cwd = "/nowhere"};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_CWD);
	assert_int_equal(o.failed.error.err, ENOENT);
	assert_string_equal(o.failed.text, "cwd '/nowhere' does not exist");
}

static void exec__unknown_user__stage_user(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"true", NULL}, .user = "nobodyx"};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_USER);
	assert_string_equal(o.failed.text, "user 'nobodyx' does not exist");
}

/* --- arguments and environment ---------------------------------------------------------------- */

static void exec__ten_thousand_arguments__all_arrive(void **state)
{
	static const char *argv[10005];
	static char text[10000][8];
	struct outcome o;

	(void)state;
	argv[0] = "/bin/sh";
	argv[1] = "-c";
	argv[2] = "echo $#; shift 9998; echo $2";
	argv[3] = "sh";
	for (unsigned i = 0; i < 10000; i++) {
		snprintf(text[i], sizeof(text[i]), "a%u", i);
		argv[4 + i] = text[i];
	}
	run_argv(&o, argv);
	assert_string_equal(o.out, "10000\na9999\n");
}

static void exec__environment_near_the_cap__arrives_over_it__refused(void **state)
{
	enum { BIG = 100000, COUNT = 15 };
	static char big[COUNT][BIG];
	const char *env[COUNT + 8] = {NULL};
	struct agentc_run run = {
		.argv = (const char *const[]){"/bin/sh", "-c", "printf %s \"$V14\" | wc -c", NULL},
		.env = env,
		.user = "root"};
	struct outcome o;

	(void)state;
	for (unsigned i = 0; i < COUNT; i++) {
		int at = snprintf(big[i], BIG, "V%u=", i);
		memset(big[i] + at, 'x', (size_t)(BIG - 1 - at));
		env[i] = big[i];
	}
	run_with(&o, &run, NULL, 0);
	assert_int_equal(o.result, 0);
	assert_string_equal(o.out, "99995\n");

	static char huge[AGENT_BLOB_MAX];
	memset(huge, 'y', sizeof(huge) - 1);
	env[COUNT] = huge;
	struct agentc at = agent_at();
	struct agentc_exec *x = NULL;
	assert_int_equal(agentc_exec_start(&x, &at, &run, NULL), -E2BIG);
	assert_null(x);
}

static void exec__environment__defaults_and_overrides(void **state)
{
	const char *env[] = {"HOME=/tmp", "MINE=1", NULL};
	struct agentc_run run = {
		.argv = (const char *const[]){"/usr/bin/env", NULL}, .env = env, .user = "root"};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_non_null(strstr(o.out, "PATH=/usr/local/sbin:/usr/local/bin:"));
	assert_non_null(strstr(o.out, "USER=root\n"));
	assert_non_null(strstr(o.out, "LOGNAME=root\n"));
	assert_non_null(strstr(o.out, "HOME=/tmp\n"));
	assert_null(strstr(o.out, "HOME=/root\n"));
	assert_non_null(strstr(o.out, "MINE=1\n"));
	assert_null(strstr(o.out, "TERM="));
}

static void exec__user_by_name_and_number__becomes_it(void **state)
{
	struct agentc_run run = {
		.argv = (const char *const[]){"/bin/sh", "-c", "id -u; id -G", NULL},
		.user = "nobody",
		.cwd = "/"};
	struct outcome o;

	(void)state;
	if (geteuid() != 0)
		skip();
	run_with(&o, &run, NULL, 0);
	assert_string_equal(o.out, "65534\n65534\n");
	run.user = "12345";
	run_with(&o, &run, NULL, 0);
	assert_string_equal(o.out, "12345\n12345\n");
}

static void exec__cwd__absolute_relative_and_default(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"/bin/pwd", NULL}, .user = "daemon"};
	struct outcome o;

	(void)state;
	if (geteuid() != 0)
		skip();
	run_with(&o, &run, NULL, 0); /* daemon's home is /usr/sbin */
	assert_string_equal(o.out, "/usr/sbin\n");
	run.cwd = "../bin";
	run_with(&o, &run, NULL, 0);
	assert_string_equal(o.out, "/usr/bin\n");
	run.cwd = "/usr";
	run_with(&o, &run, NULL, 0);
	assert_string_equal(o.out, "/usr\n");
}

static void exec__limits__hold(void **state)
{
	struct agentc_run run = {
		.argv = (const char *const[]){"/bin/sh", "-c", "ulimit -n; nice; umask", NULL},
		.user = "root",
		.flags = AGENT_EXEC_NICE | AGENT_EXEC_UMASK,
		.nice = 5,
		.umask = 027,
		.limit_count = 1,
		.limit = {{.resource = 7 /* RLIMIT_NOFILE */, .soft = 64, .hard = 128}}};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_string_equal(o.out, "64\n5\n0027\n");
}

/* --- stdin ------------------------------------------------------------------------------------ */

static void exec__binary_stdin__comes_back_unchanged(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"/bin/cat", NULL},
				 .user = "root",
				 .flags = AGENT_EXEC_STDIN};
	static char bytes[50000];
	struct outcome o;

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + i / 256);
	run_with(&o, &run, bytes, sizeof(bytes));
	assert_int_equal(o.out_len, sizeof(bytes));
	assert_memory_equal(o.out, bytes, sizeof(bytes));
}

static void exec__no_stdin__is_dev_null(void **state)
{
	struct outcome o;

	(void)state;
	run_sh(&o, "cat; readlink /proc/self/fd/0");
	assert_string_equal(o.out, "/dev/null\n");
}

static void exec__large_stdin__is_counted_whole(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"/usr/bin/wc", "-c", NULL},
				 .user = "root",
				 .flags = AGENT_EXEC_STDIN};
	static char bytes[8 << 20];
	struct outcome o;

	(void)state;
	run_with(&o, &run, bytes, sizeof(bytes));
	assert_string_equal(o.out, "8388608\n");
}

static void exec__process_closes_stdin__client_is_told_and_goes_on(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"/bin/sh", "-c",
							       "exec 0<&-; echo closed; sleep 0.2",
							       NULL},
				 .user = "root",
				 .flags = AGENT_EXEC_STDIN};
	static char bytes[1 << 20];
	struct outcome o;

	(void)state;
	run_with(&o, &run, bytes, sizeof(bytes));
	assert_int_equal(o.result, 0);
	assert_string_equal(o.out, "closed\n");
	assert_int_equal(o.how.status, 0);
}

/* --- output and back-pressure ----------------------------------------------------------------- */

static void exec__one_gib_slow_reader__agent_stays_small(void **state)
{
	struct agentc at = agent_at();
	struct agentc_run run = {.argv = (const char *const[]){"/bin/sh", "-c",
							       "head -c 1073741824 /dev/zero",
							       NULL},
				 .user = "root"};
	struct agentc_exec *x;
	struct agentc_event ev = {0};
	uint64_t total = 0;
	unsigned naps = 0;

	(void)state;
	assert_int_equal(agentc_exec_start(&x, &at, &run, NULL), 0);
	while (ev.kind != AGENTC_END) {
		assert_true(agentc_exec_wait(x, &ev, -1, NULL) == 1);
		if (ev.kind != AGENTC_OUTPUT)
			continue;
		total += ev.len;
		if (total < (4u << 20) && naps++ < 40)
			usleep(5000); /* slow at first: the pipe and the rings fill up */
		assert_int_equal(agentc_exec_consumed(x, ev.stream, ev.len), 0);
	}
	agentc_exec_close(x);
	assert_int_equal(total, 1073741824);
	/* KiB; a sanitizer's own memory comes on top. */
	assert_true(agent_status("VmHWM:") < (SANITIZED ? 200000 : 2500));
}

static void exec__stdout_not_read__stderr_stdin_and_exit_still_flow(void **state)
{
	struct agentc at = agent_at();
	struct agentc_run run = {
		.argv =
			(const char *const[]){
				"/bin/sh", "-c",
				"head -c 10000000 /dev/zero & read line; echo \"$line\" >&2;"
				" kill $!; exit 4",
				NULL},
		.user = "root",
		.flags = AGENT_EXEC_STDIN,
		.window = 4096};
	struct agentc_exec *x;
	struct agentc_event ev = {0};
	bool said = false, exited = false;

	(void)state;
	assert_int_equal(agentc_exec_start(&x, &at, &run, NULL), 0);
	while (!exited) {
		assert_int_equal(agentc_exec_wait(x, &ev, -1, NULL), 1);
		if (ev.kind == AGENTC_STARTED)
			assert_int_equal(agentc_exec_stdin(x, "hello\n", 6), 6);
		if (ev.kind == AGENTC_OUTPUT && ev.stream == AGENT_STDERR)
			said = memcmp(ev.data, "hello\n", 6) == 0;
		if (ev.kind == AGENTC_EXIT) {
			exited = true;
			assert_int_equal(ev.exit.status, 4);
		}
		/* stdout is never consumed: its credit stays used up. */
	}
	assert_true(said);
	agentc_exec_close(x);
}

static void exec__client_stalls__others_are_served(void **state)
{
	struct agentc at = agent_at();
	struct agentc_run run = {.argv = (const char *const[]){"/usr/bin/yes", NULL},
				 .user = "root",
				 .window = 1 << 30};
	struct agentc_exec *x[4];
	struct outcome o;

	(void)state;
	for (unsigned i = 0; i < 4; i++) { /* ask for a lot and never read the socket */
		assert_int_equal(agentc_exec_start(&x[i], &at, &run, NULL), 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		run_sh(&o, "echo fine");
		assert_string_equal(o.out, "fine\n");
	}
	for (unsigned i = 0; i < 4; i++)
		agentc_exec_close(x[i]);
}

static void exec__background_child_holds_stdout__ends_with_its_own_process(void **state)
{
	struct outcome o;

	(void)state;
	run_sh(&o, "sleep 1000 & echo $!; exit 7");
	assert_int_equal(o.how.status, 7);
	pid_t child = atoi(o.out);
	assert_true(child > 1);
	assert_int_equal(kill(child, SIGKILL), 0); /* it was alive: nobody waited for it */
}

static void exec__background_child_writes_for_ever__still_ends(void **state)
{
	struct outcome o;

	(void)state;
	run_sh(&o, "yes & echo $! >&2; exit 0");
	assert_int_equal(o.result, 0);
	assert_int_equal(o.how.how, AGENT_EXITED);
	kill(atoi(o.err), SIGKILL);
}

static void exec__merge__stderr_comes_as_stdout(void **state)
{
	struct agentc_run run = {
		.argv = (const char *const[]){"/bin/sh", "-c", "echo a; echo b >&2; echo c", NULL},
		.user = "root",
		.flags = AGENT_EXEC_MERGE};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_string_equal(o.out, "a\nb\nc\n");
	assert_string_equal(o.err, "");
}

/* --- time ------------------------------------------------------------------------------------- */

static void exec__timeout__kills_and_says_so(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"sleep", "1000", NULL},
				 .user = "root",
				 .timeout_ms = 50};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_int_equal(o.how.how, AGENT_SIGNALED);
	assert_int_equal(o.how.status, SIGKILL);
	assert_int_equal(o.how.timed_out, 1);
}

static void exec__timeout_term_ignored__killed_after_grace(void **state)
{
	struct agentc_run run = {
		.argv =
			(const char *const[]){
				"/bin/sh", "-c",
				"trap 'echo got-term' TERM; while :; do sleep 0.05; done", NULL},
		.user = "root",
		.timeout_ms = 200,
		.timeout_signal = SIGTERM,
		.kill_after_ms = 300};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_int_equal(o.how.status, SIGKILL);
	assert_int_equal(o.how.timed_out, 1);
	assert_string_equal(o.out, "got-term\n");
}

/* --- terminal --------------------------------------------------------------------------------- */

static void exec__tty__size_and_resize(void **state)
{
	struct agentc at = agent_at();
	struct agentc_run run = {
		.argv =
			(const char *const[]){
				"/bin/sh", "-c",
				"tty; stty size; trap 'stty size; exit 5' WINCH; echo ready;"
				" while :; do sleep 0.05; done",
				NULL},
		.user = "root",
		.flags = AGENT_EXEC_TTY,
		.rows = 33,
		.cols = 111};
	struct agentc_exec *x;
	struct agentc_event ev = {0};
	char text[4096] = "";
	size_t len = 0;
	bool asked = false;
	int status = -1;

	(void)state;
	assert_int_equal(agentc_exec_start(&x, &at, &run, NULL), 0);
	while (ev.kind != AGENTC_END) {
		assert_int_equal(agentc_exec_wait(x, &ev, -1, NULL), 1);
		assert_int_not_equal(ev.kind, AGENTC_FAILED);
		if (ev.kind == AGENTC_OUTPUT && len + ev.len < sizeof(text)) {
			memcpy(text + len, ev.data, ev.len);
			len += ev.len;
		}
		if (!asked && strstr(text, "ready")) {
			assert_int_equal(agentc_exec_resize(x, 44, 122), 0);
			asked = true;
		}
		if (ev.kind == AGENTC_EXIT)
			status = ev.exit.status;
	}
	agentc_exec_close(x);
	assert_non_null(strstr(text, "/dev/pts/"));
	assert_non_null(strstr(text, "33 111\r\n"));
	assert_non_null(strstr(text, "44 122\r\n"));
	assert_int_equal(status, 5);
}

static void exec__tty_stdin_eof__is_control_d(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"/bin/cat", NULL},
				 .user = "root",
				 .flags = AGENT_EXEC_TTY};
	struct outcome o;

	(void)state;
	run_with(&o, &run, "line\n", 5);
	assert_int_equal(o.how.how, AGENT_EXITED);
	assert_non_null(strstr(o.out, "line\r\nline\r\n")); /* echo, then cat's */
}

/* --- the edge --------------------------------------------------------------------------------- */

static void exec__no_agent__connect_error(void **state)
{
	struct agentc at = agentc_direct("/nonexistent/socket");
	struct agentc_run run = {.argv = (const char *const[]){"true", NULL}};
	struct agentc_exec *x = NULL;
	struct errmsg why;

	(void)state;
	assert_int_equal(agentc_exec_start(&x, &at, &run, &why), -ENOENT);
	assert_string_equal(why.text,
			    "connect to agent at /nonexistent/socket: No such file or directory");
	assert_int_equal(at.stage, 0);
}

static void exec__run_wait__gives_status_or_stage(void **state)
{
	struct agentc at = agent_at();
	struct agentc_run run = {.argv = (const char *const[]){"/bin/sh", "-c", "exit 9", NULL},
				 .user = "root"};
	struct agent_exit how = {0};
	struct errmsg why;

	(void)state;
	assert_int_equal(agentc_run_wait(&at, &run, NULL, NULL, NULL, &how, &why), 0);
	assert_int_equal(how.status, 9);
	run.argv = (const char *const[]){"missing", NULL};
	assert_int_equal(agentc_run_wait(&at, &run, NULL, NULL, NULL, &how, &why), -ENOENT);
	assert_int_equal(at.stage, AGENT_STAGE_EXEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exec__true__exits_0),
		cmocka_unit_test(exec__statuses__pass_through),
		cmocka_unit_test(exec__streams__stay_apart),
		cmocka_unit_test(exec__not_found__stage_exec_enoent),
		cmocka_unit_test(exec__not_executable__stage_exec_eacces),
		cmocka_unit_test(exec__bad_cwd__stage_cwd),
		cmocka_unit_test(exec__unknown_user__stage_user),
		cmocka_unit_test(exec__ten_thousand_arguments__all_arrive),
		cmocka_unit_test(exec__environment_near_the_cap__arrives_over_it__refused),
		cmocka_unit_test(exec__environment__defaults_and_overrides),
		cmocka_unit_test(exec__user_by_name_and_number__becomes_it),
		cmocka_unit_test(exec__cwd__absolute_relative_and_default),
		cmocka_unit_test(exec__limits__hold),
		cmocka_unit_test(exec__binary_stdin__comes_back_unchanged),
		cmocka_unit_test(exec__no_stdin__is_dev_null),
		cmocka_unit_test(exec__large_stdin__is_counted_whole),
		cmocka_unit_test(exec__process_closes_stdin__client_is_told_and_goes_on),
		cmocka_unit_test(exec__one_gib_slow_reader__agent_stays_small),
		cmocka_unit_test(exec__stdout_not_read__stderr_stdin_and_exit_still_flow),
		cmocka_unit_test(exec__client_stalls__others_are_served),
		cmocka_unit_test(exec__background_child_holds_stdout__ends_with_its_own_process),
		cmocka_unit_test(exec__background_child_writes_for_ever__still_ends),
		cmocka_unit_test(exec__merge__stderr_comes_as_stdout),
		cmocka_unit_test(exec__timeout__kills_and_says_so),
		cmocka_unit_test(exec__timeout_term_ignored__killed_after_grace),
		cmocka_unit_test(exec__tty__size_and_resize),
		cmocka_unit_test(exec__tty_stdin_eof__is_control_d),
		cmocka_unit_test(exec__no_agent__connect_error),
		cmocka_unit_test(exec__run_wait__gives_status_or_stage),
	};

	return cmocka_run_group_tests(tests, harness_up, harness_down);
}
